"""The state of the cell that runs: its clock, its output, and whether and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from ..starvation import counted
from .errors import CellExit, Finished, TimedOut
from .output import CutText


class Cell:
    """The cell that runs now, or the last one. One object for all cells of a REPL: what holds it sees the current one."""

    def __init__(self) -> None:
        self.number = 0
        self.seconds = 30.0
        """Limit of CPU and wall time; see `starvation.counted`."""
        self.cpu_clock: Callable[[], float] = time.process_time
        """CPU used so far by what runs the cells and nothing else."""
        self.starved_clock: Callable[[], float] = float
        """Seconds that it has waited for a CPU so far; always 0.0 where nobody counts them."""
        self.running = False
        self.overdue = False
        """The limiter struck where nothing could be raised; the selector is to raise instead."""
        self.finished = False
        """Whether it has called `finish`."""
        self.over = False
        """Whether its report is complete."""
        self.refused: str | None = None
        """Why the value of `finish` does not fit `returns`."""
        self.ending: CellExit | None = None
        """What the cell is being ended by, where it is."""
        self.output = CutText(0)
        self.hints: list[str] = []
        """Hints on the form of the code, shown at the end of the output."""
        self._started = self._waited = 0.0
        self._starved = 0.0
        """What the clock of starvation would show if it had stood still before the cell and while the cell waited."""
        self._waiting: tuple[float, float, float] | None = None

    def begin(self, output_chars: int) -> None:
        """The next cell begins."""
        self.number += 1
        self.finished = self.over = False
        self.refused = None
        self.output = CutText(output_chars)
        self._started, self._waited = time.monotonic(), 0.0
        self._starved = self.starved_clock()
        self.running = True

    def end(self) -> None:
        """The cell has ended."""
        self.running = self.overdue = False

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    def wait(self, select: Callable[[], Any]) -> Any:
        """Call `select`, which waits for the host: the clock stands still, but for the CPU that is used meanwhile."""
        self._waiting = time.monotonic(), self.cpu_clock(), self.starved_clock()
        try:
            return select()
        finally:
            began, cpu, starved = self._waiting
            self._starved += self.starved_clock() - starved
            self._waited += max(0.0, time.monotonic() - began - (self.cpu_clock() - cpu))
            self._waiting = None

    def remaining(self) -> float:
        """Seconds left of its time."""
        now, starved = time.monotonic(), None
        if self._waiting is not None:
            began, cpu, starved = self._waiting
            now = began + self.cpu_clock() - cpu
        wall = now - self._started - self._waited
        if wall < self.seconds:  # most of the time: it spares the look at the other clock
            return self.seconds - wall
        if starved is None:
            starved = self.starved_clock()
        return self.seconds - counted(wall, starved - self._starved)

    def expire(self) -> None:
        """Its time is up, however little of it has passed: so it was in the cell that this one replays."""
        self._waited = min(self._waited, time.monotonic() - self._started - self.seconds)
        self._starved = float("inf")  # no waiting for a CPU counts for it

    def stop_if_overdue(self) -> None:
        """On the way back to the agent's code: a loop that only ever calls us would never be struck."""
        if self.overdue:
            self.overdue = False
            raise Finished if self.finished else TimedOut

    def check(self) -> None:
        """End the cell again where the agent's code may have swallowed its end."""
        if self.finished:
            raise Finished
        if self.remaining() <= 0:
            raise TimedOut

    def refuse_late(self) -> None:
        """What clings on to a cell that is over makes no calls."""
        if self.finished or self.over:
            raise Finished
        if self.ending is not None or self.remaining() <= 0:
            raise TimedOut


class Limiter(Protocol):
    """Stops a cell at its limits; one for a process of its own, one for a thread."""

    cell: Cell | None
    """The cells that it limits; None until the REPL is open."""

    def allow(self, memory: int, cpu: float | None = None) -> None:
        """From here on cells may take so many bytes of memory more than is in use now, and `cpu` seconds in all."""

    def starved(self) -> float:
        """Seconds that what runs the cells has waited for a CPU so far; 0.0 where nobody counts them."""

    def start(self, seconds: float, used: float) -> None:
        """The cell starts: it may run for so long. `used` is the CPU that the process has used so far."""

    def relax(self) -> None:
        """The cell ran out of memory: give the worker room to say so."""

    def tighten(self) -> bool:
        """Put the memory limit of cells into force; whether it was out of force."""

    def hurry(self) -> None:
        """The cell has called `finish`: interrupt whatever keeps it."""

    def stop(self, used: float) -> None:
        """The cell is over; `used` as for `start`."""
