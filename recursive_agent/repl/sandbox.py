"""What both sandboxes share: they open REPLs on workers, and know which are open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import anyio.abc

from ..errors import SandboxError
from .base import DEFAULT_LIMITS, HostCall, HostFunction, Repl, ReplLimits
from .connection import Worker, WorkerRepl
from .files import Files


class WorkerSandbox(ABC):
    """A sandbox whose REPLs live in workers behind a socket."""

    def __init__(self) -> None:
        self.enforced: frozenset[str] = frozenset()
        self._repls: set[WorkerRepl] = set()
        self._files = Files()
        self._tasks: anyio.abc.TaskGroup | None = None

    @abstractmethod
    async def worker(self) -> Worker:
        """A worker that nobody uses yet, ready. Raises SandboxError."""

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
        limits: ReplLimits = DEFAULT_LIMITS,
    ) -> Repl:
        """A fresh REPL; see `Sandbox.open`."""
        reason = self._unusable()
        if reason is not None or self._tasks is None:
            raise SandboxError(reason or "the sandbox is closed")
        repl = WorkerRepl(
            self.worker,
            self._tasks,
            self._files,
            call=call,
            functions=functions,
            context=context,
            launcher=launcher,
            limits=limits,
            on_close=self._repls.discard,
        )
        self._repls.add(repl)
        try:
            await repl.start()
        except BaseException:
            await repl.aclose()
            raise
        return repl

    async def _close_repls(self) -> None:
        for repl in list(self._repls):
            await repl.aclose()
