"""What a launch asks for, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .limits import Account
from .repl.base import HostCallError
from .returns import Returns
from .status import Status

MOST_GOAL_CHARS = 100_000
"""Characters of a sub-agent's goal."""
_MOST_SCHEMA_CHARS = 64 * 1024
_MOST_SCHEMA_PARTS = 2_000
_MOST_SCHEMA_DEPTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything a node is started with."""

    id: str
    parent: str | None
    depth: int
    goal: str
    context: Any
    returns: Returns
    account: Account
    max_steps: int
    max_tokens: int | None
    step: int | None = None
    call: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an agent ended. `output` is the validated value, `result` the same as plain data."""

    status: Status
    output: Any = None
    result: Any = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """The checked arguments of `launch_subagent`."""

    goal: str
    context: Any
    returns: Mapping[str, Any] | None
    """A JSON schema. The sandboxes of parent and child check results against it; to the host it is data."""
    max_steps: int | None
    max_tokens: int | None

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> LaunchRequest:
        """From the arguments as the agent gave them. Raises HostCallError with the reason to refuse them."""
        goal = arguments.get("goal")
        if type(goal) is not str or not goal.strip():
            raise HostCallError("LaunchRefused", "goal must be a text that says what to do")
        if len(goal) > MOST_GOAL_CHARS:
            raise HostCallError(
                "LaunchRefused",
                f"the goal has {len(goal):,} characters, at most {MOST_GOAL_CHARS:,} are allowed: pass data as `context`",
            )
        returns = arguments.get("returns")
        if returns is not None and not _is_schema(returns):
            raise HostCallError("LaunchRefused", "returns must be a JSON schema of at most 64 KiB and 2,000 values")
        return cls(
            goal, arguments.get("context"), returns, _count(arguments, "max_steps"), _count(arguments, "max_tokens")
        )


def _count(arguments: Mapping[str, Any], name: str) -> int | None:
    value = arguments.get(name)
    if value is None or (type(value) is int and 1 <= value < 2**53):
        return value
    raise HostCallError("LaunchRefused", f"{name} must be a whole number of at least 1")


def _is_schema(value: Any) -> bool:
    """Whether a value is an object of JSON of bounded size."""
    if type(value) is not dict:
        return False
    waiting: list[tuple[Any, int]] = [(value, 1)]
    parts = chars = 0
    while waiting:
        item, depth = waiting.pop()
        parts += 1
        if type(item) is dict:
            if any(type(key) is not str for key in item):
                return False
            chars += sum(map(len, item))
            parts += len(item)
            waiting.extend((part, depth + 1) for part in item.values())
        elif type(item) is list:
            waiting.extend((part, depth + 1) for part in item)
        elif type(item) is str:
            chars += len(item)
        elif type(item) is int:
            if abs(item) >= 2**64:
                return False
        elif not (item is None or type(item) is bool or (type(item) is float and math.isfinite(item))):
            return False
        if parts + len(waiting) > _MOST_SCHEMA_PARTS or chars > _MOST_SCHEMA_CHARS or depth > _MOST_SCHEMA_DEPTH:
            return False
    return True
