"""The task of a sub-agent as a task of its own, in the state in which the agent was launched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from recursive_agent.trace.schema import HostCalled
from recursive_agent.trace.tree import ExecutionTree, Node

from ..base import Task
from .goals import parse_goal
from .session import CRAFTED
from .tasks import Inventory
from .world import World


def subtask(task: Task, world: World, tree: ExecutionTree, node: Node, inventory: Inventory) -> Task | None:
    """The task of `node` with the inventory of the moment when it started; None where it could not be attempted alone.

    That is where its goal breaks the grammar or names an item that cannot be crafted, and with a `tight` inventory where other
    agents crafted while the node was at work, since they may have used up what it needed. A `generous` one affords that.
    """
    targets = parse_goal(node.goal)
    if targets is None or not targets.keys() <= world.recipes.keys():
        return None
    crafts = list(_crafts(tree))
    own = {each.id for each in node.walk()}
    meanwhile = [craft for craft in crafts if craft.node not in own and node.started < craft.time <= node.end]
    if inventory == "tight" and meanwhile:
        return None
    units = Counter(dict(task.data["inventory"]))
    for craft in crafts:
        if craft.time <= node.started:
            arguments = dict(zip(("ingredients", "target"), craft.args, strict=False)) | dict(craft.kwargs)
            item, count = arguments["target"]
            units.subtract(arguments["ingredients"])
            units[item] += count
    return Task(
        id=f"{task.id}/{node.id}",
        goal=node.goal,
        context=node.context,
        returns=node.returns,
        level=task.level,
        data={**task.data, "targets": targets, "inventory": dict(units)},
    )


def _crafts(tree: ExecutionTree) -> Iterator[HostCalled]:
    """The crafts that were carried out. Their arguments are right: every other call is answered with an error."""
    for node in tree.nodes.values():
        for step in node.steps:
            for call in step.calls:
                if call.name == "craft" and call.error is None and str(call.result).startswith(CRAFTED):
                    yield call
