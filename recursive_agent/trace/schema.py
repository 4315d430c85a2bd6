"""The events of a run. The trace file holds them, `Agent.stream` yields them, and the tree is built from them.

All three use the same events, so that they cannot disagree. `time` is seconds since the epoch when the event was made;
intervals are carried as `started` with the event's `time` as their end. Node ids are paths of launch order ("0", "0.2",
"0.2.1"), so the same seed gives the same ids whatever the timing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from ..messages import Message, ToolCall
from ..status import Activity, Status
from ..usage import Usage

SCHEMA_VERSION = 1
Doubles: TypeAlias = Sequence[float]
"""Numbers that a trace holds without rounding them."""
ROOT = "0"
STEP, SUMMARY = "step", "summary"
"""What model calls are made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str]
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """First event of every trace."""

    kind: ClassVar[str] = "run_started"
    run: str
    """Unique id of this run (one tree)."""
    model: str
    interface: str
    """`chat` or `tokens`."""
    group: str | None = None
    """Ties attempts at one task together."""
    seed: int | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that shaped the run: sampling, prompt style, action format, sandbox layers, package version."""
    origin: str | None = None
    """The run whose record this one begins with, where it was forked from one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted(Event):
    """An agent started. `step` and `call` are the step and the host call of the parent that launched it."""

    kind: ClassVar[str] = "node_started"
    node: str
    parent: str | None
    depth: int
    goal: str
    step: int | None = None
    call: int | None = None
    context: Any = None
    returns: Any = None
    """JSON schema, or None."""
    max_steps: int | None = None
    max_tokens: int | None = None
    model: str | None = None
    """Name of the agent's model among `settings["models"]`; None where the run has one model."""
    trainable: bool = True
    """False for an agent whose answers no model is to be trained on, such as one with a frozen model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCalled(Event):
    """One model call with its answer. `messages` are those added since the node's previous call."""

    kind: ClassVar[str] = "model_called"
    node: str
    step: int
    """Counts from 1 within the node."""
    started: float
    messages: Sequence[Message]
    text: str
    finish_reason: str
    usage: Usage
    model: str
    version: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    prompt_token_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    attempts: int = 1
    reasoning: str | None = None
    """The model's reasoning before its answer; not a part of `text`."""
    purpose: str = STEP
    """`step`, or `summary` for the agent's summary of a conversation that is compacted before the step `step`."""
    restart: bool = False
    """Whether a new conversation begins here, so that `messages` are its whole prompt."""
    train: bool = True
    """False if no model is to be trained on this answer."""
    endpoint: str | None = None
    """URL of the replica that answered, if the model has several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCalled(Event):
    """A tool call or a launch that returned (`error` is None) or failed."""

    kind: ClassVar[str] = "host_called"
    node: str
    step: int
    call: int
    started: float
    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None
    error: str | None = None
    child: str | None = None
    """The node launched, where the call was a launch that was not refused."""
    detail: Any = None
    """Attributes of the exception that the agent's code saw (status and partial result of a sub-agent, say)."""
    refused: bool = False
    """Whether it was refused before it was made (a limit, say); its arguments are then left out."""
    omitted: bool = False
    """Whether `result` is a note in place of an answer too large to be kept; the agent had the whole answer."""
    shared: bool = False
    """Whether `child` is a node that another call had launched with the same goal and inputs; this call got its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRan(Event):
    """One cell of code that was run. `status` is a `CellStatus` value."""

    kind: ClassVar[str] = "cell_ran"
    node: str
    step: int
    started: float
    code: str
    status: str
    output: str = ""
    error: str | None = None
    cpu: float = 0.0
    restarted: str | None = None
    """The note that the interpreter was restarted before this cell, with which `output` then begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRead(Event):
    """What a cell that runs has read of the clock since the last such event, and the order in which answers came.

    The numbers are the sandbox's own form; all those of a cell let the sandbox replay it (`repl.Replay.clock`).
    """

    kind: ClassVar[str] = "clock_read"
    node: str
    step: int
    values: Doubles


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnded(Event):
    """An agent ended. `result` is the value of `finish`, already plain data; `reason` says why it did not finish."""

    kind: ClassVar[str] = "node_ended"
    node: str
    status: Status
    result: Any = None
    reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    """The node's own calls, descendants left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """Last event of a run that was not killed; `usage` is the sum over nodes."""

    kind: ClassVar[str] = "run_ended"
    status: Status
    usage: Usage
    incomplete: str | None = None
    """Which parts of the run the trace does not hold, and why; None where it holds everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBegan(Event):
    """A call of a tool that must not be repeated is about to be made: recorded for such tools alone."""

    kind: ClassVar[str] = "call_began"
    node: str
    step: int
    call: int
    key: str
    """Of its name and arguments; see `trace.keys`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """The run goes on, after its process died or it ended. Event times continue where they stopped, so that the time in
    between counts nowhere; `at` is the real time."""

    kind: ClassVar[str] = "run_resumed"
    at: float
    usage: Usage
    """What all agents had used before."""
    model: str
    limits: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    """Of the package."""
    question: str | None = None
    """The next question to an agent tree that had finished."""
    returns: Any = None
    """JSON schema of its answer, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResumed(Event):
    """An agent lives again. What it did before `step` stands; of that step the calls `redo` are made anew, and what is
    recorded of later steps no longer counts."""

    kind: ClassVar[str] = "node_resumed"
    node: str
    step: int
    redo: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Event):
    """Score s̃ of a node for its own goal, in [0, 1]; None if unknown. A later score of the same node replaces it.

    `status` is a `ScoreStatus` value of the scorer: `scored`, `unknown`, `judge_error`.
    """

    kind: ClassVar[str] = "scored"
    node: str
    score: float | None
    status: str = "scored"
    source: str = "scorer"
    trainable: bool = True
    """False for an agent whose answers no model is to be trained on, such as one that checks another's work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steered(Event):
    """What the caller did to the run while it went on: see `Stream.pause`, `resume`, `cancel` and `tell`."""

    kind: ClassVar[str] = "steered"
    action: str
    """`pause`, `resume`, `cancel` or `tell`; `unread` if an agent ended before it read the messages for it."""
    node: str | None = None
    """The agent that it was about; None if it was the whole run."""
    text: str | None = None
    """The reason of `cancel`, the message of `tell`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked(Event):
    """A call waits until the caller approves or refuses it. Its arguments stand in its HostCalled event."""

    kind: ClassVar[str] = "approval_asked"
    node: str
    step: int
    call: int
    name: str
    """The tool, or `launch_subagent`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAnswered(Event):
    """The answer about a call that waited for approval, since `started`. A call that is not allowed never runs."""

    kind: ClassVar[str] = "approval_answered"
    node: str
    step: int
    call: int
    name: str
    started: float
    allowed: bool
    reason: str | None = None
    """Why the call was refused, in the words that the agent sees."""
    arguments: Any = None
    """The arguments that the call got in place of its own, by name; None if they were not changed."""
    error: str | None = None
    """Why there was no valid answer (the approver raised an exception, say); the call is then refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Event):
    """What an agent waits for now, or (`node` is None) that calls of all agents wait for the endpoint, its rate limit.

    It is shown during a run, and never in a trace. The latest one of an agent holds until its next ModelCalled or NodeEnded.
    """

    kind: ClassVar[str] = "waiting"
    reason: str | None
    """For what, in words: the message of the endpoint, say. None when the waiting is over."""
    seconds: float | None = None
    """Length of the wait, if it is known."""
    node: str | None = None
    activity: Activity = Activity.RATE_LIMIT
    """What the agent waits for; `MODEL` when its call has left."""
