"""Watches the time, CPU and memory of workers from outside, whatever runs in them.

A worker that has left the language no longer keeps its own limits. The kernel bounds its address space and the CPU of its
whole life; time and CPU of one cell, CPU between cells and the memory of many workers together are looked after here.
"""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

import anyio
import anyio.lowlevel

from .base import MemoryPool

PERIOD = 0.25
"""Seconds between looks."""
IDLE_SECONDS = 2.0
"""CPU a worker may use between cells: for taking in answers that arrive meanwhile."""
_CLOCK_OF_PROCESS = 2  # CPUCLOCK_SCHED, in the lowest bits of a clock's number (see clock_getcpuclockid(3))
_A_LOOK = 50
_PAGE = resource.getpagesize()


def cpu_seconds(pid: int) -> float | None:
    """CPU time of a process; None where it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | _CLOCK_OF_PROCESS)
    except OSError:
        return None


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, with what it shares; 0 where it has ended."""
    try:
        file = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)  # a third of what a file object costs
    except OSError:
        return 0
    try:
        return int(os.read(file, 100).split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
    finally:
        os.close(file)


class Watched(Protocol):
    """A REPL, as the watchdog sees it."""

    @property
    def pid(self) -> int | None:
        """Process id of its worker; None where there is none."""

    @property
    def pool(self) -> MemoryPool | None:
        """The pool whose memory limit it shares."""

    def check_time(self) -> None:
        """End the cell that runs, with its worker, where it has lasted too long."""

    def check_cpu(self, used: float) -> None:
        """Take in that its worker has used so many seconds in all; kill it where that is too much."""

    def kill(self, reason: str) -> None:
        """Kill its worker."""


class Watchdog:
    """Looks at all REPLs of a sandbox, a few times a second."""

    def __init__(self, repls: Callable[[], Iterable[Watched]]) -> None:
        self.fresh_bytes = 0
        """Resident memory of a worker that nobody has used: it shares that with the others."""
        self._repls = repls
        self._some = anyio.Event()

    def wake(self) -> None:
        """There is a REPL to look at."""
        self._some.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._some.wait()
            await anyio.sleep(PERIOD)
            repls = list(self._repls())
            if not repls:
                self._some = anyio.Event()
                continue
            await self._look(repls)

    async def _look(self, repls: list[Watched]) -> None:
        pools: dict[MemoryPool, list[tuple[int, Watched]]] = defaultdict(list)
        for position, repl in enumerate(repls):
            if position % _A_LOOK == _A_LOOK - 1:
                await anyio.lowlevel.checkpoint()
            repl.check_time()
            pid = repl.pid
            if pid is None:
                continue
            used = cpu_seconds(pid)
            if used is not None:
                repl.check_cpu(used)
            if repl.pool is not None:
                pools[repl.pool].append((max(0, resident_bytes(pid) - self.fresh_bytes), repl))
        for pool, members in pools.items():
            self._shrink(pool, members)

    def _shrink(self, pool: MemoryPool, members: list[tuple[int, Watched]]) -> None:
        limit = pool.limit_mb * 1024 * 1024
        total = sum(size for size, _ in members)
        for size, repl in sorted(members, key=lambda member: member[0], reverse=True):
            if total <= limit:
                return
            repl.kill(
                f"the interpreters of this run together used {total >> 20:,} MiB, more than the {pool.limit_mb:,} MiB "
                "they may have, and this one was the largest"
            )
            total -= size
