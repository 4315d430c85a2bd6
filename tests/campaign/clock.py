"""An event loop whose clock jumps to the next timer while nothing real is under way.

Backoffs, stalls and time-outs of minutes then take a millisecond each, and happen in the order in which they would. What
is real keeps the clock at its own pace: data on a socket, a worker that runs, a cell at work, a thread at work. The kernel
knows most of it: a process that has something to do is not in the state S, from the very moment it was sent something.
"""

from __future__ import annotations

import asyncio
import math
import os
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

GRACE = 0.001
"""Seconds (real) for which everything must be quiet before the clock jumps."""
_POLL = 0.005
_TASKS = "/proc/self/task"
_STUCK = 0.1
DEADLOCK = 2.0
"""Seconds (real) without a timer, data or work after which nothing can ever happen any more."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `skipped` is how far its clock is ahead of the real one. `at_work` says that something real goes on."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self.at_work: Callable[[], bool] = lambda: False
        self.room: Callable[[], AbstractContextManager[object]] = nullcontext
        self.longest_block = 0.0
        """Most seconds of CPU between two looks at the sockets."""
        self.real_deadline = math.inf
        self.when_overdue: Callable[[], None] = lambda: None
        super().__init__(_Selector(self))

    def time(self) -> float:
        return super().time() + self.skipped


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._cpu = time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.longest_block = max(self._loop.longest_block, time.thread_time() - self._cpu)
        try:
            return self._select(timeout)
        finally:
            self._cpu = time.thread_time()

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        loop, began = self._loop, time.monotonic()
        quiet, idle_since, busy = 0, began, False
        while True:
            left = math.inf if timeout is None else timeout - (time.monotonic() - began)
            if left <= 0:
                return []
            if busy or left < math.inf:
                idle_since = time.monotonic()
            if time.monotonic() > loop.real_deadline or time.monotonic() > idle_since + DEADLOCK:
                idle_since = math.inf
                loop.real_deadline = math.inf
                loop.when_overdue()
                return []
            with loop.room():
                busy = loop.at_work() or anything_runs()
            quiet = 0 if busy else quiet + 1
            if quiet > 1 and left < math.inf:
                loop.skipped += left
                return []
            # Without a timer only the world outside can go on: that is nearly always a mistake, so do not spin meanwhile.
            pause = _POLL if busy else _STUCK if left == math.inf and quiet > 2 else GRACE
            ready = super().select(min(pause, left))
            if ready:
                return ready


def anything_runs() -> bool:
    """Whether a process below this one, or another thread of this one, has something to do."""
    me = os.getpid()
    own = f"/proc/self/task/{me}/stat"
    threads = (path for name in os.listdir(_TASKS) if (path := f"{_TASKS}/{name}/stat") != own)  # noqa: PTH208
    return any(_runs(path) for path in threads) or any(_runs(f"/proc/{pid}/stat") for pid in descendants(me))


def descendants(pid: int) -> Iterator[int]:
    """Processes below `pid`, zombies included."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    except OSError:
        return
    for task in tasks:
        for child in map(int, _read(f"/proc/{pid}/task/{task}/children").split()):
            yield child
            yield from descendants(child)


def state(path: str) -> str:
    """The kernel's letter for a process or thread (its `stat` file): R, S, D, Z, …; X where it is gone."""
    fields = _read(path).rpartition(b") ")[2]
    return chr(fields[0]) if fields else "X"


def _read(path: str) -> bytes:
    """A file of the kernel's, empty where it is gone; by hand, since this is done thousands of times."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # a process that ended meanwhile
        return b""
    finally:
        os.close(fd)


def _runs(path: str) -> bool:
    return state(path) in "RD"
