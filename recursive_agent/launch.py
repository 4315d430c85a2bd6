"""What a launch asks for, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .limits import Account
from .repl.base import HostCallError
from .repl.messages import LAUNCH_ARGUMENTS
from .returns import Returns
from .sizes import held_bytes, is_large
from .status import Status
from .trace.journal import Past
from .trace.node import Finding

MOST_GOAL_CHARS = 100_000
"""Characters of a sub-agent's goal."""
_MOST_PARTIAL_BYTES = 256 * 1024
"""Memory of the results that an agent which did not finish leaves to its parent."""
_MOST_PARTIAL_GOAL = 1_000
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
    model: str | None = None
    """Name of its model among those of the run; None where the run has one model."""
    past: Past | None = None
    """What the agent had done before its run was interrupted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an agent ended. `output` is the validated value, `result` the same as plain data."""

    status: Status
    output: Any = None
    result: Any = None
    reason: str | None = None


def partial_of(output: str, findings: Sequence[Finding]) -> Any:
    """What an agent that did not finish leaves to its parent's code: its last output, or None if it printed nothing.

    If sub-agents of it finished, it is a dict instead: the output, and in "results" the goal and result of each. Results that
    are together too large are replaced by notes.
    """
    if not findings:
        return output or None
    room, results = _MOST_PARTIAL_BYTES, []
    for finding in findings:
        result = finding.result
        size = room + 1 if is_large(result) else held_bytes(result)
        if size > room:
            result = "… [left out: the partial results are too large]"
        else:
            room -= size
        results.append({"goal": finding.goal[:_MOST_PARTIAL_GOAL], "result": result})
    return {"output": output or None, "results": results}


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """The checked arguments of `launch_subagent`."""

    goal: str
    context: Any
    returns: Mapping[str, Any] | None
    """A JSON schema. The sandboxes of parent and child check results against it; to the host it is data."""
    max_steps: int | None
    max_tokens: int | None
    model: str | None = None
    """The model that the parent asks for, not checked."""

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> LaunchRequest:
        """From the arguments as the agent gave them. Raises HostCallError with the reason to refuse them."""
        if unknown := sorted(arguments.keys() - LAUNCH_ARGUMENTS):
            raise HostCallError("LaunchRefused", f"a launch takes no argument {unknown[0]!r:.80}")
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
        model = arguments.get("model")
        if model is not None and type(model) is not str:
            raise HostCallError("LaunchRefused", "model must be the name of a model, as text")
        return cls(
            goal,
            arguments.get("context"),
            returns,
            _count(arguments, "max_steps"),
            _count(arguments, "max_tokens"),
            model,
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
