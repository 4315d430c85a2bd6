"""Attempts that ended by nobody's doing: which ones they are, and when so many in a row say that nothing samples any more."""

from __future__ import annotations

from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree

from ..errors import RolloutsFailed


def is_lost(tree: ExecutionTree) -> bool:
    """Whether an attempt says nothing of the policy: it was cancelled, the endpoint or the sandbox failed, or its time passed
    without a single answer of the model. It is neither trained on nor taken for recorded."""
    root = tree.root
    return root.status.external or (root.status is Status.TREE_TIMEOUT and not tree.usage.completion_tokens)


def is_recorded(tree: ExecutionTree) -> bool:
    """Whether a tree that has ended need not be rolled out again: it is not lost, and the scoring of every agent has ended.

    A root without a score because its scorer or judge failed, or was cut off, is not taken for recorded either.
    """
    scored = all(node.score_status is not None for node in tree.nodes.values())
    return scored and tree.root.score_status != "judge_error" and not is_lost(tree)


class FailuresInARow:
    """Counts attempts that fail in a row, over all batches of a run. A cancelled attempt counts neither way."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0

    def add(self, tree: ExecutionTree) -> None:
        """Count an attempt that has ended. Raises RolloutsFailed where it is the last of `most` that failed in a row."""
        if tree.root.status is Status.CANCELLED:
            return
        self.count = self.count + 1 if is_lost(tree) else 0
        if self.count >= self.most:
            reason = (tree.root.reason or str(tree.root.status)).strip().rstrip(".")
            raise RolloutsFailed(
                f"{self.count} attempts in a row failed, and not by the agents' doing; the last one: {reason}. Mend the "
                "endpoint (or the sandbox) that this names, and continue with --resume."
            )
