"""What of a batch of trees can be trained, with its reward and advantage: steps 2 to 6 of `assign`, node by node.

`assign` weights what is left here; `explain` says in words how each number came about.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from recursive_agent.trace.schema import ROOT
from recursive_agent.trace.tree import ExecutionTree, Node

from ..errors import DataError
from .advantages import Advantages, advantages
from .averages import Averages
from .config import CreditConfig
from .counterfactual import Further, launch_of
from .credits import Size
from .funnel import Losses
from .rewards import Earned, rewards, success
from .shaping import Shaping


@dataclass(slots=True)
class Trained:
    """A node that can be trained; `position` is its place in `Rollout.earned`."""

    tree: int
    position: int
    earned: Earned
    tokens: int
    advantage: Fraction = Fraction(0)

    @property
    def depth(self) -> int:
        """The root's is 0."""
        return self.earned.node.depth


@dataclass(slots=True)
class Rollout:
    """A rollout whose root is scored. All nodes with a reward count for baselines, whether or not they can be trained."""

    tree: int
    earned: list[Earned]
    trained: list[Trained] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Nodes that are not trained, and why: a reason of `Funnel.dropped`."""


@dataclass(slots=True)
class Group:
    """The rollouts of a group that can be compared, and what came of it."""

    members: list[Rollout]
    verdict: str | None
    """The reason that the whole group is dropped, or None."""
    flat: bool
    """Whether every advantage is 0."""
    further: list[Further]
    """For each member, the rewards of the further children at its launches."""
    advantages: Advantages
    """Of every node with a reward, whether or not it is trained, in the order of `members`; empty for a group too small."""


@dataclass(slots=True)
class Batch:
    """What is left of a batch after step 6, and what was dropped."""

    groups: list[Group]
    kept: list[Rollout]
    losses: Losses
    unusable: dict[int, str]
    """Whole rollouts that are dropped before their group is looked at, by their place among the trees."""


def batch_of(
    trees: Sequence[ExecutionTree],
    config: CreditConfig,
    shaping: Shaping,
    sizes: Sequence[Mapping[str, Size]] | None,
    version: int | None,
    averages: Mapping[int, float],
) -> Batch:
    """Steps 2 to 6 of `assign`, whose arguments these are."""
    losses = Losses()
    unusable: dict[int, str] = {}
    members_of: dict[str | int, list[Rollout]] = {}
    further: defaultdict[str, defaultdict[str, list[Fraction]]] = defaultdict(lambda: defaultdict(list))
    for index, tree in enumerate(trees):
        if (launch := launch_of(tree.group)) is not None:
            unusable[index] = "baseline_only"
            losses.drop("baseline_only", nodes=len(tree.nodes), rollouts=1)
            if _unusable(tree, version, config) is None:
                further[launch[0]][launch[1]].append(_earned(tree, config, shaping)[0][0].reward)
            continue
        members = members_of.setdefault(index if tree.group is None else tree.group, [])
        if (reason := _unusable(tree, version, config)) is not None:
            unusable[index] = reason
            losses.drop(reason, nodes=len(tree.nodes), rollouts=1)
        else:
            members.append(_rollout(index, tree, config, shaping, sizes, losses))

    groups: list[Group] = []
    kept: list[Rollout] = []
    for members in members_of.values():
        others: list[Further] = [further[trees[rollout.tree].run] for rollout in members]
        group = _compared(members, config, averages, others)
        groups.append(group)
        for rollout in members:
            if group.verdict is None and rollout.trained:
                kept.append(rollout)
            else:
                losses.drop(group.verdict or "nothing_left", nodes=len(rollout.trained), rollouts=1)
    kept.sort(key=lambda rollout: rollout.tree)
    return Batch(groups, kept, losses, unusable)


def tree_version(tree: ExecutionTree) -> int | None:
    """The oldest version of the model among the calls of a tree's trainable agents; None where versions are not numbers."""
    trained = [node for node in tree.nodes.values() if node.trainable]
    versions = [call.version for node in trained for call in node.model_calls]
    try:
        return min((int(version or "") for version in versions), default=None)
    except ValueError:
        return None


def validate(tree: ExecutionTree) -> None:
    """Raises DataError for a tree that has not ended."""
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
) -> Rollout:
    """The rewards of a tree's nodes, and the nodes that can be trained; the others are counted in `losses`."""
    earned, missing = _earned(tree, config, shaping)
    losses.nodes.update(missing)
    rollout = Rollout(index, earned)
    for position, one in enumerate(earned):
        size = None if sizes is None else sizes[index].get(one.node.id, Size(0, 0))
        if (reason := _untrainable(one.node, size, config)) is not None:
            losses.drop(reason, nodes=1)
            rollout.left_out[one.node.id] = reason
            continue
        tokens = one.node.usage.completion_tokens if size is None else size.completion_tokens
        rollout.trained.append(Trained(index, position, one, tokens))
    return rollout


def _untrainable(node: Node, size: Size | None, config: CreditConfig) -> str | None:
    """The reason that a node with a reward is not trained, or None."""
    if not node.trainable:
        return "untrainable"
    if size is None:
        return None
    if not size.of_policy:
        return "other_model"
    if size.completion_tokens == 0:
        return "no_tokens"
    return "too_long" if config.max_length is not None and size.longest_row > config.max_length else None


def _earned(tree: ExecutionTree, config: CreditConfig, shaping: Shaping) -> tuple[list[Earned], Counter[str]]:
    return rewards(
        tree,
        kind="root" if config.baseline == "inherit" else config.reward,  # a node needs no reward of its own to inherit
        bonus=config.delegation_bonus,
        bonus_for_forwarding=config.bonus_for_forwarding,
        shaping=shaping,
    )


def _compared(members: list[Rollout], config: CreditConfig, averages: Averages, further: list[Further]) -> Group:
    """Fill in the advantages of a group."""
    if len(members) < config.least_group:
        return Group(members, "group_too_small", False, further, [])
    found = advantages([rollout.earned for rollout in members], config.baseline, averages=averages, further=further)
    for rollout, own in zip(members, found, strict=True):
        for node in rollout.trained:
            node.advantage = own[node.position]
    nodes = [node for rollout in members for node in rollout.trained]
    flat = bool(nodes) and not any(node.advantage for node in nodes)
    # A moving average is the same for all groups, so that one group at it is no reason to leave that group out.
    dropped = "zero_advantage" if flat and config.baseline != "ema_depth" else None
    return Group(members, dropped if nodes else "nothing_left", flat, further, found)
