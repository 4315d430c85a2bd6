"""Finished trees for tests of credit, grown from a short description through the events of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from recursive_agent.status import Status
from recursive_agent.trace.schema import Event, ModelCalled, NodeEnded, NodeStarted, RunEnded, RunStarted, Scored
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One agent, with its children. `judged` None: nobody scored it."""

    score: float | None = 1.0
    children: tuple[Agent, ...] = ()
    status: Status = Status.FINISHED
    judged: str | None = "scored"
    goal: str | None = None
    context: Any = None
    returns: Any = None
    result: Any = None
    tokens: int = 10
    versions: tuple[str | None, ...] = ()
    """One model call each."""


def agent(score: float | None = 1.0, *children: Agent, **more: Any) -> Agent:
    return Agent(score=score, children=children, **more)


def unscored(*children: Agent, **more: Any) -> Agent:
    return Agent(score=None, children=children, **{"judged": "unknown", **more})


@dataclass
class _Growth:
    started: list[Event] = field(default_factory=list)
    later: list[Event] = field(default_factory=list)
    scored: list[Event] = field(default_factory=list)


def grow(
    root: Agent, group: str | None = "g", *, run: str = "run", complete: bool = True, mirrored: bool = False
) -> ExecutionTree:
    """The tree of these agents. `mirrored`: siblings start in reverse order, as those launched together may."""
    growth = _Growth()
    _grow(growth, root, "0", mirrored)
    end = [RunEnded(time=1.0, status=root.status, usage=Usage())] if complete else []
    start = RunStarted(time=0.0, run=run, model="m", interface="tokens", group=group)
    return ExecutionTree.from_events([start, *growth.started, *growth.later, *growth.scored, *end])


def group(*roots: Agent, name: str | None = "g") -> list[ExecutionTree]:
    """One tree for each root, attempts at one task."""
    return [grow(root, name, run=f"{name}/{number}") for number, root in enumerate(roots)]


def _grow(growth: _Growth, made: Agent, node: str, mirrored: bool) -> None:
    goal = (f"goal {node}" if node != "0" else "task") if made.goal is None else made.goal
    parent = node.rpartition(".")[0] or None
    growth.started.append(
        NodeStarted(
            time=0.0,
            node=node,
            parent=parent,
            depth=node.count("."),
            goal=goal,
            context=made.context,
            returns=made.returns,
        )
    )
    growth.later.extend(_calls(made, node))
    for number, child in reversed([*enumerate(made.children)]) if mirrored else enumerate(made.children):
        _grow(growth, child, f"{node}.{number}", mirrored)
    if made.status is not Status.RUNNING:
        usage = Usage(calls=len(made.versions), completion_tokens=made.tokens)
        growth.later.append(NodeEnded(time=1.0, node=node, status=made.status, result=made.result, usage=usage))
    if made.judged is not None:
        growth.scored.append(Scored(time=1.0, node=node, score=made.score, status=made.judged))


def _calls(made: Agent, node: str) -> Iterator[ModelCalled]:
    for step, version in enumerate(made.versions, 1):
        yield ModelCalled(
            time=0.5,
            node=node,
            step=step,
            started=0.0,
            messages=(),
            text="",
            finish_reason="stop",
            usage=Usage(calls=1),
            model="m",
            version=version,
        )
