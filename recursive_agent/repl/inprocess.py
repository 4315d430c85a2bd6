"""The `inprocess` sandbox: cells in a thread of this process. For trusted code and tests; it isolates nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Self

from .link import Worker
from .protocol import pack
from .sandbox import WorkerSandbox
from .worker.errors import Disconnected, TimedOut

if TYPE_CHECKING:
    from .worker.cell import Cell


class TrustedCodeWarning(UserWarning):
    """Cells run inside this process: nothing isolates the agent's code from your files, keys and network."""


_warned = False


def _warn_once() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            'sandbox="inprocess" isolates nothing and cannot stop every runaway cell: use it for code you trust',
            TrustedCodeWarning,
            stacklevel=3,
        )


class InProcessSandbox(WorkerSandbox):
    """Cells behave as in the `process` sandbox, but run in threads of this process, kept in by the language alone.

    Cells can be replayed as there, except that the order of sets of strings is that of this process (PYTHONHASHSEED): a
    replay in another process may diverge in it.
    """

    def __init__(self) -> None:
        _warn_once()
        super().__init__()
        self.enforced = frozenset({"policy"})

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._end()
        finally:
            self._files.close()

    async def worker(self, dead: Worker | None = None) -> Worker:
        """A thread that runs cells, behind the same socket as a process."""
        ours, theirs = socket.socketpair()
        threading.Thread(target=_serve, args=(theirs,), name="rao-cells", daemon=True).start()
        worker = Worker(ours, None, os.getpid())
        try:
            await worker.ready()
        except BaseException:
            worker.kill()
            raise
        return worker

    def _unusable(self) -> str | None:
        return None if self._tasks else "enter the sandbox first: `async with InProcessSandbox() as sandbox:`"


_PAUSE, _LONGEST_PAUSE = 0.02, 0.64
"""Seconds from one look at an overdue cell to the next: the first time, and after several."""


class _ThreadLimiter:
    """Interrupts the thread's bytecode from a timer thread; memory and CPU cannot be limited."""

    def __init__(self) -> None:
        self.cell: Cell | None = None
        self._thread = threading.get_ident()
        self._over = threading.Event()

    def allow(self, memory: int, cpu: float | None = None) -> None:
        """A thread's memory and CPU cannot be limited."""

    def starved(self) -> float:
        """Not counted: a thread waits for the interpreter's lock too."""
        return 0.0

    def start(self, seconds: float, used: float) -> None:
        """Watch the cell."""
        self._over = threading.Event()
        threading.Thread(target=self._watch, args=(self._over, seconds), name="rao-limit", daemon=True).start()

    def tighten(self) -> bool:
        """A thread's memory cannot be limited."""
        return False

    def relax(self) -> None:
        """A thread's memory cannot be limited."""

    def hurry(self) -> None:
        """`finish` raises in the thread itself; nothing else to do."""

    def stop(self, used: float) -> None:
        """The cell is over."""
        self._over.set()

    def _watch(self, over: threading.Event, seconds: float) -> None:
        from .worker.limits import in_agent_code

        cell = self.cell
        left, pause = seconds, _PAUSE
        while cell is not None and not over.wait(max(left, pause)):
            left = cell.remaining()
            if left <= 0 and not over.is_set() and not cell.finished:
                # Each look takes longer the more threads there are, and takes the time from cells that are late already.
                pause = min(2 * pause, _LONGEST_PAUSE)
                # Where the thread stands now is where it raises: it holds still while this thread holds the GIL.
                if in_agent_code(sys._current_frames().get(self._thread)):
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(TimedOut))
                else:
                    cell.overdue = True


def _serve(sock: socket.socket) -> None:
    from .worker import incoming  # here, for all that it imports is of no use to a host whose workers are processes
    from .worker import main as worker

    loop = worker.make_loop()
    try:
        with sock, contextlib.suppress(Disconnected, ConnectionError, TimedOut):
            connection = incoming.Connection(sock)
            connection.send(pack(["ready", []]))
            worker.serve(connection, loop, _ThreadLimiter(), restricted=True, process=False)
    finally:
        loop.close()
