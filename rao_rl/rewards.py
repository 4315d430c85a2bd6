"""What the nodes of one finished tree earned: s̃ from how each ended and was scored, and R from s̃ (Eq. 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree, Node

Reward = Literal["local", "root"]

UNSCORED = "unscored"
"""Why a node that finished has no s̃: nobody scored it, or its scorer could not tell."""

_OWN = frozenset({Status.STEP_LIMIT, Status.TOKEN_LIMIT, Status.CONTEXT_OVERFLOW, Status.MALFORMED})
_SHARED = frozenset({Status.TREE_BUDGET, Status.TREE_TIMEOUT, Status.COST_LIMIT})


class Success(NamedTuple):
    """s̃ in [0, 1], or why there is none: exactly one of the two is None."""

    value: float | None
    missing: str | None


def success(node: Node, root: bool) -> Success:
    """s̃ of a node that ended; `root` says whether it answers for the whole tree.

    A node that gave up by its own doing has 0 whatever was recorded. What the whole tree used up is the root's failure and
    nobody else's; a cancellation, an endpoint or a judge that failed is no one's. Raises ConfigurationError for a recorded
    score outside [0, 1].
    """
    if node.status in _OWN or (root and node.status in _SHARED):
        return Success(0.0, None)
    if not node.finished:
        return Success(None, str(node.status))
    if node.score_status == "judge_error":
        return Success(None, "judge_error")
    if node.score is None:
        return Success(None, UNSCORED)
    if not 0 <= node.score <= 1:
        raise ConfigurationError(f"node {node.id} has a score of {node.score!r}; scores must be between 0 and 1")
    return Success(float(node.score), None)


@dataclass(frozen=True, slots=True)
class Earned:
    """What one node earned, exactly; `success` is None where s̃ is not known but the reward is."""

    node: Node
    success: Fraction | None
    reward: Fraction


def rewards(
    tree: ExecutionTree, *, kind: Reward = "local", bonus: float = 0.0, bonus_for_forwarding: bool = True
) -> tuple[list[Earned], Counter[str]]:
    """R(X) = s̃(X) + λ · mean of the children's s̃ (Eq. 1) of each node that has one, in launch order; why others have none.

    `kind` "root" puts the root's s̃ in the place of s̃(X), which a node needs no score for when it finished; the second term
    stays what the children achieved at their own goals. It leaves out children without a score, and where
    `bonus_for_forwarding` is False those that were handed their parent's own goal, word for word. The tree's root must
    have a score.
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
    earned: list[Earned] = []
    lost: Counter[str] = Counter()
    for node in tree.nodes.values():
        reason = missing.get(node.id)
        if reason is not None and not (reason == UNSCORED and kind == "root"):
            lost[reason] += 1
            continue
        reward = known[tree.root.id if kind == "root" else node.id]
        if scale and (below := list(_children(node, known, bonus_for_forwarding))):
            reward += scale * sum(below) / len(below)
        earned.append(Earned(node, known.get(node.id), reward))
    return earned, lost


def _children(node: Node, known: Mapping[str, Fraction], forwarding: bool) -> Iterator[Fraction]:
    """s̃ of the children that the bonus is for."""
    for child in node.children:
        if child.id in known and (forwarding or child.goal.strip() != node.goal.strip()):
            yield known[child.id]
