"""One attempt of an evaluation in figures: how it ended, its score, and what it took. These are the rows on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from recursive_agent import Result, Status

from ..envs.base import Mode, Session, Task
from ..rollouts.measuring import measured

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
    repeat: int = 0
    """Number of the attempt among those at the same task in the same mode, from 0."""
    cached_tokens: int = 0
    """Those of `prompt_tokens` that came from the endpoint's cache."""
    critical_steps: int | None = None
    """Model calls on the longest chain that waited for each other (`ExecutionTree.critical_steps`); None in older files."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Further figures of the environment, by name (see `Measuring`)."""

    @property
    def key(self) -> tuple[str, Mode, int]:
        """What tells it from the other attempts of an evaluation."""
        return self.task, self.mode, self.repeat

    @property
    def solved(self) -> bool:
        """Whether the score is known and full."""
        return self.score is not None and self.score >= 1.0

    @property
    def total_tokens(self) -> int:
        """Prompt and sampled tokens of all calls."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def timed_out(self) -> bool:
        """Whether the time limit of the attempt ended it: on a faster machine it might have been solved."""
        return self.status == Status.TREE_TIMEOUT

    @property
    def lost(self) -> bool:
        """Whether it ended for a reason outside the agents, so that it says nothing about the model."""
        return self.status in _EXTERNAL

    @classmethod
    def of(cls, task: Task, mode: Mode, result: Result, session: Session | None = None, repeat: int = 0) -> Attempt:
        """The figures of one finished tree; `session` is the one that it ran in."""
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
            repeat=repeat,
            cached_tokens=tree.usage.cached_tokens,
            critical_steps=tree.critical_steps,
            metrics={} if session is None or result.status.external else measured(session, result.tree.root),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Attempt:
        """The attempt of a row on disk. Older files call the level `difficulty`, and lack the newer figures.

        Raises TypeError for a row of something else.
        """
        attempt = cls(**{"level" if name == "difficulty" else name: value for name, value in row.items()})
        for item in fields(cls):
            value = getattr(attempt, item.name)
            if item.name in ("task", "level", "mode", "status"):
                fits = isinstance(value, str)
            elif item.name == "metrics":
                fits = isinstance(value, dict) and all(map(_is_number, value.values()))
            else:
                fits = _is_number(value) or (value is None and item.name in ("score", "critical_steps"))
            if not fits:
                raise TypeError(f"its {item.name} is {value!r:.40}")
        return attempt


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
