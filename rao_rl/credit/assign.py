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
from dataclasses import dataclass, field
from fractions import Fraction

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.schema import ROOT
from recursive_agent.trace.tree import ExecutionTree

from ..errors import DataError
from .advantages import advantages
from .averages import moved
from .baselines import Baseline
from .config import PAPER, CreditConfig, DepthWeighting
from .counterfactual import Further, launch_of
from .credits import Credits, DepthStats, NodeCredit, Size
from .funnel import Funnel, Losses
from .rewards import Earned, Reward, Success, rewards, success
from .shaping import Shaping, annealed
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


@dataclass(slots=True)
class _Trained:
    """A node that can be trained; `position` is its place in `_Rollout.earned`."""

    tree: int
    position: int
    earned: Earned
    tokens: int
    advantage: Fraction = Fraction(0)

    @property
    def depth(self) -> int:
        return self.earned.node.depth


@dataclass(slots=True)
class _Rollout:
    """A rollout whose root is scored. All nodes with a reward count for baselines, whether or not they can be trained."""

    tree: int
    earned: list[Earned]
    trained: list[_Trained] = field(default_factory=list)


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
        _validate(tree)
    shaping = annealed(config.parallel_bonus, config.finish_bonus, update, config.shaping_updates)

    losses = Losses()
    groups: dict[str | int, list[_Rollout]] = {}
    further: defaultdict[str, defaultdict[str, list[Fraction]]] = defaultdict(lambda: defaultdict(list))
    for index, tree in enumerate(trees):
        if (launch := launch_of(tree.group)) is not None:
            losses.drop("baseline_only", nodes=len(tree.nodes), rollouts=1)
            if _unusable(tree, version, config) is None:
                further[launch[0]][launch[1]].append(_earned(tree, config, shaping)[0][0].reward)
            continue
        members = groups.setdefault(index if tree.group is None else tree.group, [])
        if (reason := _unusable(tree, version, config)) is not None:
            losses.drop(reason, nodes=len(tree.nodes), rollouts=1)
        else:
            members.append(_rollout(index, tree, config, shaping, sizes, losses))
    scored = [rollout for members in groups.values() for rollout in members]

    kept: list[_Rollout] = []
    verdicts: Counter[str | None] = Counter()
    flat = 0
    for members in groups.values():
        reason, zero = _advantages(members, config, averages, [further[trees[rollout.tree].run] for rollout in members])
        verdicts[reason] += 1
        flat += zero
        for rollout in members:
            if reason is None and rollout.trained:
                kept.append(rollout)
            else:
                losses.drop(reason or "nothing_left", nodes=len(rollout.trained), rollouts=1)
    kept.sort(key=lambda rollout: rollout.tree)

    nodes = [node for rollout in kept for node in rollout.trained]
    by_depth: defaultdict[int, list[_Trained]] = defaultdict(list)
    for node in nodes:
        by_depth[node.depth].append(node)
    counts = {depth: len(by_depth[depth]) for depth in sorted(by_depth)}
    weights = depth_weights(counts, config)
    picked, scales = sub_sample(nodes, counts, config.max_nodes_per_depth, rng)
    rollouts_trained = len({node.tree for node in picked})
    losses.drop("not_sampled", nodes=len(nodes) - len(picked), rollouts=len(kept) - rollouts_trained)

    large = len(groups) - verdicts["group_too_small"]
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
            groups=len(groups),
            groups_kept=verdicts[None],
            dropped=losses.nodes,
            dropped_rollouts=losses.rollouts,
        ),
        depths={depth: _stats(by_depth[depth], weights[depth]) for depth in counts},
        tokens=sum(node.tokens for node in nodes),
        count=len(nodes),
        rollouts=len(kept),
        frac_reward_zero_std=flat / large if large else 0.0,
        averages=_moved(scored, config, averages),
    )


def tree_version(tree: ExecutionTree) -> int | None:
    """The oldest version of the model among the calls of a tree's trainable agents; None where versions are not numbers."""
    trained = [node for node in tree.nodes.values() if node.trainable]
    versions = [call.version for node in trained for call in node.model_calls]
    try:
        return min((int(version or "") for version in versions), default=None)
    except ValueError:
        return None


def _validate(tree: ExecutionTree) -> None:
    if not tree.complete or ROOT not in tree.nodes or any(node.running for node in tree.nodes.values()):
        raise DataError(
            f"run {tree.run} has not ended (or its trace was cut off): credit can be assigned to whole trees only"
        )


def _unusable(tree: ExecutionTree, version: int | None, config: CreditConfig) -> str | None:
    """The reason that a whole rollout is dropped, or None."""
    if (missing := success(tree.root, root=True).missing) is not None:
        return f"root_{missing}"
    if version is None or config.max_staleness is None or not tree.usage.calls:  # what sampled nothing is not stale
        return None
    if (sampled := tree_version(tree)) is None:
        return "version_unknown"
    return "stale" if version - sampled > config.max_staleness else None


def _rollout(
    index: int,
    tree: ExecutionTree,
    config: CreditConfig,
    shaping: Shaping,
    sizes: Sequence[Mapping[str, Size]] | None,
    losses: Losses,
) -> _Rollout:
    """The rewards of a tree's nodes, and the nodes that can be trained; the others are counted in `losses`."""
    earned, missing = _earned(tree, config, shaping)
    losses.nodes.update(missing)
    rollout = _Rollout(index, earned)
    for position, one in enumerate(earned):
        if not one.node.trainable:
            losses.drop("untrainable", nodes=1)
            continue
        if sizes is None:
            tokens = one.node.usage.completion_tokens
        else:
            size = sizes[index].get(one.node.id, Size(0, 0))
            if not size.of_policy:
                losses.drop("other_model", nodes=1)
                continue
            tokens = size.completion_tokens
            if tokens == 0:
                losses.drop("no_tokens", nodes=1)
                continue
            if config.max_length is not None and size.longest_row > config.max_length:
                losses.drop("too_long", nodes=1)
                continue
        rollout.trained.append(_Trained(index, position, one, tokens))
    return rollout


def _earned(tree: ExecutionTree, config: CreditConfig, shaping: Shaping) -> tuple[list[Earned], Counter[str]]:
    return rewards(
        tree,
        kind="root" if config.baseline == "inherit" else config.reward,  # a node needs no reward of its own to inherit
        bonus=config.delegation_bonus,
        bonus_for_forwarding=config.bonus_for_forwarding,
        shaping=shaping,
    )


def _advantages(
    members: Sequence[_Rollout], config: CreditConfig, averages: Mapping[int, float], further: Sequence[Further]
) -> tuple[str | None, bool]:
    """Fill in the advantages of a group. Returns the reason that the group is dropped, or None; and whether all are 0."""
    if len(members) < config.least_group:
        return "group_too_small", False
    found = advantages([rollout.earned for rollout in members], config.baseline, averages=averages, further=further)
    for rollout, own in zip(members, found, strict=True):
        for node in rollout.trained:
            node.advantage = own[node.position]
    nodes = [node for rollout in members for node in rollout.trained]
    if not nodes:
        return "nothing_left", False
    zero = not any(node.advantage for node in nodes)
    # A moving average is the same for all groups, so that one group at it is no reason to leave that group out.
    return ("zero_advantage" if zero and config.baseline != "ema_depth" else None), zero


def _moved(scored: Sequence[_Rollout], config: CreditConfig, averages: Mapping[int, float]) -> Mapping[int, float]:
    """The moving averages after a batch; all nodes with a reward count, whether or not they are trained."""
    if config.baseline != "ema_depth":
        return averages
    by_depth: defaultdict[int, list[Fraction]] = defaultdict(list)
    for rollout in scored:
        for earned in rollout.earned:
            by_depth[earned.node.depth].append(earned.reward)
    return moved(averages, by_depth, config.ema_decay)


def _credit(node: _Trained, weight: float, scale: float) -> NodeCredit:
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


def _stats(nodes: Sequence[_Trained], weight: float) -> DepthStats:
    known = [float(node.earned.success) for node in nodes if node.earned.success is not None]
    return DepthStats(
        nodes=len(nodes),
        weight=weight,
        reward=math.fsum(float(node.earned.reward) for node in nodes) / len(nodes),
        success=math.fsum(known) / len(known) if known else None,
        advantage=math.fsum(float(node.advantage) for node in nodes) / len(nodes),
        launch_rate=sum(bool(node.earned.node.children) for node in nodes) / len(nodes),
    )
