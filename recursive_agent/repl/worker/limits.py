"""The limits of a cell in a worker: where the agent's code may be interrupted, its clock, its memory and its CPU."""

from __future__ import annotations

import asyncio
import gc
import linecache
import os
import resource
import selectors
import signal
import time
import traceback
import types

from .. import protocol, starvation
from .cell import Cell, Limiter
from .errors import CellExit, TimedOut
from .output import CELL_PREFIX
from .turns import Turns

_AGAIN = 0.02
"""Seconds between attempts to interrupt a cell that is over its limit."""
_CPU_GRACE = 2
"""Seconds of CPU after its limit at which the kernel kills a worker that could not be interrupted."""
_HEADROOM = 96 * 1024 * 1024
"""Bytes beyond the memory limit that the worker itself may need, to report that the limit was reached."""
_HERE = os.path.dirname(__file__)  # noqa: PTH120
_OWN = (
    *("main", "limits", "interpreter", "cell", "dispatch", "functions", "calls", "errors"),
    *("cell_loop", "clock", "incoming", "output", "turns"),
)
_LOOP_FILES = ("base_events", "events", "selector_events", "unix_events")
_CRITICAL = (
    *(f"{_HERE}/{name}.py" for name in _OWN),
    protocol.__file__,
    starvation.__file__,
    *(f"{os.path.dirname(asyncio.__file__)}/{name}.py" for name in _LOOP_FILES),  # noqa: PTH120
    selectors.__file__,
    linecache.__file__,  # it opens files, which an exception from outside would leave open
)
_HARMLESS = (
    CELL_PREFIX,
    *(f"{_HERE}/{name}.py" for name in ("fits", "language", "outgoing", "plain", "returns")),
    traceback.__file__,
)
"""Cells, and what we do with their values and sources before anything is sent or kept."""


def in_agent_code(frame: types.FrameType | None) -> bool:
    """Whether an exception may be raised here: in a cell or what it calls, not in the loop or the worker itself."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_HARMLESS):
            return True
        if file.startswith(_CRITICAL):
            return False
        frame = frame.f_back
    return False


class CellSelector(selectors.DefaultSelector):
    """Lets `Turns` look for news while a cell runs."""

    cell: Cell | None = None
    turns: Turns | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As selectors have it. Raises CellExit at the end of the cell."""
        cell, turns = self.cell, self.turns
        if cell is None or turns is None or not cell.running:
            return super().select(timeout)
        return turns.look(timeout, super().select)


class ProcessLimiter(Limiter):
    """Interrupts by a timer signal; memory and CPU by the kernel. Between cells no garbage is collected by itself."""

    def __init__(self) -> None:
        self.cell: Cell | None = None
        self._tight = self._wide = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self._is_tight = False
        self._cpu = resource.RLIM_INFINITY
        self._usage = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # while files can still be opened
        self._starved = starvation.open_own()
        signal.signal(signal.SIGALRM, self._strike)

    def allow(self, memory: int, cpu: float | None = None) -> None:
        """From here on cells may take so many bytes of address space more than is in use now, and `cpu` seconds in all.

        The kernel's hard limits are the ceiling and the CPU of a whole life: code of any kind can lower them, not raise them.
        """
        used = int(os.read(self._usage, 100).split()[0]) * resource.getpagesize()
        os.close(self._usage)
        ceiling = used + memory + _HEADROOM
        self._tight, self._wide = (used + memory, ceiling), (ceiling, ceiling)
        resource.setrlimit(resource.RLIMIT_AS, self._wide)
        if cpu is not None:
            self._cpu = int(time.process_time()) + 1 + int(cpu)
        self._allow_cpu(time.process_time())

    def _allow_cpu(self, seconds: float) -> None:
        """Until the process has used so many seconds in all, and a grace."""
        soft = int(seconds) + 1 + _CPU_GRACE
        soft = soft if self._cpu == resource.RLIM_INFINITY else min(soft, self._cpu)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, self._cpu))

    def starved(self) -> float:
        """Seconds that this process has waited for a CPU so far."""
        return 0.0 if self._starved is None else starvation.starved_seconds(self._starved)

    def start(self, seconds: float, used: float) -> None:
        """Arm the timer and the kernel's limits."""
        self._allow_cpu(used + seconds)
        self.tighten()
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-4), _AGAIN)
        gc.enable()

    def tighten(self) -> bool:
        """The memory limit of cells; whether it was not in force."""
        loose, self._is_tight = not self._is_tight, True
        resource.setrlimit(resource.RLIMIT_AS, self._tight)
        return loose

    def relax(self) -> None:
        """Back to the ceiling; allocates nothing."""
        if self._is_tight:
            resource.setrlimit(resource.RLIMIT_AS, self._wide)
            self._is_tight = False

    def hurry(self) -> None:
        """Interrupt what keeps a cell that has finished."""
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)

    def stop(self, used: float) -> None:
        """Disarm. Until the next start the kernel allows no more CPU than it takes to receive what the host sends."""
        gc.disable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.relax()
        self._allow_cpu(used)

    def _strike(self, number: int, frame: types.FrameType | None) -> None:
        cell = self.cell
        if cell is None or not cell.running:
            return
        if not cell.finished:
            left = cell.remaining()
            if left > 0:
                signal.setitimer(signal.ITIMER_REAL, max(left, _AGAIN), _AGAIN)
                return
        if not in_agent_code(frame):
            cell.overdue = True
        else:
            raise CellExit if cell.finished else TimedOut
