"""`Node`: one agent of a tree, with its steps, its usage and its children."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from ..messages import Message
from ..status import Status
from ..usage import Usage
from .schema import CellRan, HostCalled, ModelCalled

LAUNCH = "launch_subagent"
"""Name of the host function that launches a child."""


class LaunchPoint(NamedTuple):
    """The launch of a node in its parent: the parent's step, and the number of the host call."""

    step: int
    call: int


@dataclass(slots=True, kw_only=True)
class Step:
    """One step of a node: a model call, the cell it led to, the host calls of that cell in order of their end."""

    number: int
    model: ModelCalled | None = None
    cell: CellRan | None = None
    calls: list[HostCalled] = field(default_factory=list)


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
    """False once a score event has said that no model is to be trained on this agent."""
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

    def walk(self) -> Iterator[Node]:
        """The node and its descendants, each before its children, siblings in launch order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))

    def conversation(self) -> list[Message]:
        """Every message of the node in order: prompts and observations, and the model's answers."""
        messages: list[Message] = []
        for step in self.steps:
            if step.model is not None:
                messages.extend(step.model.messages)
                messages.append(Message("assistant", step.model.text, tuple(step.model.tool_calls)))
        return messages

    def step(self, number: int) -> Step:
        """The step with this number (from 1); a new one if there is none."""
        step = self._by_number.get(number)
        if step is None:
            step = self._by_number[number] = Step(number=number)
            self.steps.append(step)
        return step
