"""The one interface to a sandboxed REPL: a `Sandbox` opens a `Repl` for each node."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self, TypeGuard, runtime_checkable

from .protocol import MESSAGE_BYTES, MESSAGE_OBJECTS


class CellStatus(StrEnum):
    """How one cell ended."""

    OK = "ok"
    """It ran to its end."""
    ERROR = "error"
    """It raised; `CellResult.error` is the traceback as the agent should see it."""
    FINISHED = "finished"
    """It called `finish`; `CellResult.value` is its argument."""
    TIMEOUT = "timeout"
    """It was stopped at its CPU or wall limit; variables survive where the interpreter could be interrupted."""
    MEMORY = "memory"
    """It hit the memory limit."""
    KILLED = "killed"
    """The worker is gone (killed by a limit or from outside); the next cell starts in a fresh one, variables lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """The result of one cell."""

    status: CellStatus
    output: str = ""
    """Printed text and the last expression, already cut to the output limit with a note of what was cut.

    It ends with `Background task failed:` and a traceback for each task of the agent's own (`asyncio.create_task`) that
    failed, in this cell or an earlier one, without anybody looking at its exception: once, the first ten of them.
    """
    error: str | None = None
    value: Any = None
    refused: str | None = None
    """Why the value of `finish` did not fit `returns`, where the sandbox checked it; the status is then `ok`."""
    unawaited: tuple[str, ...] = ()
    """Host functions called in this cell whose result was never awaited, so that they never ran."""
    running: tuple[str, ...] = ()
    """Host calls still under way when the cell ended (started with asyncio.create_task, say): they go on in the host.

    The agent's own code never runs between cells: the tasks that wait for these calls go on in the next cell, inside its
    clock and its limits.
    """
    restarted: str | None = None
    """The note that the interpreter was restarted before this cell, with which `output` then begins; see `Replay`."""
    diverged: str | None = None
    """Where a replayed cell did something else than its record says: what, in a sentence. The cell was ended there."""
    wall: float = 0.0
    cpu: float = 0.0


class HostCallError(Exception):
    """Raise this in a `HostCall` to raise an exception in the agent's code.

    `kind` is one of `SubagentError` (with `status`, `message`, `partial`), `LaunchRefused`, `ToolError`: exception classes
    the agent's code knows by name. `data` becomes the attributes of the exception.
    """

    def __init__(self, kind: str, message: str, **data: Any) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest:
    """One call of a host function by the agent's code. Awaited concurrently; `cell` counts cells from 1."""

    id: int
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    cell: int
    size: int = 0
    """Bytes of memory that its arguments take here, about."""


HostCall = Callable[[HostRequest], Awaitable[Any]]
"""Answers a request of the agent's code with plain data (None, bool, int, float, str, bytes, list, dict).

Called at once for every request, in order of arrival; what it returns is awaited in a task of its own, and never awaited
where the REPL is closed first (so create a coroutine that must not be lost only when it is awaited).
"""


class RecordedAnswer(Awaitable[Any]):
    """What a `HostCall` returns for a call that is made again in the replay of a cell.

    With `recorded`, `answer` gives the value of the record at once, or raises its HostCallError: the agent's code receives
    it at the very point where the recorded cell did, be it in a later cell. Without, the record holds no answer of this
    call: `answer` is awaited when the replay is over and the agent's code still waits for it, so a call that was cancelled
    in the recorded cell is not made a second time.
    """

    __slots__ = ("answer", "recorded")

    def __init__(self, answer: Awaitable[Any], *, recorded: bool = True) -> None:
        self.answer = answer
        self.recorded = recorded

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.answer.__await__()


@dataclass(frozen=True, slots=True)
class HostFunction:
    """A function of the host that the agent's code may await, by name."""

    name: str
    doc: str = ""


class MemoryPool:
    """REPLs that share one limit of memory (those of one run, say): where they exceed it, the largest is killed."""

    def __init__(self, limit_mb: int) -> None:
        self.limit_mb = limit_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplLimits:
    """Limits of one REPL. Times in seconds."""

    cell_timeout: float = 30.0
    """CPU and wall time of one cell.

    The wall clock stands still while the cell only waits for host calls, and while the machine has no CPU for the worker (as
    far as the kernel counts that; for at most four fifths of the time, so that a cell ends after five times the limit).
    """
    memory_mb: int = 256
    output_chars: int = 10_000
    message_bytes: int = MESSAGE_BYTES
    """Largest message a worker may send (a result, an argument)."""
    message_objects: int = MESSAGE_OBJECTS
    """Most values in such a message."""
    most_calls: int = 100_000
    """Host calls after which the worker counts as broken and is killed; a bound on what it can cost the host."""
    cpu_seconds: float = 3_600.0
    """CPU of the worker's whole life; the kernel kills it there."""
    pool: MemoryPool | None = None
    """The pool whose memory limit it shares."""


DEFAULT_LIMITS = ReplLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Asks a REPL to run its cells so that they can be replayed in another REPL."""

    seed: int
    """Seed of all randomness of the agent's code, 0 to 2**64 - 1; the same one in the replay. It need not be secret."""
    on_clock: Callable[[Sequence[float]], None]
    """Called with what the cell that runs has read of the clock, and with the order in which answers and timers came.

    It is called before the request, or the end of the cell, that follows. The numbers are the sandbox's own: all those of
    a cell, one call's after the other's, are the `clock` of its replay. There are at most 100,000 of one cell. In a
    replay it is called only for what is not in the record.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The record of a cell that is run again, in a REPL opened with the same seed that has replayed the cells before it."""

    clock: Sequence[float] = ()
    """All that `Recording.on_clock` received for the cell, in order."""
    complete: bool = True
    """Whether the recorded cell ran to its end. One that was cut short goes on live where its record ends."""
    restarted: str | None = None
    """`CellResult.restarted` of the recorded cell: with a note, the cell is run in a fresh interpreter."""
    on_live: Callable[[], None] | None = None
    """Called when a cell that was cut short has used up its record, and goes on live."""


class Repl(Protocol):
    """One agent's interpreter: state persists across cells."""

    async def run(self, code: str) -> CellResult:
        """Run one cell. Never raises for what the code does; raises SandboxError when no worker can be started."""

    async def aclose(self) -> None:
        """Kill the worker and release its descriptors. Safe to call twice; shielded from cancellation."""


class RecordingRepl(Repl, Protocol):
    """A REPL whose cells can be replayed."""

    async def run(self, code: str, replay: Replay | None = None) -> CellResult:
        """Run one cell; with `replay`, run a recorded cell again.

        The calls that a replayed cell makes reach `call` as ever, which answers them with a `RecordedAnswer`. The cell
        reads the clock and takes answers in as the record says, and does not wait for any time to pass. What is not in the
        record is a divergence (`CellResult.diverged`). Whether the output is that of the record is for the caller to see.
        """


@runtime_checkable
class Sandbox(Protocol):
    """Opens REPLs. An async context manager that owns the helper processes."""

    enforced: frozenset[str]
    """Layers that hold: of `process`, `rlimits`, `no_new_privs`, `pdeathsig`, `landlock`, `seccomp`, `policy`, `namespaces`.

    Empty until the sandbox is entered. Another kind of sandbox names the layers that it equals or surpasses.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def open(
        self,
        *,
        call: HostCall,
        functions: Sequence[HostFunction] = (),
        context: Any = None,
        launcher: bool = True,
        returns: Mapping[str, Any] | None = None,
        limits: ReplLimits = DEFAULT_LIMITS,
    ) -> Repl:
        """A fresh REPL. `context` becomes the variable `context` (plain data; large strings by sealed memfd).

        `functions` become awaitable functions. With `launcher`, `launch_subagent` and `subagents` exist too; a launch
        reaches `call` as a request named `launch_subagent` with keyword arguments goal, context, returns (a JSON schema
        or None), max_steps, max_tokens, and model where the agent gave one. `returns` is a JSON schema that the value of
        `finish` is checked against inside the sandbox (see `CellResult.refused`); nothing of it is evaluated by the host.
        """


@runtime_checkable
class RecordingSandbox(Protocol):
    """A `Sandbox` that can record cells and replay them: it has `records`, which is True, and two more arguments.

    Ask `can_record` first: another sandbox takes neither.
    """

    records: bool

    async def open(
        self,
        *,
        call: HostCall,
        functions: Sequence[HostFunction] = (),
        context: Any = None,
        launcher: bool = True,
        returns: Mapping[str, Any] | None = None,
        limits: ReplLimits = DEFAULT_LIMITS,
        recording: Recording | None = None,
    ) -> RecordingRepl:
        """As `Sandbox.open`; with `recording`, cells are recorded and can be replayed."""


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def same_text(first: str, second: str) -> bool:
    """Whether two outputs or errors of cells are the same but for addresses of objects, as in `<function f at 0x7f…>`.

    Those differ from process to process.
    """
    return first == second or _ADDRESS.sub("", first) == _ADDRESS.sub("", second)


def can_record(sandbox: object) -> TypeGuard[RecordingSandbox]:
    """Whether `open` of this sandbox takes `recording`, and `run` of its REPLs `replay`."""
    return getattr(sandbox, "records", False) is True
