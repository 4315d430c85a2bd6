"""What a running agent does or waits for now, and since when, from the events so far."""

from __future__ import annotations

from dataclasses import dataclass

from ..status import LABELS, NEVER_ENDED, Activity, Label, Status
from .node import Node
from .tree import ExecutionTree


@dataclass(frozen=True, slots=True)
class Doing:
    """What an agent does, since when (seconds since the epoch), and for what it waits where that is known."""

    activity: Activity
    since: float
    detail: str | None = None
    others: int = 0
    """Sub-agents that it waits for."""

    @property
    def words(self) -> str:
        """In words, without the time."""
        if self.activity is Activity.SUBAGENTS and self.others:
            return f"waits for {self.others:,} sub-agent{'' if self.others == 1 else 's'}"
        return LABELS[self.activity].words


def doing(node: Node, tree: ExecutionTree) -> Doing | None:
    """What `node` does now; None where it has ended, or its run has.

    In the trace of a run that goes on, waits for slots, limits and budgets are not known: there an agent that has no cell
    to run counts as in its model call.
    """
    if not node.running or tree.complete:
        return None
    if (asked := tree.asked.get(node.id)) is not None:
        return Doing(Activity.APPROVAL, asked[0].time, asked[0].name)
    if (waits := tree.waits.get(node.id)) is not None:
        return Doing(waits.activity, waits.time, waits.reason, int(waits.activity is Activity.SUBAGENTS))
    step = node.steps[-1] if node.steps else None
    if step is None or step.model is None or step.cell is not None:
        since = node.started if step is None or step.cell is None else step.cell.time
        return Doing(Activity.MODEL, since)
    begun = step.model.time
    busy = [child for child in node.children if child.running]
    if busy:
        return Doing(Activity.SUBAGENTS, max(begun, min(child.started for child in busy)), others=len(busy))
    return Doing(Activity.CODE, begun)


def label(node: Node, tree: ExecutionTree) -> Label:
    """How an agent is shown."""
    if node.status is not Status.RUNNING:
        return LABELS[node.status]
    now = doing(node, tree)
    return NEVER_ENDED if now is None else LABELS[now.activity]
