"""What else could have come of a launch: further children with the same goal and inputs, as a baseline for the real one.

Contextual counterfactual credit assignment (C3, arXiv 2603.06859), for launches: at some launches of a tree, K − 1 further
children are rolled out, and the launched child is compared with the mean of those. The variance of that mean falls as
1 / (K − 1). Each further child is the root of a tree of its own, whose group says which launch it belongs to. They are
baselines only: they are not trained, and they are no attempts at the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

Further = Mapping[str, Sequence[Fraction]]
"""Rewards of the further children at launches of one rollout, by the id of the child that was launched."""

_PREFIX = "counterfactual:"


def group_at(run: str, node: str) -> str:
    """The group of the further children at the launch of `node` in `run`."""
    return f"{_PREFIX}{run}:{node}"


def launch_of(group: str | None) -> tuple[str, str] | None:
    """The run and the launched node that the trees of this group are further children for; None for other groups."""
    if group is None or not group.startswith(_PREFIX):
        return None
    run, _, node = group.removeprefix(_PREFIX).rpartition(":")
    return run, node
