"""Time in a tree: which nodes ran at the same time, and the work that concurrency cannot shorten, in seconds and in calls."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .node import LAUNCH, Node

Interval = tuple[float, float]
"""Start and end, in seconds since the epoch."""


class CriticalPath(NamedTuple):
    """Seconds of the longest chain of work, and the nodes it runs through: each before the children it waits for."""

    seconds: float
    nodes: tuple[Node, ...]


class Part(NamedTuple):
    """A piece of the critical path, in seconds since the epoch: a `model` call, a `cell`, or a `call` of tools in one."""

    kind: str
    node: Node
    step: int
    start: float
    end: float


class _Item(NamedTuple):
    """A piece of a node's work, which weighs `weight` seconds (or calls); `child` is set for the work of a child."""

    start: float
    end: float
    weight: float
    child: Node | None
    kind: str = ""
    step: int = 0


def critical_path(root: Node) -> CriticalPath:
    """The longest chain of dependent work below `root`, which the run could not have been faster than.

    A node's work consists of *items*: each model call (weight: its duration), each stretch of a cell in which no child
    launched in that cell was alive (weight: its duration; tool calls are the cell's own work), and each child (weight:
    the child's own critical path). Item a comes before item b where a ended no later than b started; the critical path
    is the chain of items with the greatest total weight. Hence children that ran together count once, at the longest;
    the time a child waits for a slot at the endpoint does not count (a model call starts when it has its slot); and the
    path never exceeds the duration of `root`. What started after something else ended is taken to depend on it, which
    holds for the steps of a node and for launches awaited one after the other.
    """
    chains, seconds = _chains(root)
    return CriticalPath(seconds[root.id], tuple(_nodes(root, chains)))


def critical_parts(root: Node) -> list[Part]:
    """The work on the critical path below `root`, in order of time: what its seconds are made of.

    Of a sub-agent that went on after its parent had ended, the path counts no more than the time until then, while the parts
    are all of its own.
    """
    chains, _ = _chains(root)
    parts: list[Part] = []
    for node in _nodes(root, chains):
        for item in chains[node.id]:
            if item.kind == "cell":
                parts += _of_cell(node, item)
            elif item.child is None:
                parts.append(Part(item.kind, node, item.step, item.start, item.end))
    return sorted(parts, key=lambda part: (part.start, part.end))


def _of_cell(node: Node, item: _Item) -> Iterator[Part]:
    """A stretch of a cell: where a call of a tool was under way, and the rest."""
    step = next(step for step in node.steps if step.number == item.step)
    calls = [(call.started, call.time) for call in step.calls if call.name != LAUNCH]
    whole = (item.start, item.end)
    own = list(_without(whole, calls))
    yield from (Part("cell", node, item.step, start, end) for start, end in own)
    yield from (Part("call", node, item.step, start, end) for start, end in _without(whole, own))


def _chains(root: Node) -> tuple[dict[str, list[_Item]], dict[str, float]]:
    """By node id the heaviest chain of its items, and the seconds of it."""
    chains: dict[str, list[_Item]] = {}
    seconds: dict[str, float] = {}
    for node in reversed(list(root.walk())):  # children before parents, without recursion
        chains[node.id] = _heaviest_chain(list(_items(node, seconds)))
        seconds[node.id] = sum(item.weight for item in chains[node.id])
    return chains, seconds


def critical_steps(root: Node) -> int:
    """The number of model calls on the longest chain of calls of which each had to wait for the one before.

    The calls of one agent follow each other. A sub-agent stands between its launch and the delivery of its result: it comes
    after every call of its parent that had ended when it was launched, and before every call that began after its result was
    delivered; likewise between siblings. So in each agent the chain is the heaviest sequence of its own calls (1 each) and of
    its sub-agents (each as heavy as its own chain) of which none began before the one before it ended; sub-agents that are
    awaited together count once, at the longest. A sub-agent whose result was never delivered, because its parent finished
    without waiting for it, counts only where the parent did not finish.

    An agent that waits for a sub-agent of another one (see `HostCalled.shared`) waits for those of its calls that began
    meanwhile; a sub-agent that goes on for others after its parent has ended counts in its parent up to then.

    A single agent has as many critical steps as calls; the number never exceeds the calls of the tree.
    """
    nodes = {node.id: node for node in root.walk()}
    return _steps_between(root, nodes, -math.inf, math.inf)


def _steps_between(root: Node, nodes: Mapping[str, Node] | None, since: float, until: float) -> int:
    """Critical steps of the calls below `root` that began in an interval; waits for `nodes` of other agents count too."""
    weights: dict[str, int] = {}
    for node in reversed(list(root.walk())):  # children before parents, without recursion
        items = [_Item(call.started, call.time, 1, None) for call in node.model_calls if since <= call.started < until]
        launches = {}
        for made in (made for step in node.steps for made in step.calls if made.name == LAUNCH):
            if made.shared:
                other = None if nodes is None or made.child is None else nodes.get(made.child)
                if other is not None and not (node.finished and made.error == "cancelled"):
                    weight = _steps_between(other, None, made.started, made.time)
                    items.append(_Item(made.started, made.time, weight, other))
            elif made.child is not None:
                launches[made.child] = made
        for child in node.children:
            call = launches.get(child.id)
            if node.finished and (call is None or call.error == "cancelled"):
                continue  # nobody waited for it
            start, end = (child.started, child.end) if call is None else (call.started, call.time)
            outlives = child.end > node.end
            weight = _steps_between(child, None, since, min(until, node.end)) if outlives else weights[child.id]
            items.append(_Item(start, end, weight, child))
        weights[node.id] = round(sum(item.weight for item in _heaviest_chain(items)))
    return weights[root.id]


def overlapping(intervals: Sequence[Interval]) -> list[bool]:
    """For each interval whether it shares time with another one."""
    order = sorted(range(len(intervals)), key=lambda i: intervals[i])
    together = [False] * len(intervals)
    latest = -1
    for i in order:
        if latest >= 0 and intervals[i][0] < intervals[latest][1]:
            together[i] = together[latest] = True
        if latest < 0 or intervals[i][1] > intervals[latest][1]:
            latest = i
    return together


def _items(node: Node, seconds: dict[str, float]) -> Iterator[_Item]:
    for child in node.children:
        end = min(child.end, node.end)  # one that others wait for as well may go on after its parent
        yield _Item(child.started, end, min(seconds[child.id], max(0.0, end - child.started)), child)
    for step in node.steps:
        for call in step.model_calls:
            yield _Item(call.started, call.time, max(0.0, call.time - call.started), None, "model", step.number)
        if step.cell is not None:
            busy = [
                (child.started, child.end)
                for child in node.children
                if child.launched_at is not None and child.launched_at.step == step.number
            ]
            for start, end in _without((step.cell.started, step.cell.time), busy):
                yield _Item(start, end, end - start, None, "cell", step.number)


def _without(whole: Interval, holes: Sequence[Interval]) -> Iterator[Interval]:
    """The stretches of `whole` that lie in none of `holes`."""
    at, end = whole
    for hole_start, hole_end in sorted(holes):
        if min(hole_start, end) > at:
            yield at, min(hole_start, end)
        at = max(at, hole_end)
    if at < end:
        yield at, end


def _heaviest_chain(items: list[_Item]) -> list[_Item]:
    """Weighted interval scheduling, O(n log n): the heaviest set of items that do not overlap, in order of time."""
    items.sort(key=lambda item: (item.end, item.start))
    ends = [item.end for item in items]
    best = [0.0]  # best[i]: heaviest chain among the first i items
    previous: list[int] = []
    for i, item in enumerate(items):
        previous.append(bisect_right(ends, item.start, 0, i))
        best.append(max(best[i], best[previous[i]] + item.weight))
    chain: list[_Item] = []
    i = len(items)
    while i:
        if best[i] == best[i - 1]:
            i -= 1
        else:
            chain.append(items[i - 1])
            i = previous[i - 1]
    return chain[::-1]


def _nodes(root: Node, chains: dict[str, list[_Item]]) -> Iterator[Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(item.child for item in reversed(chains[node.id]) if item.child is not None)
