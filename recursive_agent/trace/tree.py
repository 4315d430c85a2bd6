"""`ExecutionTree`: what happened in one run, built from its events. The only reader of a trace.

The same code serves a finished file, a live run (apply events as they come) and the file of a process that was killed:
a node whose end was never seen has the status RUNNING, and the tree is not `complete`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Self

from ..errors import TraceError
from ..status import Status
from ..usage import Usage
from .node import LAUNCH, Clock, LaunchPoint, Node, Step
from .schema import (
    ROOT,
    ApprovalAnswered,
    ApprovalAsked,
    CallBegan,
    CellRan,
    ClockRead,
    Event,
    HostCalled,
    ModelCalled,
    NodeEnded,
    NodeResumed,
    NodeStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    Scored,
    Steered,
    Waiting,
)
from .store import read_events
from .timing import CriticalPath, critical_path, critical_steps, overlapping

__all__ = ["ExecutionTree", "LaunchPoint", "Node", "Step", "TreeBuilder"]


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A further question to the root that it has not answered, and what there was before it."""

    question: str
    returns: Any
    """JSON schema of the answer, or None."""
    step: int
    """The root's last step before it."""
    usage: Usage
    agents: int
    children: int
    """Sub-agents of the root."""


class ExecutionTree:
    """One run: the tree of agents, with timing, usage and scores."""

    def __init__(self, start: RunStarted) -> None:
        self.run = start.run
        self.model = start.model
        self.interface = start.interface
        self.group = start.group
        self.seed = start.seed
        self.limits: Mapping[str, Any] = start.limits
        """Those of the whole run; after a resumption, the new ones."""
        self.first_limits: Mapping[str, Any] = start.limits
        self.settings: Mapping[str, Any] = start.settings
        self.origin = start.origin
        self.started = start.time
        self.ended: float | None = None
        self.incomplete: str | None = None
        """Which parts of the run the trace does not hold, and why; None where it holds everything."""
        self.resumptions: list[RunResumed] = []
        """Each time that the run went on after its process had died or it had ended."""
        self.last_question: OpenQuestion | None = None
        """The last further question to the root (see `Agent.follow_up`)."""
        self.open_question: OpenQuestion | None = None
        """The question that the run goes on with (see `Agent.follow_up`), until it is answered."""
        self.nodes: dict[str, Node] = {}
        """All nodes by id, in launch order (a parent before its children)."""
        self.steered: list[Steered] = []
        """What the caller did to the run while it went on, in order."""
        self.approvals: list[ApprovalAnswered] = []
        """The answers about calls that waited for approval, in order."""
        self.asked: dict[str, list[ApprovalAsked]] = {}
        """The calls that wait for approval now, by node."""
        self.waits: dict[str | None, Waiting] = {}
        """During a run, what agents wait for now, by node; under None, that all calls wait for the endpoint."""
        self._clock = Clock(start.time)

    def __repr__(self) -> str:
        status = self.nodes[ROOT].status if ROOT in self.nodes else Status.RUNNING
        return f"<ExecutionTree {self.run} {status}, {len(self.nodes)} nodes>"

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> ExecutionTree:
        """The tree of these events. Raises TraceError if they do not form one."""
        builder = TreeBuilder()
        for event in events:
            builder.add(event)
        if builder.tree is None:
            raise TraceError("The trace is empty: not even the start of a run was written.")
        return builder.tree

    @classmethod
    def load(cls, path: str | Path) -> ExecutionTree:
        """The tree of a trace file. Raises TraceError, with the file's name, if it cannot be read."""
        try:
            return cls.from_events(read_events(path))
        except TraceError as error:
            if str(path) in str(error):
                raise
            raise TraceError(f"{path}: {error}") from error

    @property
    def root(self) -> Node:
        """The first node. Raises TraceError if the run stopped before it started."""
        try:
            return self.nodes[ROOT]
        except KeyError:
            raise TraceError(f"Run {self.run} stopped before its first agent was started.") from None

    @property
    def status(self) -> Status:
        """The root's status."""
        return self.root.status

    @property
    def complete(self) -> bool:
        """Whether the run has ended."""
        return self.ended is not None

    @property
    def duration(self) -> float:
        """Seconds from the first event to the last one of the run. Scoring does not count, during the run or later."""
        return max(0.0, self._clock.now - self.started)

    @property
    def last_time(self) -> float:
        """Time of the last event of the run, in seconds since the epoch."""
        return self._clock.now

    @property
    def usage(self) -> Usage:
        """The sum over all nodes."""
        return reduce(add, (node.usage for node in self.nodes.values()), Usage())

    @property
    def usage_by_model(self) -> dict[str, Usage]:
        """The sums over the nodes of each model, by its name in `Agent(models=...)`, or by the run's one model."""
        sums: dict[str, Usage] = {}
        for node in self.nodes.values():
            name = self.model if node.model is None else node.model
            sums[name] = sums.get(name, Usage()) + node.usage
        return sums

    @property
    def shared_launches(self) -> int:
        """How many calls of `launch_subagent` got the result of a node that another call had launched."""
        return sum(call.shared for node in self.nodes.values() for step in node.steps for call in step.calls)

    @property
    def max_depth(self) -> int:
        """Depth of the deepest node that exists; the root's is 0."""
        return max((node.depth for node in self.nodes.values()), default=0)

    @property
    def launches(self) -> int:
        """How many nodes were launched by another node."""
        return max(0, len(self.nodes) - 1)

    @property
    def refused_launches(self) -> int:
        """How many calls of `launch_subagent` failed to start a node (because of a limit or wrong arguments)."""
        return sum(
            call.name == LAUNCH and call.child is None
            for node in self.nodes.values()
            for step in node.steps
            for call in step.calls
        )

    @property
    def concurrent_share(self) -> float:
        """Share, in [0, 1], of launched nodes that ran at the same time as a sibling; 0 without launched nodes."""
        together = sum(
            sum(overlapping([(child.started, child.end) for child in node.children])) for node in self.nodes.values()
        )
        return together / self.launches if self.launches else 0.0

    @property
    def critical_path(self) -> CriticalPath:
        """The chain of work that determines the minimum time of the run; see `critical_path` of `trace.timing`."""
        return critical_path(self.root)

    @property
    def critical_steps(self) -> int:
        """Model calls on the longest chain of calls that waited for each other; see `critical_steps` of `trace.timing`."""
        return critical_steps(self.root)

    def walk(self) -> Iterator[Node]:
        """All nodes, each before its children, siblings in launch order."""
        return self.root.walk() if ROOT in self.nodes else iter(())

    def scored(self) -> Sequence[Node]:
        """The nodes that have a score."""
        return [node for node in self.nodes.values() if node.score is not None]

    def apply(self, event: Event) -> None:
        """Add the next event. Raises TraceError for an event that is not possible here."""
        match event:
            case NodeStarted():
                self._start(event)
            case ModelCalled():
                node = self._node(event.node, event)
                node.step(event.step).take(event)
                node.usage += event.usage
                self.waits.pop(event.node, None)
            case HostCalled():
                self._node(event.node, event).step(event.step).calls.append(event)
            case CellRan():
                self._node(event.node, event).step(event.step).cell = event
            case ClockRead():
                self._node(event.node, event).step(event.step).clock.extend(event.values)
            case NodeEnded():
                node = self._node(event.node, event)
                node.status, node.result, node.reason = event.status, event.result, event.reason
                node.usage, node.ended = event.usage, event.time
                self._waits_no_more(node)
                if node.parent is None and node.finished:
                    self.open_question = None
            case Steered():
                if event.node is not None:
                    self._node(event.node, event)
                self.steered.append(event)
            case ApprovalAsked():
                self._node(event.node, event)
                self.asked.setdefault(event.node, []).append(event)
            case ApprovalAnswered():
                self._node(event.node, event)
                self.approvals.append(event)
                left = [asked for asked in self.asked.pop(event.node, []) if asked.call != event.call]
                if left:
                    self.asked[event.node] = left
            case RunEnded():
                self.waits.clear()
                self.ended, self.incomplete = event.time, event.incomplete
                if any(node.score_status is not None for node in self.nodes.values()):
                    return  # the run ended when scoring began; what scores waited for, a judge say, is none of its time
            case CallBegan():
                self._node(event.node, event).step(event.step).begun[event.call] = event.key
            case RunResumed():
                self.ended = None
                self.limits = event.limits or self.limits
                self.resumptions.append(event)
                if event.question is not None:
                    self.open_question = self.last_question = self.ask(event.question, event.returns)
            case NodeResumed():
                node = self._node(event.node, event)
                node.resume(event.step, event.redo)
                self._waits_no_more(node)
            case Waiting():
                if event.reason is None:
                    self.waits.pop(event.node, None)
                else:
                    self.waits[event.node] = event
                return
            case Scored():
                node = self._node(event.node, event)
                node.score, node.score_status, node.score_source = event.score, event.status, event.source
                node.trainable = node.trainable and event.trainable
                return  # may come days later: no part of the run's time
            case RunStarted():
                raise TraceError(f"Two runs in one trace: {self.run}, then {event.run}.")
            case _:
                raise TraceError(f"An event that no tree knows: {type(event).__name__}.")
        self._clock.now = max(self._clock.now, event.time)

    def ask(self, question: str, returns: Any) -> OpenQuestion:
        """A further question to the root, with what there is before it."""
        last = max((step.number for step in self.root.steps), default=0)
        return OpenQuestion(question, returns, last, self.usage, len(self.nodes), len(self.root.children))

    def _start(self, event: NodeStarted) -> None:
        if event.node in self.nodes:
            raise TraceError(f"Node {event.node} started twice.")
        node = Node(
            id=event.node,
            parent=event.parent,
            depth=event.depth,
            goal=event.goal,
            context=event.context,
            returns=event.returns,
            max_steps=event.max_steps,
            max_tokens=event.max_tokens,
            model=event.model,
            trainable=event.trainable,
            launched_at=None if event.step is None or event.call is None else LaunchPoint(event.step, event.call),
            started=event.time,
            _clock=self._clock,
        )
        if event.parent is not None:
            # Those launched together may start in any order; their numbers are the order of the launches.
            insort(self._node(event.parent, event).children, node, key=_launch_number)
        self.nodes[event.node] = node

    def _waits_no_more(self, node: Node) -> None:
        self.waits.pop(node.id, None)
        self.asked.pop(node.id, None)

    def _node(self, name: str, event: Event) -> Node:
        try:
            return self.nodes[name]
        except KeyError:
            raise TraceError(f"A {event.kind} event speaks of node {name}, which never started.") from None


def _launch_number(node: Node) -> int:
    number = node.id.rpartition(".")[2]
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise TraceError(f"Node {node.id[:80]!r} has a parent, and an id that does not end in its number.")
    return int(number)


class TreeBuilder:
    """Builds a tree event by event; `tree` is None until the run has started."""

    def __init__(self) -> None:
        self.tree: ExecutionTree | None = None

    def add(self, event: Event) -> Self:
        """Add the next event. Raises TraceError for an event that is not possible here."""
        if self.tree is not None:
            self.tree.apply(event)
        elif isinstance(event, RunStarted):
            self.tree = ExecutionTree(event)
        else:
            raise TraceError(f"The trace begins with a {event.kind} event instead of the start of a run.")
        return self
