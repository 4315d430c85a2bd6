"""What an environment is: tasks, the tools of one attempt, and a score for every node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from recursive_agent.trace.tree import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: what `Agent.solve` is given, and `data` that only the environment reads (targets, gold, world seed)."""

    id: str
    goal: str
    context: Any = None
    returns: Any = None
    difficulty: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


class Session(Protocol):
    """The shared state of one tree."""

    tools: Sequence[Callable[..., Any]]

    async def score(self, node: Node) -> float | None:
        """s̃ ∈ [0, 1] of a node at its own goal, asked when the tree has ended; None where it cannot be known."""


class Environment(Protocol):
    """A family of tasks. Randomness comes from the seed alone, so the same seed gives the same tasks everywhere."""

    name: str
    max_depth: int

    def tasks(
        self, split: str, seed: int = 0, *, difficulty: str | None = None, limit: int | None = None
    ) -> Iterable[Task]:
        """The tasks of a split, in order; of one difficulty, and at most `limit`, where these are given."""

    def session(self, task: Task) -> Session:
        """A fresh state for one attempt at `task`."""
