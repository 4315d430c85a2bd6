"""s̃: how well a node did at its own goal, from how it ended and how it was scored."""

from __future__ import annotations

from typing import NamedTuple

from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.trace.tree import Node

UNSCORED = "unscored"
"""Why a node that finished has no s̃: nobody scored it, or its scorer could not tell."""

_OWN_DOING = frozenset({Status.STEP_LIMIT, Status.TOKEN_LIMIT, Status.CONTEXT_OVERFLOW, Status.MALFORMED})
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
    if node.status in _OWN_DOING or (root and node.status in _SHARED):
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
