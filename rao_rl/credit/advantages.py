"""Advantages of a group of rollouts: R(X) − b for the baselines of `baselines.py`, and schemes of another form.

A scheme is one function here that gets the rewards of a group, rollout by rollout (the root first), and returns A of each
node in the same shape; its name in `Baseline`; and its line in `ADVANTAGES` (or, if it needs more than a group, its case in
`advantages`). Nothing else of the trainer knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from .averages import Averages
from .baselines import Baseline, Group, baselines
from .counterfactual import Further
from .rewards import Earned

Advantages = list[list[Fraction]]


def advantages(
    group: Group, kind: Baseline, *, averages: Mapping[int, float] = {}, further: Sequence[Further] = ()
) -> Advantages:
    """A of every node of every rollout of a group.

    `averages` are those of `ema_depth`, `further` (one for each rollout) those of `counterfactual`. Raises ValueError for a
    group of fewer than two rollouts, but for `ema_depth`.
    """
    if kind == "ema_depth":
        return ema_depth(group, averages)
    if kind == "counterfactual":
        return counterfactual(group, further)
    if kind in ADVANTAGES:
        return ADVANTAGES[kind](group)
    return [
        [earned.reward - b for earned, b in zip(rollout, own, strict=True)]
        for rollout, own in zip(group, baselines(group, kind), strict=True)
    ]


def inherit(group: Group) -> Advantages:
    """A(root) for every node of its tree: what a sub-agent achieved at its own goal does not count.

    As in SkyRL's recipe for recursive language models, MATPO (arXiv 2510.04678) and NeMo-RL. It is the control for node
    rewards, since it trains the same tokens. The update is that of the sparse reward with the `root` baseline.
    """
    return [
        [rollout[0].reward - own[0]] * len(rollout)
        for rollout, own in zip(group, baselines(group, "root"), strict=True)
    ]


def max_rl(group: Group) -> Advantages:
    """(R(X) − μ) / μ, where μ is the mean reward of all roots of the group; 0 for every node where μ is 0.

    Maximum likelihood reinforcement learning (arXiv 2602.02710): the gradient of log p, in which tasks that nearly always
    fail weigh more. As there, μ contains the rollout's own reward, and a group without a success teaches nothing. With G
    attempts, the advantage of a root is at most G − 1; that of a sub-agent that does better than its root may be greater if
    roots earn parts of 1.
    """
    if len(group) < 2:
        raise ValueError("advantages need the roots of two rollouts at least")
    mean = sum((rollout[0].reward for rollout in group), Fraction(0)) / len(group)
    return [[(earned.reward - mean) / mean if mean else Fraction(0) for earned in rollout] for rollout in group]


def ema_depth(group: Group, averages: Averages) -> Advantages:
    """R(X) − the moving average of the rewards at the node's depth, as it was before this batch (see `averages.py`).

    Role-conditioned advantage estimation (RAE of SPIRAL, arXiv 2506.24119), with the depth for the role. As there, averages
    begin at 0. It needs no second rollout of a task and may be older than the policy; but it does not know how difficult a
    task is, so the advantages of easy tasks are positive and those of difficult ones negative.
    """
    return [[earned.reward - Fraction(averages.get(earned.node.depth, 0.0)) for earned in rollout] for rollout in group]


def counterfactual(group: Group, further: Sequence[Further]) -> Advantages:
    """R(X) − the mean reward of the further children at the launch of X; the `root` baseline where there are none.

    See `counterfactual.py` (C3, arXiv 2603.06859). The further children had the same goal and inputs and did not see what X
    did, so this baseline is unbiased, and it knows how difficult the sub-task is.
    """

    def mean(earned: Earned, others: Further, root: Fraction) -> Fraction:
        rewards = others.get(earned.node.id)
        return sum(rewards, Fraction(0)) / len(rewards) if rewards else root

    return [
        [earned.reward - mean(earned, others, b) for earned, b in zip(rollout, own, strict=True)]
        for rollout, own, others in zip(group, baselines(group, "root"), further, strict=True)
    ]


ADVANTAGES: Mapping[Baseline, Callable[[Group], Advantages]] = {
    "inherit": inherit,
    "max_rl": max_rl,
}
"""The schemes that are more than R(X) − b and need no more than the group."""
