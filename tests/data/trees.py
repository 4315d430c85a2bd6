"""Recorded runs to be scored: a goal, what each agent did, and a file of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recursive_agent.status import Status
from recursive_agent.trace.schema import Event, HostCalled, RunEnded, Scored
from recursive_agent.trace.store import TraceWriter
from recursive_agent.trace.tree import ExecutionTree, Node
from recursive_agent.usage import Usage
from tests.trace.events import cell_ran, model_called, node_ended, node_started, run_started

WHOLE = RunEnded(time=9.0, status=Status.FINISHED, usage=Usage())


def events(*nodes: dict[str, Any], scores: dict[str, float] | None = None, **run: Any) -> list[Event]:
    """A whole run. A node is {"id", "goal", …}: `result` or `status`, `context`, and `code`, `output` of its one step."""
    started: list[Event] = [run_started(1.0, **run)]
    ended: list[Event] = []
    for node in nodes:
        name = node["id"]
        started.append(
            node_started(name, 1.0, goal=node.get("goal", f"goal {name}"), context=node.get("context"), step=1, call=1)
        )
        ended.append(model_called(name, 1, 1.0, 2.0))
        for tool, result in node.get("calls", ()):
            ended.append(HostCalled(time=2.0, node=name, step=1, call=2, started=2.0, name=tool, result=result))
        ended.append(cell_ran(name, 1, 2.0, 3.0, code=node.get("code", "finish(1)"), output=node.get("output", "")))
        ended.append(
            node_ended(name, 4.0, status=node.get("status", Status.FINISHED), result=node.get("result", f"done {name}"))
        )
    given: list[Event] = [Scored(time=9.5, node=name, score=score) for name, score in (scores or {}).items()]
    return [*started, *ended, WHOLE, *given]


def tree(*nodes: dict[str, Any], **run: Any) -> ExecutionTree:
    return ExecutionTree.from_events(events(*nodes, **run))


def leaf(**fields: Any) -> Node:
    return tree({"id": "0", **fields}).root


def write(path: Path, happened: list[Event]) -> Path:
    with TraceWriter(path) as writer:
        for event in happened:
            writer.append(event)
    return path
