"""`Node`: one agent of a tree, with its steps, its usage and its children."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from ..messages import Message
from ..status import Status
from ..usage import Usage
from .schema import SUMMARY, CellRan, HostCalled, ModelCalled

LAUNCH = "launch_subagent"
"""Name of the host function that launches a child."""


class LaunchPoint(NamedTuple):
    """The launch of a node in its parent: the parent's step, and the number of the host call."""

    step: int
    call: int


class Finding(NamedTuple):
    """The result of an agent that finished, below one that did not."""

    node: str
    goal: str
    result: Any


@dataclass(slots=True, kw_only=True)
class Step:
    """One step of a node: a model call, the cell it led to, the host calls of that cell in order of their end."""

    number: int
    summary: ModelCalled | None = None
    """The summary that the agent wrote of its conversation before this step, where the conversation was compacted."""
    model: ModelCalled | None = None
    cell: CellRan | None = None
    calls: list[HostCalled] = field(default_factory=list)
    begun: dict[int, str] = field(default_factory=dict)
    """Calls of tools that must not be repeated: their number, and the key of what was about to be called."""
    clock: list[float] = field(default_factory=list, repr=False)
    """What its cell read of the clock, for a replay: the numbers of its `ClockRead` events, one after the other."""

    def take(self, call: ModelCalled) -> None:
        """A model call of this step."""
        if call.purpose == SUMMARY:
            self.summary = call
        else:
            self.model = call

    @property
    def model_calls(self) -> Sequence[ModelCalled]:
        """Its model calls in order: the summary before the step, where there is one, and that of the step."""
        return [call for call in (self.summary, self.model) if call is not None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """One conversation of an agent, as it was sent: a compaction ends one and begins the next."""

    messages: list[Message]
    given: int
    """How many messages stood before its first answer: the opening and, after a compaction, summary and turns kept."""


@dataclass(slots=True)
class Clock:
    """The latest time of a tree; shared by its nodes, so that a running node has a duration."""

    now: float


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """One agent of a tree, as of the last event. Times are in seconds since the epoch, durations in seconds."""

    id: str
    parent: str | None
    """Id of the parent; None for the root."""
    depth: int
    goal: str
    context: Any = field(default=None, repr=False)
    returns: Any = None
    """JSON schema of the result, or None."""
    max_steps: int | None = None
    max_tokens: int | None = None
    model: str | None = None
    """Name of its model among `tree.settings["models"]`; None where the run has one model."""
    launched_at: LaunchPoint | None = None
    started: float
    ended: float | None = None
    status: Status = Status.RUNNING
    result: Any = None
    reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    """The node's own model calls, those of its descendants left out."""
    score: float | None = None
    """s̃ in [0, 1]; None where it is not known (see `score_status`)."""
    score_status: str | None = None
    """How scoring ended: `scored`, `unknown` or `judge_error`; None where the node has not been scored."""
    score_source: str | None = None
    trainable: bool = True
    """False where its model is frozen, and once a score event has said that no model is to be trained on this agent."""
    steps: list[Step] = field(default_factory=list, repr=False)
    children: list[Node] = field(default_factory=list, repr=False)
    """In launch order."""
    _clock: Clock = field(repr=False)
    _by_number: dict[int, Step] = field(default_factory=dict, init=False, repr=False)

    @property
    def total_usage(self) -> Usage:
        """Usage of the node and all its descendants."""
        return reduce(add, (node.usage for node in self.walk()), Usage())

    @property
    def duration(self) -> float:
        """From start to end; for a running node, to the last event of the tree."""
        return max(0.0, self.end - self.started)

    @property
    def end(self) -> float:
        """When the node ended; for a running node, the time of the last event of the tree."""
        return self._clock.now if self.ended is None else self.ended

    @property
    def running(self) -> bool:
        """Whether the node has not ended yet."""
        return self.status is Status.RUNNING

    @property
    def finished(self) -> bool:
        """Whether the node returned a result."""
        return self.status.finished

    @property
    def partial(self) -> list[Finding]:
        """What the sub-agents of a node that did not finish found: the results of those that finished, in launch order.

        A sub-agent that did not finish is replaced by its own sub-agents that did. Empty for a node that finished.
        """
        found: list[Finding] = []
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if not node.finished:
                waiting.extend(reversed(node.children))
            elif node is not self:
                found.append(Finding(node.id, node.goal, node.result))
        return found

    @property
    def last_output(self) -> str:
        """What the node's last cell printed, or the error that it ended with; empty if there is none."""
        cell = next((step.cell for step in reversed(self.steps) if step.cell is not None), None)
        return "" if cell is None else (cell.output or cell.error or "").rstrip()

    def walk(self) -> Iterator[Node]:
        """The node and its descendants, each before its children, siblings in launch order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))

    @property
    def model_calls(self) -> Sequence[ModelCalled]:
        """The node's own model calls in order, summaries included."""
        return [call for step in self.steps for call in step.model_calls]

    def conversation(self) -> list[Message]:
        """The node's messages in order: prompts and observations, and the model's answers.

        If the conversation was compacted, this is the one that began with the last compaction; see `conversations`.
        """
        stretches = self.conversations()
        return stretches[-1].messages if stretches else []

    def conversations(self, *, trained: bool = False) -> list[Stretch]:
        """All conversations of the node, as they were sent: more than one where it was compacted.

        `trained` leaves out summaries on which no model is to be trained.
        """
        stretches: list[Stretch] = []
        for step in self.steps:
            for call in step.model_calls:
                if call is step.summary:
                    unused = (
                        step.model is not None and not step.model.restart
                    )  # the summary failed, the run was resumed
                    if unused or (trained and not call.train):
                        continue
                if call.restart or not stretches:
                    stretches.append(Stretch([], len(call.messages)))
                answer = Message("assistant", call.text, tuple(call.tool_calls))
                stretches[-1].messages.extend([*call.messages, answer])
        return stretches

    def resume(self, step: int, redo: Sequence[int]) -> None:
        """Live again from this step on; see `NodeResumed`."""
        self.status, self.result, self.reason, self.ended = Status.RUNNING, None, None, None
        self.score = self.score_status = self.score_source = None
        self.steps = [known for known in self.steps if known.number <= step]
        self._by_number = {known.number: known for known in self.steps}
        again = self._by_number.get(step)
        if again is not None:
            if again.cell is not None:  # what was read of the clock belongs to a cell that is run anew
                again.clock.clear()
            again.cell = None
            again.calls = [call for call in again.calls if call.call not in set(redo)]

    def step(self, number: int) -> Step:
        """The step with this number (from 1); a new one if there is none."""
        step = self._by_number.get(number)
        if step is None:
            step = self._by_number[number] = Step(number=number)
            self.steps.append(step)
        return step
