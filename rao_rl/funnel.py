"""What is lost between the trees of a batch and the nodes that are trained, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """What became of a batch: given → scored → kept → trained, each a part of the one before.

    A rollout is scored when it is fresh enough and its root is scored, a node when it is one of such a rollout, ended in a
    way that can be trained and fits. Kept are those of groups that are large enough and have something to learn; trained,
    those left by sub-sampling. What is missing from first to last is in `dropped` and `dropped_rollouts`, by reason.
    """

    rollouts: int
    rollouts_scored: int
    rollouts_kept: int
    rollouts_trained: int
    nodes: int
    nodes_scored: int
    nodes_kept: int
    nodes_trained: int
    groups: int
    groups_kept: int
    dropped: Counter[str]
    """Nodes by reason: a status or `judge_error` or `unscored`; `too_long`, `no_tokens`, `not_sampled`; or the reason why
    their whole rollout was dropped."""
    dropped_rollouts: Counter[str]
    """Rollouts by reason: `root_` and why the root is not scored, `stale`, `version_unknown`, `group_too_small`,
    `zero_advantage`, `nothing_left` (no node of it can be trained), `not_sampled`."""


@dataclass(slots=True)
class Losses:
    """Counts of what was dropped, by reason."""

    nodes: Counter[str] = field(default_factory=Counter)
    rollouts: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, *, nodes: int = 0, rollouts: int = 0) -> None:
        """Count so many nodes, and so many whole rollouts, as dropped for this reason."""
        if nodes:
            self.nodes[reason] += nodes
        if rollouts:
            self.rollouts[reason] += rollouts
