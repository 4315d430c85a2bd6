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
from typing import Literal, get_args

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.schema import ROOT
from recursive_agent.trace.tree import ExecutionTree

from ..errors import DataError
from .baselines import Baseline, baselines
from .funnel import Funnel, Losses
from .rewards import Earned, Reward, Success, rewards, success

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

DepthWeighting = Literal["inverse_frequency", "none", "discount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditConfig:
    """How credit is assigned; the defaults are the paper's. Raises ConfigurationError for values out of range."""

    reward: Reward = "local"
    """Which s̃ rewards a node: its own (local), or the root's (root, the sparse ablation). The bonus is added to either."""
    delegation_bonus: float = 0.0
    """λ of Eq. 1."""
    bonus_for_forwarding: bool = True
    """False: a child whose goal is its parent's own goal, word for word, does not count for the bonus."""
    baseline: Baseline = "root"
    """b of Eq. 3; see `rao_rl.credit.baselines`."""
    depth_weighting: DepthWeighting = "inverse_frequency"
    """w_d: as Eq. 4, 1, or ∝ γ^d. Each keeps Σ N_d·w_d = Σ N_d."""
    depth_discount: float = 1.0
    """γ of `discount`, above 0 and up to 1."""
    min_group: int = 2
    """Groups with fewer scored rollouts are dropped. At least 2: one alone has no baseline."""
    max_nodes_per_depth: int | None = None
    """k of node sub-sampling; None trains all."""
    max_staleness: int | None = None
    """How many versions of the weights a tree may be behind the trainer; None: any number."""
    max_length: int | None = None
    """Nodes with a longer row, in tokens, are not trained; None: no limit."""

    def __post_init__(self) -> None:
        for name, choices in (("reward", Reward), ("baseline", Baseline), ("depth_weighting", DepthWeighting)):
            if getattr(self, name) not in get_args(choices):
                raise ConfigurationError(
                    f"{name} must be one of {', '.join(get_args(choices))}, not {getattr(self, name)!r}"
                )
        if not 0 <= self.delegation_bonus < math.inf:
            raise ConfigurationError(f"delegation_bonus must be a number from 0 on, not {self.delegation_bonus}")
        if not 0 < self.depth_discount <= 1:
            raise ConfigurationError(f"depth_discount must be above 0 and at most 1, not {self.depth_discount}")
        for name, least in (("min_group", 2), ("max_nodes_per_depth", 1), ("max_staleness", 0), ("max_length", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {value}")


@dataclass(frozen=True, slots=True)
class Size:
    """The rows of one node in numbers: its longest row, and its sampled tokens."""

    longest_row: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredit:
    """Advantage and weight of one node to train. `tree` is the index of its tree in the batch, `node` its id there."""

    tree: int
    node: str
    depth: int
    success: float | None
    """s̃; None where it is missing: such nodes are trained with `reward="root"` only."""
    reward: float
    advantage: float
    weight: float
    """w_d."""
    scale: float
    """N_d/k where sub-sampling picked k of N_d nodes, else 1."""
    tokens: int
    """Tokens that the node sampled."""

    @property
    def coefficient(self) -> float:
        """The factor of ∇ log π for each sampled token of the node, before the division by D."""
        return self.weight * self.scale * self.advantage


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthStats:
    """One depth of a batch before sub-sampling: N_d, w_d, and means over its nodes."""

    nodes: int
    weight: float
    reward: float
    success: float | None
    """Mean over the nodes whose s̃ is known; None where there is no such node."""
    advantage: float
    launch_rate: float
    """Share of the nodes that launched a sub-agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credits:
    """The credit of a batch. `tokens`, `count` (of nodes) and `rollouts` are totals before sub-sampling, for D."""

    nodes: list[NodeCredit]
    """The nodes to train, in the order of the trees, and in launch order within a tree."""
    funnel: Funnel
    depths: dict[int, DepthStats]
    tokens: int
    count: int
    rollouts: int
    frac_reward_zero_std: float
    """Of the groups that are large enough, the share in which every node's advantage is 0."""


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
    config: CreditConfig = CreditConfig(),
    *,
    sizes: Sequence[Mapping[str, Size]] | None = None,
    version: int | None = None,
    rng: random.Random | None = None,
) -> Credits:
    """The credit of every node of a batch that training uses (Eqs. 1, 3 and 4).

    `sizes` contains the sizes of the nodes' rows, by tree and node id; a node without an entry sampled no tokens. Without
    `sizes`, token counts come from the nodes' usage, and no node is too long. `version` is the version of the trainer's
    weights; without it, no tree is stale. `rng` selects the nodes if `max_nodes_per_depth` is set. A tree without a group id
    is a group by itself.

    Raises DataError for a tree that has not ended and for a score outside [0, 1]; ConfigurationError if `sizes` has another
    number of trees, and for `max_nodes_per_depth` without `rng`.
    """
    if sizes is not None and len(sizes) != len(trees):
        raise ConfigurationError(f"sizes are given for {len(sizes)} trees, but there are {len(trees)}")
    if config.max_nodes_per_depth is not None and rng is None:
        raise ConfigurationError("max_nodes_per_depth needs a random generator (`rng`) to pick the nodes with")
    for tree in trees:
        _validate(tree)

    losses = Losses()
    groups: dict[str | int, list[_Rollout]] = {}
    for index, tree in enumerate(trees):
        members = groups.setdefault(index if tree.group is None else tree.group, [])
        if (reason := _unusable(tree, version, config)) is not None:
            losses.drop(reason, nodes=len(tree.nodes), rollouts=1)
        else:
            members.append(_rollout(index, tree, config, sizes, losses))
    scored = [rollout for members in groups.values() for rollout in members]

    kept: list[_Rollout] = []
    verdicts: Counter[str | None] = Counter()
    for members in groups.values():
        reason = _advantages(members, config)
        verdicts[reason] += 1
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
    weights = _depth_weights(counts, config)
    picked, scales = _sub_sample(nodes, counts, config.max_nodes_per_depth, rng)
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
        frac_reward_zero_std=verdicts["zero_advantage"] / large if large else 0.0,
    )


def tree_version(tree: ExecutionTree) -> int | None:
    """The oldest version of the model among the calls of a tree; None where versions are not numbers."""
    versions = [step.model.version for node in tree.nodes.values() for step in node.steps if step.model is not None]
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
    sizes: Sequence[Mapping[str, Size]] | None,
    losses: Losses,
) -> _Rollout:
    """The rewards of a tree's nodes, and the nodes that can be trained; the others are counted in `losses`."""
    earned, missing = rewards(
        tree,
        kind=config.reward,
        bonus=config.delegation_bonus,
        bonus_for_forwarding=config.bonus_for_forwarding,
    )
    losses.nodes.update(missing)
    rollout = _Rollout(index, earned)
    for position, one in enumerate(earned):
        if sizes is None:
            tokens = one.node.usage.completion_tokens
        else:
            size = sizes[index].get(one.node.id, Size(0, 0))
            tokens = size.completion_tokens
            if tokens == 0:
                losses.drop("no_tokens", nodes=1)
                continue
            if config.max_length is not None and size.longest_row > config.max_length:
                losses.drop("too_long", nodes=1)
                continue
        rollout.trained.append(_Trained(index, position, one, tokens))
    return rollout


def _advantages(members: Sequence[_Rollout], config: CreditConfig) -> str | None:
    """Fill in the advantages of a group (Eq. 3). Returns the reason that the group is dropped, or None."""
    if len(members) < config.min_group:
        return "group_too_small"
    means = baselines([rollout.earned for rollout in members], config.baseline)
    for rollout, own in zip(members, means, strict=True):
        for node in rollout.trained:
            node.advantage = node.earned.reward - own[node.position]
    nodes = [node for rollout in members for node in rollout.trained]
    if not nodes:
        return "nothing_left"
    return None if any(node.advantage for node in nodes) else "zero_advantage"


def _depth_weights(counts: Mapping[int, int], config: CreditConfig) -> dict[int, float]:
    """w_d by depth, from N_d by depth (Eq. 4)."""
    total = sum(counts.values())
    match config.depth_weighting:
        case "none":
            return dict.fromkeys(counts, 1.0)
        case "inverse_frequency":
            return {depth: total / (len(counts) * count) for depth, count in counts.items()}
        case "discount":
            # From the shallowest depth on: a small γ must not vanish before it is normalised.
            powers = {depth: config.depth_discount ** (depth - min(counts)) for depth in counts}
            norm = sum(count * powers[depth] for depth, count in counts.items())
            return {depth: total * power / norm for depth, power in powers.items()}


def _sub_sample(
    nodes: list[_Trained], counts: Mapping[int, int], most: int | None, rng: random.Random | None
) -> tuple[list[_Trained], dict[int, float]]:
    """At most `most` nodes of each depth in their order, and by depth N_d/k, the scale of the nodes that were picked."""
    if most is None or rng is None:
        return nodes, dict.fromkeys(counts, 1.0)
    places = {
        depth: set(rng.sample(range(count), most)) if count > most else set(range(count))
        for depth, count in counts.items()
    }
    seen: Counter[int] = Counter()
    picked = []
    for node in nodes:
        if seen[node.depth] in places[node.depth]:
            picked.append(node)
        seen[node.depth] += 1
    return picked, {depth: count / len(places[depth]) for depth, count in counts.items()}


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
