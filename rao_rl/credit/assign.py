"""Finished trees → rewards, advantages and weights of their nodes: Recursive Agent Optimization (arXiv 2605.06639).

One pure function, `assign`, on the trees of one optimizer batch. Its order of operations matters and is fixed:

1. validate the trees
2. drop rollouts without a scored root, stale rollouts, and nodes that cannot be trained
3. rewards (Eq. 1)
4. drop groups that are too small
5. baselines and advantages (Eq. 3)
6. drop groups in which every advantage is 0
7. count nodes by depth, depth weights (Eq. 4)
8. sub-sample nodes

`Funnel` counts what each step drops, by reason.

N_d, the dropped groups and a D that counts depend on the sampled rollouts: a small ratio bias, which every method of this
kind has. For a frozen distribution of sub-tasks, without depth weights and with a constant D, the estimate is unbiased.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.tree import ExecutionTree

from .averages import moved
from .baselines import Baseline
from .batch import Rollout, Trained, batch_of, tree_version, validate
from .config import PAPER, CreditConfig, DepthWeighting
from .credits import Credits, DepthStats, NodeCredit, Size
from .funnel import Funnel
from .rewards import Reward, Success, success
from .shaping import annealed
from .weights import depth_weights, sub_sample

__all__ = [
    "Baseline",
    "CreditConfig",
    "Credits",
    "DepthStats",
    "DepthWeighting",
    "Funnel",
    "NodeCredit",
    "Reward",
    "Size",
    "Success",
    "assign",
    "success",
    "tree_version",
]


def assign(
    trees: Sequence[ExecutionTree],
    config: CreditConfig = PAPER,
    *,
    sizes: Sequence[Mapping[str, Size]] | None = None,
    version: int | None = None,
    rng: random.Random | None = None,
    update: int = 0,
    averages: Mapping[int, float] = {},
) -> Credits:
    """The credit of every node of a batch that training uses (Eqs. 1, 3 and 4).

    `sizes` contains the sizes of the nodes' rows, by tree and node id; a node without an entry sampled no tokens. Without
    `sizes`, token counts come from the nodes' usage, and no node is too long. `version` is the version of the trainer's
    weights; without it, no tree is stale. `rng` selects the nodes if `max_nodes_per_depth` is set. `update` is the number of
    updates before this one, in which the bonuses of `credit.shaping` have fallen. `averages` are the moving averages of
    `baseline="ema_depth"`: those of the credits of the batch before. A tree without a group id is a group by itself.

    Raises DataError for a tree that has not ended and for a score outside [0, 1]; ConfigurationError if `sizes` has another
    number of trees, and for `max_nodes_per_depth` without `rng`.
    """
    if sizes is not None and len(sizes) != len(trees):
        raise ConfigurationError(f"sizes are given for {len(sizes)} trees, but there are {len(trees)}")
    if config.max_nodes_per_depth is not None and rng is None:
        raise ConfigurationError("max_nodes_per_depth needs a random generator (`rng`) to pick the nodes with")
    for tree in trees:
        validate(tree)
    shaping = annealed(config.parallel_bonus, config.finish_bonus, update, config.shaping_updates)

    batch = batch_of(trees, config, shaping, sizes, version, averages)
    losses, kept = batch.losses, batch.kept

    nodes = [node for rollout in kept for node in rollout.trained]
    by_depth: defaultdict[int, list[Trained]] = defaultdict(list)
    for node in nodes:
        by_depth[node.depth].append(node)
    counts = {depth: len(by_depth[depth]) for depth in sorted(by_depth)}
    weights = depth_weights(counts, config)
    picked, scales = sub_sample(nodes, counts, config.max_nodes_per_depth, rng)
    rollouts_trained = len({node.tree for node in picked})
    losses.drop("not_sampled", nodes=len(nodes) - len(picked), rollouts=len(kept) - rollouts_trained)

    verdicts = Counter(group.verdict for group in batch.groups)
    large = len(batch.groups) - verdicts["group_too_small"]
    scored = [rollout for group in batch.groups for rollout in group.members]
    return Credits(
        nodes=[_credit(node, weights[node.depth], scales[node.depth]) for node in picked],
        funnel=Funnel(
            rollouts=len(trees),
            rollouts_scored=len(scored),
            rollouts_kept=len(kept),
            rollouts_trained=rollouts_trained,
            nodes=sum(len(tree.nodes) for tree in trees),
            nodes_scored=sum(len(rollout.trained) for rollout in scored),
            nodes_kept=len(nodes),
            nodes_trained=len(picked),
            groups=len(batch.groups),
            groups_kept=verdicts[None],
            dropped=losses.nodes,
            dropped_rollouts=losses.rollouts,
        ),
        depths={depth: _stats(by_depth[depth], weights[depth]) for depth in counts},
        tokens=sum(node.tokens for node in nodes),
        count=len(nodes),
        rollouts=len(kept),
        frac_reward_zero_std=sum(group.flat for group in batch.groups) / large if large else 0.0,
        averages=_moved(scored, config, averages),
    )


def _moved(scored: Sequence[Rollout], config: CreditConfig, averages: Mapping[int, float]) -> Mapping[int, float]:
    """The moving averages after a batch; all nodes with a reward count, whether or not they are trained."""
    if config.baseline != "ema_depth":
        return averages
    by_depth: defaultdict[int, list[Fraction]] = defaultdict(list)
    for rollout in scored:
        for earned in rollout.earned:
            by_depth[earned.node.depth].append(earned.reward)
    return moved(averages, by_depth, config.ema_decay)


def _credit(node: Trained, weight: float, scale: float) -> NodeCredit:
    success = node.earned.success
    return NodeCredit(
        tree=node.tree,
        node=node.earned.node.id,
        depth=node.depth,
        success=None if success is None else float(success),
        reward=float(node.earned.reward),
        advantage=float(node.advantage),
        weight=weight,
        scale=scale,
        tokens=node.tokens,
    )


def _stats(nodes: Sequence[Trained], weight: float) -> DepthStats:
    known = [float(node.earned.success) for node in nodes if node.earned.success is not None]
    return DepthStats(
        nodes=len(nodes),
        weight=weight,
        reward=math.fsum(float(node.earned.reward) for node in nodes) / len(nodes),
        success=math.fsum(known) / len(known) if known else None,
        advantage=math.fsum(float(node.advantage) for node in nodes) / len(nodes),
        launch_rate=sum(bool(node.earned.node.children) for node in nodes) / len(nodes),
    )
