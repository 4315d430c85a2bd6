"""The time that a run may take: it can stand still."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class RunClock:
    """Ends `scope` when the time of a run is used up. The time stands still while anybody holds it."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        self._holders = 0
        self._kept: float | None = None
        """Seconds that are left, while the time stands still."""
        self._stopped = False

    def start(self, seconds: float | None) -> None:
        """Begin to count; None: without a limit."""
        if self._holders:
            self._kept = math.inf if seconds is None else seconds
        elif seconds is not None:
            self._scope.deadline = anyio.current_time() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; infinity without a limit."""
        return self._scope.deadline - anyio.current_time() if self._kept is None else self._kept

    def hold(self) -> None:
        """Let the time stand still until `release` was called as often as this. Time that is used up stays so."""
        self._holders += 1
        if self._kept is None and not self._stopped and not self._scope.cancel_called and self.left > 0:
            self._kept = self.left
            self._scope.deadline = math.inf

    def release(self) -> None:
        """Let the time go on, unless others hold it."""
        self._holders -= 1
        if self._holders == 0:
            self._go_on()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the time stand still during the block."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def stop(self) -> None:
        """The run has ended: from here on nobody can hold the time, and the deadline is what it would have been."""
        self._stopped = True
        self._go_on()

    def _go_on(self) -> None:
        if self._kept is not None:
            self._scope.deadline = anyio.current_time() + self._kept
            self._kept = None
