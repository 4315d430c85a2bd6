"""From the events of a run to its spans, live and recorded alike.

    segment 0: invoke_agent rao                      the root; its parent is the caller's span, if there is one
               ├─ chat MODEL                         one model call: all usage is on these
               └─ execute_tool python                one cell
                  ├─ execute_tool search             a call of a tool
                  └─ execute_tool launch_subagent    a launch
                     └─ invoke_agent rao             a sub-agent, and so on

A *segment* is what one process did of a run: a run that is resumed has one for each resumption, with a trace of its own
that links to the one before. Each segment has one root, and every parent is in its segment.

A span lies within its parent in time, but for these: a call that its cell did not await may outlast the cell, and a
sub-agent that others wait for as well (`share_identical`) may outlast the agent that launched it. The span of a cell begins
with its first call, where a task that an earlier cell left behind calls before the cell does.

What never ended in the record (the process was killed, the agent was cancelled in the middle of a cell) ends with its
agent, as an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...status import Status
from ..node import LAUNCH
from ..observer import Work
from ..schema import (
    ROOT,
    ApprovalAnswered,
    CellRan,
    Event,
    HostCalled,
    ModelCalled,
    NodeEnded,
    NodeResumed,
    NodeStarted,
    RunResumed,
    RunStarted,
    Scored,
    Steered,
)
from ..tree import ExecutionTree
from . import names
from .attributes import PYTHON, About, call_error, cell_error, of_call, of_cell, of_chat, of_node, of_tree
from .content import Content
from .span import Attribute, Beginning, Key, Moment, SpanData, call_path, cell_path, chat_path, node_path

INTERRUPTED = "interrupted"
"""`error.type` of what had no end when its process was gone."""
UNFINISHED = "cancelled"
"""`error.type` of what had no end when its agent ended."""


@dataclass(slots=True)
class _Open:
    """A span that has begun: a cell, a call or a model call of an agent."""

    key: Key
    parent: Key
    name: str
    started: float
    attributes: dict[str, Attribute]
    client: bool = False
    failed: str | None = None
    """The class of the exception that ended it, where no event will."""
    ended: float | None = None


@dataclass(slots=True)
class _Agent:
    """An agent of this segment."""

    start: NodeStarted
    key: Key
    parent: Key | None
    began: float
    steps: int = 0
    open: dict[str, _Open] = field(default_factory=dict)
    """By path without a count."""
    done: dict[str, Key] = field(default_factory=dict)
    """Its ended spans by path without a count: the last of each."""
    launches: dict[str, Key] = field(default_factory=dict)
    """Its ended launches by sub-agent: one that others wait for may start after that."""
    counts: dict[str, int] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    links: list[tuple[str, Key]] = field(default_factory=list)
    answers: dict[tuple[int, int], ApprovalAnswered] = field(default_factory=dict)


class SpanMapper:
    """Takes the events of one run in order, and gives the spans that they end.

    `scores` are the known scores by agent, where the run is over; a live run learns them when its agents' spans have ended, so
    that the root has them as events. `first_calls` tells of a recorded run when the first call of each step began, by segment,
    agent and step: a task that an earlier cell left behind may call before the cell begins, and be recorded after its end.
    """

    def __init__(
        self,
        content: Content,
        scores: Mapping[str, float] | None = None,
        first_calls: Mapping[tuple[int, str, int], float] | None = None,
    ) -> None:
        self.segment = 0
        self._content = content
        self._scores = scores or {}
        self._first_calls = first_calls or {}
        self._about: About | None = None
        self._limits: Mapping[str, Any] = {}
        self._known: dict[str, NodeStarted] = {}
        self._last: dict[str, Key] = {}
        """The latest span of each agent, of earlier segments too."""
        self._agents: dict[str, _Agent] = {}
        """Agents that live."""
        self._gone: dict[str, _Agent] = {}
        """Agents of this segment that have ended: what comes late finds its parent."""
        self._root: SpanData | None = None
        """The root's span, kept until the run is over: scores come after its end."""
        self._evaluated: dict[str, Moment] = {}
        """The latest score of each agent."""
        self._question: str | None = None
        self._offset = 0.0
        self._now = 0.0

    @property
    def about(self) -> About:
        """The run; it has begun."""
        assert self._about is not None, "the run has not begun"
        return self._about

    def wall(self, time: float) -> float:
        """A time of an event as real time: events of a resumed run leave out how long it lay."""
        return time + self._offset

    def add(self, event: Event) -> list[SpanData]:
        """The spans that end with this event."""
        if not isinstance(event, Scored):  # may come days later
            self._now = max(self._now, self.wall(event.time))
        match event:
            case RunStarted():
                self._about, self._limits = About(event), event.limits
            case NodeStarted():
                self._known[event.node] = event
                self._begin(event, self.wall(event.time))
            case NodeResumed():
                self._resume(event)
            case ModelCalled():
                return self._chat(event)
            case CellRan():
                return self._cell(event)
            case HostCalled():
                return self._call(event)
            case NodeEnded():
                return self._end(event)
            case ApprovalAnswered() if (agent := self._agents.get(event.node)) is not None:
                agent.answers[event.step, event.call] = event
            case Steered():
                self._steered(event)
            case Scored():
                self._scored(event)
            case RunResumed():
                return self._next_segment(event)
        return []

    def close(self, record: ExecutionTree | None = None) -> list[SpanData]:
        """The spans that are left when the run is over, or its record ends."""
        spans = self._interrupt()
        if self._root is not None:
            more = {} if record is None else of_tree(record)
            score = self._evaluated.get(ROOT)
            if score is not None and (value := score.attributes.get(names.EVALUATION_SCORE)) is not None:
                more["rao.score"] = value
            moments = [*self._root.moments, *self._evaluated.values()]
            spans.append(replace(self._root, attributes={**self._root.attributes, **more}, moments=moments))
        self._root, self._evaluated = None, {}
        return spans

    # -- what begins ------------------------------------------------------------------------------------------------

    def key_of(self, work: Work) -> Key | None:
        """Begin work that is seen before its event; None for an agent that is not known."""
        agent = self._agents.get(work.node)
        if agent is None:
            return None
        if work.kind == "model":
            return self._open_chat(agent, work.step, work.name, self.wall(work.started)).key
        if work.kind == "cell":
            return self._open_cell(agent, work.step, self.wall(work.started)).key
        return self._open_call(agent, work.step, work.call, work.name, self.wall(work.started)).key

    def failed(self, work: Work, error: str, at: float) -> None:
        """A model call or a cell that was seen to begin has failed with this class of error, at this real time."""
        agent = self._agents.get(work.node)
        path = chat_path(work.node, work.step, work.name) if work.kind == "model" else cell_path(work.node, work.step)
        if agent is not None and work.kind != "call" and (opened := agent.open.get(path)) is not None:
            opened.failed, opened.ended = error, at

    def begun(self, key: Key) -> Beginning | None:
        """A span that has begun and not ended."""
        node, _, rest = key.path.partition("/")
        agent = self._agents.get(node)
        if agent is None:
            return None
        if not rest:
            name = f"{names.INVOKE_AGENT} {self.about.agent_name}"
            return Beginning(key, agent.parent, name, False, agent.began, self.about.node(agent.start), agent.links)
        found = next((each for each in agent.open.values() if each.key == key), None)
        if found is None:
            return None
        return Beginning(key, found.parent, found.name, found.client, found.started, found.attributes, ())

    def node_key(self, node: str) -> Key | None:
        """The key of an agent that lives."""
        agent = self._agents.get(node)
        return None if agent is None else agent.key

    def _begin(self, event: NodeStarted, time: float) -> _Agent:
        parent = self._parent_of(event, time)
        agent = _Agent(event, Key(self.segment, node_path(event.node)), parent, time)
        self._agents[event.node] = agent
        self._gone.pop(event.node, None)
        if event.parent is None and self.about.origin is not None and self.segment == 0:
            agent.links.append((self.about.origin, Key(0, node_path(ROOT))))
        self._last[event.node] = agent.key
        return agent

    def _parent_of(self, event: NodeStarted, time: float) -> Key | None:
        if event.parent is None:
            return None
        above = self._agents.get(event.parent) or self._gone.get(event.parent)
        if above is None or event.step is None or event.call is None:
            return self._segment_root()
        if event.node in above.launches:
            return above.launches[event.node]
        path = call_path(event.parent, event.step, event.call)
        if path in above.open:
            return above.open[path].key
        if event.parent in self._gone:
            return above.key
        return self._open_call(above, event.step, event.call, LAUNCH, time).key

    def _segment_root(self) -> Key | None:
        root = self._agents.get(ROOT) or self._gone.get(ROOT)
        return None if root is None else root.key

    def _resume(self, event: NodeResumed) -> None:
        time = self.wall(event.time)
        if (agent := self._agents.get(event.node)) is not None:  # it does its steps from there anew
            agent.moments.append(Moment("rao.redo", time, {"rao.step": event.step}))
            agent.done = {path: key for path, key in agent.done.items() if int(path.split("/")[1]) < event.step}
            return
        known = self._known.get(event.node)
        if known is None:
            return
        if known.parent is None and self._question is not None:
            known = replace(known, goal=self._question)
        before = self._last.get(event.node)
        agent = self._begin(known, time)
        if before is not None and before != agent.key:
            agent.links.append((self.about.start.run, before))

    def _next_segment(self, event: RunResumed) -> list[SpanData]:
        spans = self.close()
        self.segment += 1
        self._offset = event.at - event.time
        self._now = event.at
        self._gone.clear()
        self._question = event.question
        self._limits = event.limits or self._limits
        return spans

    def _open(self, agent: _Agent, path: str, parent: Key, name: str, started: float, **more: Any) -> _Open:
        count = agent.counts.get(path, 0)
        key = Key(agent.key.segment, path if not count else f"{path}#{count}")
        opened = agent.open[path] = _Open(key, parent, name, started, **more)
        return opened

    def _open_chat(self, agent: _Agent, step: int, purpose: str, started: float) -> _Open:
        path = chat_path(agent.start.node, step, purpose)
        if path in agent.open:
            return agent.open[path]
        attributes = self.about.chat(agent.start, step)
        name = f"{names.CHAT} {attributes[names.REQUEST_MODEL]}"
        return self._open(agent, path, agent.key, name, started, attributes=attributes, client=True)

    def _open_cell(self, agent: _Agent, step: int, started: float) -> _Open:
        path = cell_path(agent.start.node, step)
        if path in agent.open:
            return agent.open[path]
        attributes = self.about.tool(agent.start, step, PYTHON)
        return self._open(agent, path, agent.key, f"{names.EXECUTE_TOOL} {PYTHON}", started, attributes=attributes)

    def _open_call(self, agent: _Agent, step: int, call: int, name: str, started: float) -> _Open:
        path, cell = call_path(agent.start.node, step, call), cell_path(agent.start.node, step)
        if path in agent.open:
            return agent.open[path]
        parent = self._cell_of(agent, step, started)
        attributes = {**self.about.tool(agent.start, step, name), names.TOOL_CALL_ID: f"{cell}/{call}"}
        return self._open(agent, path, parent, f"{names.EXECUTE_TOOL} {name}", started, attributes=attributes)

    def _cell_of(self, agent: _Agent, step: int, started: float) -> Key:
        """The cell that a call belongs to; where it has ended, the call outlasts it."""
        path = cell_path(agent.start.node, step)
        if path not in agent.open and path in agent.done:
            return agent.done[path]
        opened = self._open_cell(agent, step, started)
        opened.started = min(opened.started, started)
        return opened.key

    # -- what ends --------------------------------------------------------------------------------------------------

    def _finished(
        self,
        agent: _Agent,
        path: str,
        started: float,
        ended: float,
        attributes: Mapping[str, Attribute],
        error: str | None,
    ) -> SpanData:
        opened = agent.open.pop(path)
        agent.done[path] = opened.key
        agent.counts[path] = agent.counts.get(path, 0) + 1
        return SpanData(
            key=opened.key,
            parent=opened.parent,
            name=opened.name,
            client=opened.client,
            started=started,
            ended=max(started, ended),
            attributes={**opened.attributes, **attributes},
            error=error,
        )

    def _chat(self, event: ModelCalled) -> list[SpanData]:
        agent = self._agents.get(event.node)
        if agent is None:
            return []
        started = self.wall(event.started)
        self._open_chat(agent, event.step, event.purpose, started)
        agent.steps = max(agent.steps, event.step)
        path = chat_path(event.node, event.step, event.purpose)
        return [self._finished(agent, path, started, self.wall(event.time), of_chat(event, self._content), None)]

    def _cell(self, event: CellRan) -> list[SpanData]:
        agent = self._agents.get(event.node)
        if agent is None:
            return []
        opened = self._open_cell(agent, event.step, self.wall(event.started))
        began = min(event.started, self._first_calls.get((self.segment, event.node, event.step), event.started))
        started = min(opened.started, self.wall(began))
        attributes, path = of_cell(event, self._content), cell_path(event.node, event.step)
        return [self._finished(agent, path, started, self.wall(event.time), attributes, cell_error(event))]

    def _call(self, event: HostCalled) -> list[SpanData]:
        agent = self._agents.get(event.node)
        if agent is None:  # it comes after the end of its agent, with which its span has ended
            return []
        opened = self._open_call(agent, event.step, event.call, event.name, self.wall(event.started))
        started = min(opened.started, self.wall(event.started))
        if (cell := agent.open.get(cell_path(event.node, event.step))) is not None and cell.key == opened.parent:
            cell.started = min(cell.started, started)  # known so far only from the agent that was launched in it
        answer = agent.answers.pop((event.step, event.call), None)
        if event.child is not None and not event.shared:
            agent.launches[event.child] = opened.key
        error = None if event.error is None else call_error(event.error)
        path, attributes = call_path(event.node, event.step, event.call), of_call(event, answer, self._content)
        return [self._finished(agent, path, started, self.wall(event.time), attributes, error)]

    def _end(self, event: NodeEnded) -> list[SpanData]:
        agent = self._agents.pop(event.node, None)
        if agent is None:
            return []
        return self._ended(agent, event, self.wall(event.time), UNFINISHED)

    def _ended(self, agent: _Agent, event: NodeEnded, time: float, left: str) -> list[SpanData]:
        spans = list(self._left(agent, time, left))
        self._gone[event.node] = agent
        attributes = {
            **self.about.node(agent.start),
            **of_node(event, agent.start.goal, agent.steps, self._content),
        }
        if agent.parent is None:
            attributes = {**self.about.run(self._limits), **attributes}
        if (score := self._scores.get(event.node)) is not None:
            attributes["rao.score"] = score
        error = None if event.status.finished else left if event.status is Status.RUNNING else event.status.value
        if error is not None:
            attributes[names.ERROR_TYPE] = error
        span = SpanData(
            key=agent.key,
            parent=agent.parent,
            name=f"{names.INVOKE_AGENT} {self.about.agent_name}",
            started=agent.began,
            ended=max(agent.began, time),
            attributes=attributes,
            error=error,
            moments=agent.moments,
            links=agent.links,
        )
        if event.node == ROOT:
            self._root = span
            return spans
        return [*spans, span]

    def _left(self, agent: _Agent, time: float, left: str) -> Iterable[SpanData]:
        """What of an agent has no end of its own: calls first, then the cells that they are in."""
        for path in sorted(agent.open, key=lambda each: (-each.count("/"), each)):
            opened = agent.open[path]
            error = opened.failed or left
            ended = time if opened.ended is None else opened.ended
            yield self._finished(agent, path, opened.started, ended, {names.ERROR_TYPE: error}, error)

    def _interrupt(self) -> list[SpanData]:
        """End whoever lives, the deepest first: the process is gone."""
        spans: list[SpanData] = []
        for agent in sorted(self._agents.values(), key=lambda each: -each.start.depth):
            del self._agents[agent.start.node]
            event = NodeEnded(time=self._now, node=agent.start.node, status=Status.RUNNING)
            spans += self._ended(agent, event, self._now, INTERRUPTED)
        return spans

    # -- what happens meanwhile -------------------------------------------------------------------------------------

    def _steered(self, event: Steered) -> None:
        agent = self._agents.get(event.node or ROOT)
        if agent is None:
            return
        attributes: dict[str, Attribute] = {"rao.action": event.action}
        if event.text is not None and self._content.on:
            attributes["rao.text"] = self._content.text(event.text)
        agent.moments.append(Moment("rao.steered", self.wall(event.time), attributes))

    def _scored(self, event: Scored) -> None:
        attributes: dict[str, Attribute] = {
            names.EVALUATION_NAME: "score",
            names.EVALUATION_LABEL: event.status,
            "rao.node": event.node,
            "rao.score_source": event.source,
        }
        if event.score is not None:
            attributes[names.EVALUATION_SCORE] = event.score
        self._evaluated[event.node] = Moment(names.EVALUATION, self.wall(event.time), attributes)
