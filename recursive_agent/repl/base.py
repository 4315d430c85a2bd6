"""The one interface to a sandboxed REPL: a `Sandbox` opens a `Repl` for each node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self, runtime_checkable

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
    """CPU and wall time of one cell; the wall clock stands still while the cell only waits for host calls."""
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


class Repl(Protocol):
    """One agent's interpreter: state persists across cells."""

    async def run(self, code: str) -> CellResult:
        """Run one cell. Never raises for what the code does; raises SandboxError when no worker can be started."""

    async def aclose(self) -> None:
        """Kill the worker and release its descriptors. Safe to call twice; shielded from cancellation."""


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
        or None), max_steps, max_tokens. `returns` is a JSON schema that the value of `finish` is checked against inside
        the sandbox (see `CellResult.refused`); nothing of it is evaluated by the host.
        """
