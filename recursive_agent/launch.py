"""What an agent is launched with, and what its parent may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .limits import Account
from .repl.base import HostCallError
from .returns import Returns


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
class Wanted:
    """The checked arguments of `launch_subagent`."""

    goal: str
    context: Any
    returns: Returns
    max_steps: int | None
    max_tokens: int | None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Wanted:
        """From the arguments as the agent gave them. Raises HostCallError with the reason to refuse them."""
        goal = given.get("goal")
        if not isinstance(goal, str) or not goal.strip():
            raise HostCallError("LaunchRefused", f"goal must be a text that says what to do, not {goal!r}")
        for name in ("max_steps", "max_tokens"):
            value = given.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise HostCallError("LaunchRefused", f"{name} must be a whole number of at least 1, not {value!r}")
        try:
            returns = Returns(given.get("returns"))
        except ValueError as error:
            raise HostCallError("LaunchRefused", str(error)) from None
        return cls(goal, given.get("context"), returns, given.get("max_steps"), given.get("max_tokens"))
