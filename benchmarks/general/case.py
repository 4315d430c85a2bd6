"""One task with its answer, a way to reach it, and the check of a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recursive_agent.plain import plain

KINDS = ("lists", "strings", "data", "facts", "typed", "tools", "delegation", "window", "recovery")
"""What people use such agents for. `window`: documents larger than a model's window; `recovery`: a first try that fails."""


def no_tools() -> Sequence[Callable[..., Any]]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A task. `reference` are cells that solve it (`child`: the cell of every sub-agent they launch), `wrong` is an answer
    that must not pass, `launches` the sub-agents that the goal asks for, `tools` makes fresh tools for one attempt.
    """

    name: str
    kind: str
    goal: str
    gold: Any
    wrong: Any
    reference: tuple[str, ...]
    context: Any = None
    returns: Any = None
    tools: Callable[[], Sequence[Callable[..., Any]]] = no_tools
    launches: int = 0
    child: str = "finish(None)"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: unknown kind {self.kind!r}")

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name}"

    def passes(self, value: Any, launches: int) -> bool:
        """Whether a result is right, and as many sub-agents were launched as the goal asks for."""
        return launches >= self.launches and matches(self.gold, plain(value))


def matches(gold: Any, value: Any) -> bool:
    """Whether a value is the right one. A number may be spelt as text; texts may differ in case and outer punctuation."""
    if isinstance(gold, bool):
        return value is gold
    if isinstance(gold, int | float):
        number = _number(value)
        return number is not None and math.isclose(number, gold, rel_tol=1e-9, abs_tol=1e-6)
    if isinstance(gold, str):
        return isinstance(value, str) and _bare(value) == _bare(gold)
    if isinstance(gold, Mapping):
        if not isinstance(value, Mapping) or set(gold) != set(value):
            return False
        return all(matches(gold[key], value[key]) for key in gold)
    if isinstance(gold, Sequence):
        if isinstance(value, str) or not isinstance(value, Sequence) or len(gold) != len(value):
            return False
        return all(map(matches, gold, value))
    return bool(gold == value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value.replace(",", "") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        return None


def _bare(text: str) -> str:
    return " ".join(text.split()).strip(" .!?'\"`").casefold()
