"""The events that a tree was built from, as far as they still hold: the beginning of the record of a fork."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from ..errors import ConfigurationError
from .node import Node, Step
from .schema import ROOT, CallBegan, ClockRead, Event, NodeEnded, NodeStarted, RunEnded, RunResumed, RunStarted
from .tree import ExecutionTree


def events_of(tree: ExecutionTree, run: str, cuts: dict[str, int] | None = None, *, whole: bool = False) -> list[Event]:
    """The record of a tree as the beginning of a run of its own, called `run`.

    `cuts` says for some agents which step is the first that no longer stands (see `cuts_before`): they have not ended. With
    `whole` the end of the run is there too.
    """
    cuts = cuts or {}
    waiting = {tree.nodes[node].parent for node in cuts}
    events: list[Event] = []
    left_out: set[str] = set()
    for node in tree.walk():
        if _is_late(node, cuts, waiting) or node.parent in left_out:
            left_out.add(node.id)
            continue
        events += _of_node(node, cuts.get(node.id), set(cuts))
    events += (_resumption(tree, each, cuts) for each in tree.resumptions)
    events.sort(key=lambda event: event.time)  # stable, so that what an agent did stays in its order
    start = RunStarted(
        time=tree.started,
        run=run,
        model=tree.model,
        interface=tree.interface,
        group=tree.group,
        seed=tree.seed,
        limits=tree.first_limits,
        settings={"cell_seed": tree.run, **tree.settings},
        origin=tree.run,
    )
    end = RunEnded(time=tree.last_time, status=tree.status, usage=tree.usage, incomplete=tree.incomplete)
    return [start, *events, *([end] if whole else [])]


def _is_late(node: Node, cuts: Mapping[str, int], waiting: Collection[str | None]) -> bool:
    """Whether an agent was launched in a step of its parent that does not stand; of a cell that waits, its launches do."""
    above, launched = cuts.get(node.parent or ""), node.launched_at
    if above is None or launched is None or node.id in cuts:
        return False
    return launched.step > above or (launched.step == above and node.parent not in waiting)


def _resumption(tree: ExecutionTree, event: RunResumed, cuts: Mapping[str, int]) -> RunResumed:
    """A resumption, with the limits under which agents were launched; without its question where that comes after the cut."""
    cut = cuts.get(ROOT)
    before = max((s.number for s in tree.root.steps if s.model is not None and s.model.time <= event.time), default=0)
    return event if cut is None or cut > before else replace(event, question=None, returns=None)


def cuts_before(tree: ExecutionTree, node: str, step: int) -> dict[str, int]:
    """Where the agents of a tree are cut for a fork at this step of `node`: it has not taken the step, and all above it are
    in the step in which they wait for it. Raises ConfigurationError where there is no such step."""
    if node not in tree.nodes:
        raise ConfigurationError(f"the run has no agent {node!r}; `rao trace show` lists them")
    last = max((known.number for known in tree.nodes[node].steps), default=0)
    if not 1 <= step <= last + 1:
        raise ConfigurationError(f"agent {node} has {last} steps: step must be between 1 and {last + 1}, not {step}")
    cuts = {node: step}
    child = tree.nodes[node]
    while child.parent is not None and child.launched_at is not None:
        cuts[child.parent] = child.launched_at.step
        child = tree.nodes[child.parent]
    return cuts


def _of_node(node: Node, cut: int | None, waited_for: set[str]) -> Iterator[Event]:
    yield NodeStarted(
        time=node.started,
        node=node.id,
        parent=node.parent,
        depth=node.depth,
        goal=node.goal,
        step=None if node.launched_at is None else node.launched_at.step,
        call=None if node.launched_at is None else node.launched_at.call,
        context=node.context,
        returns=node.returns,
        max_steps=node.max_steps,
        max_tokens=node.max_tokens,
        model=node.model,
        trainable=node.trainable,
    )
    waits = any(child.id in waited_for for child in node.children)
    for step in node.steps:
        if cut is None or step.number < cut:
            yield from _of_step(node.id, step)
        elif waits and step.number == cut:  # the cell in which it waits for the child: what else was answered stands
            kept = [call for call in step.calls if call.child not in waited_for]
            yield from _of_step(node.id, replace(step, cell=None, calls=kept))
    if cut is None and node.ended is not None:
        yield NodeEnded(
            time=node.ended,
            node=node.id,
            status=node.status,
            result=node.result,
            reason=node.reason,
            usage=node.usage,
        )


def _of_step(node: str, step: Step) -> Iterator[Event]:
    yield from step.model_calls
    at = step.model.time if step.model is not None else 0.0
    if step.clock and step.cell is not None:  # the log of a whole cell; of a part of one it is not known how much holds
        yield ClockRead(time=at, node=node, step=step.number, values=tuple(step.clock))
    for number, key in step.begun.items():
        yield CallBegan(time=at, node=node, step=step.number, call=number, key=key)
    yield from step.calls
    if step.cell is not None:
        yield step.cell
