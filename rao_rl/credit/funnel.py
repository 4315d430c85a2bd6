"""The data funnel: how many rollouts and nodes of a batch are trained, and why the others are not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """Counts of a batch at each stage: all → scored → kept → trained. Each stage is a part of the one before.

    - scored: rollouts that are fresh enough and whose root has an s̃; the nodes of these rollouts that can be trained
    - kept: those of groups that are large enough and in which not every advantage is 0
    - trained: those that sub-sampling picked

    `dropped` and `dropped_rollouts` count all that is not trained, by reason.
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
    """Nodes by reason: a status, `judge_error` or `unscored`; `too_long`, `no_tokens`, `untrainable`, `other_model`,
    `not_sampled`; or the reason that their whole rollout was dropped."""
    dropped_rollouts: Counter[str]
    """Rollouts by reason: `root_` and the reason that the root has no s̃, `stale`, `version_unknown`, `group_too_small`,
    `zero_advantage`, `nothing_left` (no node of it can be trained), `not_sampled`; `baseline_only` for further children (see
    `counterfactual.py`)."""


@dataclass(slots=True)
class Losses:
    """Counts of dropped nodes and rollouts, by reason."""

    nodes: Counter[str] = field(default_factory=Counter)
    rollouts: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, *, nodes: int = 0, rollouts: int = 0) -> None:
        """Count nodes and whole rollouts that are dropped for this reason."""
        if nodes:
            self.nodes[reason] += nodes
        if rollouts:
            self.rollouts[reason] += rollouts
