"""The events of a run. The trace file holds them, `Agent.stream` yields them, and the tree is built from them.

All three use the same events, so that they cannot disagree. `time` is seconds since the epoch when the event was made;
intervals are carried as `started` with the event's `time` as their end. Node ids are paths of launch order ("0", "0.2",
"0.2.1"), so the same seed gives the same ids whatever the timing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..messages import Message, ToolCall
from ..status import Status
from ..usage import Usage

SCHEMA_VERSION = 1
ROOT = "0"


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
class Waiting(Event):
    """Calls of all agents wait for the endpoint (its rate limit). It is shown during a run, and never in a trace."""

    kind: ClassVar[str] = "waiting"
    reason: str | None
    """The message of the endpoint; None when calls continue."""
    seconds: float | None = None
    """Length of the wait, if it is known."""
