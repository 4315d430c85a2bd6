"""Finished trees → rewards, advantages and weights of their nodes: Recursive Agent Optimization (arXiv 2605.06639).

One pure function, `assign`, on the trees of one optimizer batch. Its order of operations matters and is fixed: validate,
leave out what cannot be trained, rewards, drop groups that are too small, baselines and advantages, drop groups without
anything to learn, count nodes by depth, weights, sub-sample. `Funnel` says what was lost on the way, and why.

N_d, the dropped groups and a D that counts depend on the sampled rollouts: a small ratio bias, which every method of this
kind has. For a frozen distribution of sub-tasks, without depth weights and with a constant D, the estimate is unbiased.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.schema import ROOT
from recursive_agent.trace.tree import ExecutionTree, Node

from .baselines import Baseline, Earned, baselines
from .success import UNSCORED, Success, success

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

Reward = Literal["local", "root"]
DepthWeighting = Literal["inverse_frequency", "none", "discount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditConfig:
    """How credit is assigned; the defaults are the paper's. Raises ConfigurationError for values that make no sense."""

    reward: Reward = "local"
    """Whose s̃ a node is rewarded with: its own, or the root's (the sparse ablation). The bonus is added to either."""
    delegation_bonus: float = 0.0
    """λ of Eq. 1."""
    bonus_for_forwarding: bool = True
    """False leaves out of the bonus a child that was handed its parent's own goal, word for word."""
    baseline: Baseline = "root"
    """b of Eq. 3; see `rao_rl.baselines`."""
    depth_weighting: DepthWeighting = "inverse_frequency"
    """w_d: as Eq. 4, 1, or ∝ γ^d. Each keeps Σ N_d·w_d = Σ N_d."""
    depth_discount: float = 1.0
    """γ of `discount`, above 0 and up to 1."""
    min_group: int = 2
    """Groups with fewer scored rollouts are dropped. At least 2: one alone has no baseline."""
    max_nodes_per_depth: int | None = None
    """k of node sub-sampling; None trains all."""
    max_staleness: int | None = None
    """How many versions a tree may be behind the trainer."""
    max_length: int | None = None
    """The longest row, in tokens, that is trained."""

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
    """How much of a node there is to train, in tokens."""

    longest_row: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredit:
    """What one node is trained with. `tree` is an index into the trees given, `node` an id in it."""

    tree: int
    node: str
    depth: int
    success: float | None
    """s̃; None where it is not known, which only `reward="root"` trains."""
    reward: float
    advantage: float
    weight: float
    """w_d."""
    scale: float
    """N_d/k where the node stands for others that were not picked, else 1."""
    tokens: int
    """Tokens that the node sampled."""

    @property
    def coefficient(self) -> float:
        """What multiplies ∇ log π of each token the node sampled, before the division by D."""
        return self.weight * self.scale * self.advantage


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthStats:
    """One depth of a batch before sub-sampling: N_d, w_d, and means over its nodes."""

    nodes: int
    weight: float
    reward: float
    success: float | None
    """Mean over the nodes whose s̃ is known; None where it is of none."""
    advantage: float
    launch_rate: float
    """Share of the nodes that launched a sub-agent."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Credits:
    """The credit of a batch. `tokens`, `count` (of nodes) and `rollouts` are taken before sub-sampling: the choices for D."""

    nodes: list[NodeCredit]
    """What is to be trained, in the order of the trees, within a tree in that of the launches."""
    funnel: Funnel
    depths: dict[int, DepthStats]
    tokens: int
    count: int
    rollouts: int
    frac_reward_zero_std: float
    """Share of the groups that were large enough whose nodes' advantages are all 0."""


@dataclass(slots=True)
class _Rollout:
    tree: int
    earned: list[Earned]
    """All nodes with a reward, the root first; those that are not trained count for bonuses and baselines all the same."""
    trained: list[_Trained] = field(default_factory=list)


@dataclass(slots=True)
class _Trained:
    tree: int
    earned: Earned
    position: int
    """In `_Rollout.earned`."""
    tokens: int
    advantage: Fraction = Fraction(0)

    @property
    def depth(self) -> int:
        return self.earned.node.depth


def assign(
    trees: Sequence[ExecutionTree],
    config: CreditConfig = CreditConfig(),
    *,
    sizes: Sequence[Mapping[str, Size]] | None = None,
    version: int | None = None,
    rng: random.Random | None = None,
) -> Credits:
    """The credit of every node of a batch that is to be trained (Eqs. 1, 3 and 4).

    `sizes` gives by tree and node id what there is to train; a node that it lacks sampled nothing. Without it tokens are
    those of the nodes' usage, and nothing is too long. `version` is the trainer's; without it nothing is stale. `rng` picks
    the nodes where `max_nodes_per_depth` asks for it. A tree without a group id is a group of one.

    Raises ConfigurationError for a tree that has not ended, a score outside [0, 1], `sizes` of another number of trees,
    and sub-sampling without `rng`.
    """
    if sizes is not None and len(sizes) != len(trees):
        raise ConfigurationError(f"sizes are given for {len(sizes)} trees, but there are {len(trees)}")
    if config.max_nodes_per_depth is not None and rng is None:
        raise ConfigurationError("max_nodes_per_depth needs a random generator (`rng`) to pick the nodes with")
    for tree in trees:
        _validate(tree)
    dropped: Counter[str] = Counter()
    dropped_rollouts: Counter[str] = Counter()

    def drop(rollout: _Rollout, reason: str) -> None:
        dropped[reason] += len(rollout.trained)
        dropped_rollouts[reason] += 1

    groups: defaultdict[str | int, list[_Rollout]] = defaultdict(list)
    for index, tree in enumerate(trees):
        key = index if tree.group is None else tree.group
        members = groups[key]
        reason = _stale(tree, version, config) or _root_missing(tree)
        if reason is not None:
            dropped[reason] += len(tree.nodes)
            dropped_rollouts[reason] += 1
        else:
            members.append(_rollout(index, tree, config, None if sizes is None else sizes[index], dropped))
    scored = [rollout for members in groups.values() for rollout in members]
    nodes_scored = sum(len(rollout.trained) for rollout in scored)

    kept: list[_Rollout] = []
    large = flat = groups_kept = 0
    for members in groups.values():
        if len(members) < config.min_group:
            for rollout in members:
                drop(rollout, "group_too_small")
            continue
        for rollout, means in zip(
            members, baselines([rollout.earned for rollout in members], config.baseline), strict=True
        ):
            for node in rollout.trained:
                node.advantage = node.earned.reward - means[node.position]
        large += 1
        empty = not any(rollout.trained for rollout in members)
        zero = not empty and not any(node.advantage for rollout in members for node in rollout.trained)
        flat += zero
        groups_kept += not (empty or zero)
        for rollout in members:
            if not rollout.trained:
                drop(rollout, "nothing_left")
            elif zero:
                drop(rollout, "zero_advantage")
            else:
                kept.append(rollout)

    kept.sort(key=lambda rollout: rollout.tree)
    nodes = [node for rollout in kept for node in rollout.trained]
    by_depth: defaultdict[int, list[_Trained]] = defaultdict(list)
    for node in nodes:
        by_depth[node.depth].append(node)
    counts = {depth: len(by_depth[depth]) for depth in sorted(by_depth)}
    weights = _depth_weights(counts, config)
    picked, scales = _sub_sample(nodes, counts, config.max_nodes_per_depth, rng)
    rollouts_trained = len({node.tree for node in picked})
    if len(picked) < len(nodes):
        dropped["not_sampled"] += len(nodes) - len(picked)
    if rollouts_trained < len(kept):
        dropped_rollouts["not_sampled"] += len(kept) - rollouts_trained
    return Credits(
        nodes=[
            NodeCredit(
                tree=node.tree,
                node=node.earned.node.id,
                depth=node.depth,
                success=None if node.earned.success is None else float(node.earned.success),
                reward=float(node.earned.reward),
                advantage=float(node.advantage),
                weight=weights[node.depth],
                scale=scales[node.depth],
                tokens=node.tokens,
            )
            for node in picked
        ],
        funnel=Funnel(
            rollouts=len(trees),
            rollouts_scored=len(scored),
            rollouts_kept=len(kept),
            rollouts_trained=rollouts_trained,
            nodes=sum(len(tree.nodes) for tree in trees),
            nodes_scored=nodes_scored,
            nodes_kept=len(nodes),
            nodes_trained=len(picked),
            groups=len(groups),
            groups_kept=groups_kept,
            dropped=+dropped,
            dropped_rollouts=dropped_rollouts,
        ),
        depths={depth: _stats(by_depth[depth], weights[depth]) for depth in counts},
        tokens=sum(node.tokens for node in nodes),
        count=len(nodes),
        rollouts=len(kept),
        frac_reward_zero_std=flat / large if large else 0.0,
    )


def tree_version(tree: ExecutionTree) -> int | None:
    """The oldest version of the model that any call of a tree was answered by; None where versions are no numbers."""
    versions = [step.model.version for node in tree.nodes.values() for step in node.steps if step.model is not None]
    try:
        return min((int(version or "") for version in versions), default=None)
    except ValueError:
        return None


def _validate(tree: ExecutionTree) -> None:
    if not tree.complete or ROOT not in tree.nodes or any(node.running for node in tree.nodes.values()):
        raise ConfigurationError(
            f"run {tree.run} has not ended (or its trace was cut off): credit can be assigned to whole trees only"
        )


def _stale(tree: ExecutionTree, version: int | None, config: CreditConfig) -> str | None:
    if version is None or config.max_staleness is None:
        return None
    sampled = tree_version(tree)
    if sampled is None:
        return "version_unknown"
    return "stale" if version - sampled > config.max_staleness else None


def _root_missing(tree: ExecutionTree) -> str | None:
    missing = success(tree.root, root=True).missing
    return None if missing is None else f"root_{missing}"


def _rollout(
    index: int,
    tree: ExecutionTree,
    config: CreditConfig,
    sizes: Mapping[str, Size] | None,
    dropped: Counter[str],
) -> _Rollout:
    """What the nodes of a tree earned (Eq. 1), and which of them can be trained; the others are counted."""
    found = {node.id: success(node, root=node.parent is None) for node in tree.nodes.values()}
    exact = {name: Fraction(value) for name, (value, _) in found.items() if value is not None}
    bonus = Fraction(config.delegation_bonus)
    rollout = _Rollout(index, [])
    for node in tree.nodes.values():
        missing = found[node.id].missing
        # The root's s̃ stands for that of a node that did finish: nothing else is missing from its reward.
        if missing is not None and not (missing == UNSCORED and config.reward == "root"):
            dropped[missing] += 1
            continue
        reward = exact[ROOT if config.reward == "root" else node.id]
        if bonus and (below := list(_children(node, exact, config.bonus_for_forwarding))):
            reward += bonus * sum(below) / len(below)
        rollout.earned.append(Earned(node, exact.get(node.id), reward))
        size = Size(0, node.usage.completion_tokens) if sizes is None else sizes.get(node.id, Size(0, 0))
        if sizes is not None and size.completion_tokens == 0:
            dropped["no_tokens"] += 1
        elif config.max_length is not None and size.longest_row > config.max_length:
            dropped["too_long"] += 1
        else:
            rollout.trained.append(_Trained(index, rollout.earned[-1], len(rollout.earned) - 1, size.completion_tokens))
    return rollout


def _children(node: Node, successes: Mapping[str, Fraction], forwarding: bool) -> Iterable[Fraction]:
    """The children's own s̃, where it is known."""
    for child in node.children:
        if child.id in successes and (forwarding or child.goal.strip() != node.goal.strip()):
            yield successes[child.id]


def _depth_weights(counts: Mapping[int, int], config: CreditConfig) -> dict[int, float]:
    """w_d by depth, from N_d by depth (Eq. 4)."""
    total = sum(counts.values())
    match config.depth_weighting:
        case "none":
            return dict.fromkeys(counts, 1.0)
        case "inverse_frequency":
            return {depth: total / (len(counts) * count) for depth, count in counts.items()}
        case "discount":
            powers = {depth: config.depth_discount**depth for depth in counts}
            norm = sum(count * powers[depth] for depth, count in counts.items())
            return {depth: total * power / norm for depth, power in powers.items()}


def _sub_sample(
    nodes: list[_Trained], counts: Mapping[int, int], most: int | None, rng: random.Random | None
) -> tuple[list[_Trained], dict[int, float]]:
    """At most `most` nodes of each depth in their order, and by depth how many nodes each one picked stands for."""
    if most is None or rng is None:
        return nodes, dict.fromkeys(counts, 1.0)
    wanted = {
        depth: set(rng.sample(range(count), most)) if count > most else set(range(count))
        for depth, count in counts.items()
    }
    seen: Counter[int] = Counter()
    picked = []
    for node in nodes:
        if seen[node.depth] in wanted[node.depth]:
            picked.append(node)
        seen[node.depth] += 1
    return picked, {depth: count / len(wanted[depth]) for depth, count in counts.items()}


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
