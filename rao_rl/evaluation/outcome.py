"""One attempt of an evaluation in figures: how it ended, its score, and what it took. These are the rows on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recursive_agent import Result, Status

from ..envs.base import Mode, Task

ALL = "all"
"""The level of a task that has none, and of the summary over all levels."""
_EXTERNAL = frozenset(status.value for status in Status if status.external)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at one task."""

    task: str
    level: str
    mode: Mode
    status: str
    score: float | None
    """s̃ of the root in [0, 1]; None if it is not known."""
    agents: int
    depth: int
    """Of the deepest agent; the root's is 0."""
    steps: int
    """Of all agents together."""
    completion_tokens: int
    prompt_tokens: int
    seconds: float
    """Wall time of the tree; other trees ran at the same time."""
    concurrent_share: float
    """Share, in [0, 1], of `launches` that ran beside a sibling; 0 without any."""
    launches: int

    @property
    def solved(self) -> bool:
        """Whether the score is known and full."""
        return self.score is not None and self.score >= 1.0

    @property
    def lost(self) -> bool:
        """Whether it ended for a reason outside the agents, so that it says nothing about the model."""
        return self.status in _EXTERNAL

    @classmethod
    def of(cls, task: Task, mode: Mode, result: Result) -> Attempt:
        """The figures of one finished tree."""
        tree = result.tree
        return cls(
            task=task.id,
            level=task.level or ALL,
            mode=mode,
            status=result.status.value,
            score=None if result.status.external else tree.root.score,
            agents=len(tree.nodes),
            depth=tree.max_depth,
            steps=sum(len(node.steps) for node in tree.nodes.values()),
            completion_tokens=tree.usage.completion_tokens,
            prompt_tokens=tree.usage.prompt_tokens,
            seconds=tree.duration,
            concurrent_share=tree.concurrent_share,
            launches=tree.launches,
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Attempt:
        """The attempt of a row on disk. Older files call the level `difficulty`.

        Raises TypeError for a row of something else.
        """
        return cls(**{"level" if name == "difficulty" else name: value for name, value in row.items()})
