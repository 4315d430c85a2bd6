"""What happens to the machine under a tree: killed processes, no disk, no descriptors, a clock that jumps, cancellation.

Everything can be undone in the same process: limits are lowered softly, and `restore` puts them back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from tests.trace.spans import in_memory

from . import clock

SIGKILLED = ("kill my worker", "kill a worker", "kill all workers", "kill the zygote")
DISK = ("disk full", "folder vanishes")
DESCRIPTORS = ("few descriptors", "no descriptors for a moment")
CANCELLED = ("cancel", "cancel later", "cancel twice", "cancel the scope")


class Machine:
    """The machine of one tree. `cancelled` says that the campaign itself has cancelled the run."""

    def __init__(self, folder: Path, *, scale: float = 1.0) -> None:
        self.traces = folder / "traces"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.tracers, self.spans = in_memory()
        """Where the tree's spans go, and what came there."""
        self.jumped = 0.0
        self.cancelled = False
        self.struck: list[str] = []
        self.cancel_task: Callable[[], None] = lambda: None
        self.cancel_scope: Callable[[], None] = lambda: None
        self._scale = scale
        self._limits = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)}
        self._later: list[asyncio.TimerHandle] = []

    def restore(self) -> None:
        """Take back what can be."""
        for timer in self._later:
            timer.cancel()
        for kind, limits in self._limits.items():
            resource.setrlimit(kind, limits)

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """The campaign's own descriptors do not count."""
        now = resource.getrlimit(resource.RLIMIT_NOFILE)
        full = self._limits[resource.RLIMIT_NOFILE]
        if now == full:
            yield
            return
        resource.setrlimit(resource.RLIMIT_NOFILE, full)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, now)

    async def strike(self, place: str, kind: str, amount: float, pid: int | None = None) -> None:
        """Let something happen. `pid` is the worker of the agent it happens around, where there is one."""
        self.struck.append(f"{kind} at {place}")
        match kind:
            case "kill my worker":
                _kill(pid)
            case "kill a worker":
                _kill(*(workers := self._workers())[int(amount) % len(workers) :][:1] if self._workers() else ())
            case "kill all workers":
                _kill(*self._workers())
            case "kill the zygote":
                with self.room():
                    _kill(*(child for child in clock.descendants(os.getpid()) if _parent(child) == os.getpid()))
            case "disk full":
                files = list(self.traces.glob("*.jsonl")) if self.traces.is_dir() else []
                size = max((file.stat().st_size for file in files), default=0) + int(amount)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, self._limits[resource.RLIMIT_FSIZE][1]))
            case "folder vanishes":
                shutil.rmtree(self.traces, ignore_errors=True)
            case "few descriptors":
                self._shorten(int(amount))
            case "no descriptors for a moment":
                self._shorten(0)
                self._call_later(amount, lambda: resource.setrlimit(*self._full()))
            case "clock jumps":
                self.jumped += amount
            case "cancel":
                self._after_ticks(int(amount), self.cancel_task)
            case "cancel twice":
                self._after_ticks(int(amount), self.cancel_task)
                self._after_ticks(int(amount) + 3, self.cancel_task)
            case "cancel later":
                self._call_later(amount, self._cancel_now)
            case "cancel the scope":
                self._after_ticks(int(amount), self.cancel_scope)
            case _:
                raise ValueError(kind)

    def _full(self) -> tuple[int, tuple[int, int]]:
        return resource.RLIMIT_NOFILE, self._limits[resource.RLIMIT_NOFILE]

    def _cancel_now(self) -> None:
        self.cancelled = True
        self.cancel_task()

    def _after_ticks(self, ticks: int, function: Callable[[], None]) -> None:
        if ticks > 0:
            asyncio.get_running_loop().call_soon(self._after_ticks, ticks - 1, function)
        else:
            self.cancelled = True
            function()

    def _call_later(self, seconds: float, function: Callable[[], object]) -> None:
        self._later.append(asyncio.get_running_loop().call_later(seconds * self._scale, function))

    def _shorten(self, free: int) -> None:
        """Leave so many descriptors to be opened."""
        with self.room():
            taken = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
        number = left = 0
        while True:
            if number not in taken:
                if left == free:
                    break
                left += 1
            number += 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, self._limits[resource.RLIMIT_NOFILE][1]))

    def _workers(self) -> list[int]:
        with self.room():
            return sorted(child for child in clock.descendants(os.getpid()) if _parent(child) != os.getpid())


@contextlib.contextmanager
def clock_of_the_world(offset: Callable[[], float]) -> Iterator[None]:
    """`time.time` goes with the loop's clock, and jumps."""
    real = time.time

    def now() -> float:
        return real() + offset()

    with mock.patch("time.time", now):
        yield


def _kill(*pids: int | None) -> None:
    for pid in pids:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0
