"""The base of the sandboxes: opens REPLs on workers, and keeps the list of open ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import anyio.abc

from ..errors import SandboxError
from .base import DEFAULT_LIMITS, HostCall, HostFunction, Recording, ReplLimits
from .files import Files
from .link import Worker
from .watchdog import Watchdog
from .worker_repl import WorkerRepl


class WorkerSandbox(ABC):
    """A sandbox whose REPLs live in workers behind a socket."""

    records: bool = True
    """Its REPLs record cells and replay them."""

    def __init__(self) -> None:
        self.enforced: frozenset[str] = frozenset()
        self._repls: set[WorkerRepl] = set()
        self._files = Files()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._clerk: anyio.CapacityLimiter | None = None
        """One thread at a time for large values, so that the event loop gets its turns."""
        self._watchdog = Watchdog(self._watched)

    def _watched(self) -> list[WorkerRepl]:
        return list(self._repls)

    async def _begin(self) -> anyio.abc.TaskGroup:
        """Start what runs as long as the sandbox is open."""
        self._clerk = anyio.CapacityLimiter(1)
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._watchdog.run)
        return self._tasks

    async def _end(self) -> None:
        """Close every REPL, and stop what was started."""
        try:
            with anyio.CancelScope(shield=True):
                for repl in list(self._repls):
                    await repl.aclose()
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
                await self._tasks.__aexit__(None, None, None)
        finally:
            self._tasks = None

    @abstractmethod
    async def worker(self, dead: Worker | None = None) -> Worker:
        """A worker that nobody uses yet, ready. Raises SandboxError.

        `dead` is the worker in whose place it comes, where that one was killed from outside while it was set up.
        """

    @abstractmethod
    def _unusable(self) -> str | None:
        """Why no REPL can be opened, or None."""

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
    ) -> WorkerRepl:
        """A fresh REPL; see `RecordingSandbox.open`."""
        reason = self._unusable()
        if reason is not None or self._tasks is None or self._clerk is None:
            raise SandboxError(reason or "the sandbox is closed")
        repl = WorkerRepl(
            self.worker,
            self._tasks,
            self._files,
            self._clerk,
            call=call,
            functions=functions,
            context=context,
            launcher=launcher,
            returns=returns,
            limits=limits,
            recording=recording,
            on_close=self._repls.discard,
        )
        self._repls.add(repl)
        self._watchdog.wake()
        try:
            await repl.start()
        except BaseException:
            await repl.aclose()
            raise
        return repl
