"""Rewards of the nodes of one finished tree: s̃ from how each node ended and was scored, and R from s̃ (Eq. 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from recursive_agent.trace.tree import ExecutionTree, Node

from ..errors import DataError
from .shaping import UNSHAPED, Shaping

Reward = Literal["local", "root"]

UNSCORED = "unscored"
"""The reason that a finished node has no s̃: it was not scored, or its scorer returned None."""


class Success(NamedTuple):
    """s̃ in [0, 1] as `value`, or the reason that it is missing: exactly one of the two is None."""

    value: float | None
    missing: str | None


def success(node: Node, root: bool) -> Success:
    """s̃ of a node that ended; `root` says whether it is the root of its tree.

    - The node failed by its own doing (`Status.own_failure`): 0, whatever score was recorded.
    - The whole tree ran out of tokens, money or time (`Status.shared_limit`): 0 for the root, missing for other nodes.
    - The cause lies outside the agents (`Status.external`), or the judge failed: missing.
    - The node finished: its recorded score.

    Raises DataError for a recorded score outside [0, 1].
    """
    if node.status.own_failure or (root and node.status.shared_limit):
        return Success(0.0, None)
    if not node.finished:
        return Success(None, str(node.status))
    if node.score_status == "judge_error":
        return Success(None, "judge_error")
    if node.score is None:
        return Success(None, UNSCORED)
    if not 0 <= node.score <= 1:
        raise DataError(f"node {node.id} has a score of {node.score!r}; scores must be between 0 and 1")
    return Success(float(node.score), None)


@dataclass(frozen=True, slots=True)
class Earned:
    """The reward of one node as exact fractions; `success` is None where s̃ is missing but the reward is known."""

    node: Node
    success: Fraction | None
    reward: Fraction


def rewards(
    tree: ExecutionTree,
    *,
    kind: Reward = "local",
    bonus: float = 0.0,
    bonus_for_forwarding: bool = True,
    shaping: Shaping = UNSHAPED,
) -> tuple[list[Earned], Counter[str]]:
    """R(X) = s̃(X) + λ · mean of the children's s̃ (Eq. 1) for each node that has a reward, in launch order.

    The second value counts the nodes without a reward by reason. `shaping` is added to R.

    `kind` "root" is the sparse reward: R of the root, its own bonus included, for every node. What a node and its children
    achieved then does not count, and a node that finished needs no score of its own. The mean leaves out children without a
    score and, where `bonus_for_forwarding` is False, children whose goal is the parent's own goal word for word. The tree's
    root must have a score.
    """
    known: dict[str, Fraction] = {}
    missing: dict[str, str] = {}
    for node in tree.nodes.values():
        value, reason = success(node, root=node.parent is None)
        if value is not None:
            known[node.id] = Fraction(value)
        elif reason is not None:
            missing[node.id] = reason
    scale = Fraction(bonus)

    def reward(node: Node) -> Fraction:
        below = [known[child.id] for child in bonus_children(node, known, bonus_for_forwarding)] if scale else []
        return known[node.id] + (scale * sum(below) / len(below) if below else 0) + shaping.reward(node)

    sparse = reward(tree.root) if kind == "root" else None
    earned: list[Earned] = []
    lost: Counter[str] = Counter()
    for node in tree.nodes.values():
        reason = missing.get(node.id)
        if reason is not None and not (reason == UNSCORED and sparse is not None):
            lost[reason] += 1
            continue
        earned.append(Earned(node, known.get(node.id), reward(node) if sparse is None else sparse))
    return earned, lost


def bonus_children(node: Node, known: Container[str], forwarding: bool) -> Iterator[Node]:
    """The children that count for the bonus, given the ids of those whose s̃ is known."""
    for child in node.children:
        if child.id in known and (forwarding or child.goal.strip() != node.goal.strip()):
            yield child
