"""The event loop of a worker: it runs only while a cell runs, and remembers the tasks that failed unnoticed."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol, TypeVarTuple

from .tasks import Task

_Ts = TypeVarTuple("_Ts")

_MOST_FAILURES = 10
_TASKS = 1_000
"""Tasks among which those that are gone are not looked for."""
_ENDING = (SystemExit, KeyboardInterrupt)
"""These leave the loop and end the cell, so its error tells of them (CellExit is one of them)."""


class LoopClock(Protocol):
    """What the timers of a loop go by."""

    def now(self) -> float:
        """The time, as the loop itself looks at it."""

    def read_for_timer(self) -> float:
        """The time from which a timer counts."""


class CellLoop(asyncio.SelectorEventLoop):
    """Says whether anything could run at once, and which tasks failed without anybody looking at their exception."""

    _ready: Any
    _scheduled: Any
    _stopping: bool
    _clock_resolution: float
    _check_closed: Callable[[], None]

    def __init__(self, selector: Any = None) -> None:
        super().__init__(selector)
        self.selector = selector
        self._tasks: list[weakref.ref[asyncio.Task[Any]]] = []
        """Those that had not ended at the end of the last cell, and all since; some may be gone."""
        self._room = _TASKS
        self._number = 0
        """Tasks made so far."""
        self._failures: list[BaseException] = []
        self._unlisted = 0
        self.clock: LoopClock | None = None
        """What its timers go by; real time where there is none."""
        self._between = False
        """Whether the loop looks for what to run next, and runs nothing."""
        self._due: float | None = None
        self.set_exception_handler(lambda _, context: self._note(context))

    # -- time --------------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """As asyncio has it. What sets a timer is logged, so that a replay sets the same one."""
        due = self._due
        if due is not None:  # asked once after each look for news
            self._due = None
            return due
        if self.clock is None:
            return time.monotonic()
        return self.clock.now() if self._between else self.clock.read_for_timer()

    def _run_once(self) -> None:
        self._between = True
        super()._run_once()  # type: ignore[misc]

    def looked(self, due: float) -> None:
        """Its selector has looked for news: timers until `due` are due now."""
        self._between = False
        self._due = due

    @property
    def idle(self) -> bool:
        """Whether it has nothing to run before something comes, or a timer is due."""
        return not self._ready and not self._stopping

    @property
    def has_timers(self) -> bool:
        """Whether a timer is set, or one that was cancelled is not forgotten yet."""
        return bool(self._scheduled)

    def is_due(self, now: float) -> bool:
        """Whether the first timer is due."""
        first = self._scheduled[0] if self._scheduled else None
        return first is not None and first.when() < now + self._clock_resolution

    def wait_for_timer(self) -> float | None:
        """Seconds until the first timer; 0.0 where something can run at once, None where no timer is set."""
        if not self.idle:
            return 0.0
        return max(0.0, self._scheduled[0].when() - self.time()) if self._scheduled else None

    # -- tasks -------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether callbacks are waiting to be run."""
        return bool(self._ready)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio has it, of a plain number: the loop compares it where no code of the agent's may run."""
        return super().call_at(float(when), callback, *args, context=context)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As asyncio has it."""
        self._check_closed()
        self._number += 1
        task = Task(coro, number=self._number, loop=self, **options)
        if len(self._tasks) >= self._room:
            self._tasks = [known for known in self._tasks if known() is not None]
            self._room = _TASKS + 2 * len(self._tasks)
        self._tasks.append(weakref.ref(task))
        return task

    def _note(self, context: dict[str, Any]) -> None:
        """A task was thrown away, or a callback failed, with an exception that nobody has seen."""
        error = context.get("exception")
        if isinstance(error, BaseException) and not isinstance(error, _ENDING):
            self._add(error)

    def _add(self, error: BaseException) -> None:
        if len(self._failures) < _MOST_FAILURES:
            self._failures.append(error)
        else:
            self._unlisted += 1

    def take_failures(self) -> tuple[list[BaseException], int]:
        """The exceptions of tasks that failed and that nobody has seen, each once; and how many more there were."""
        tasks, self._tasks = self._tasks, []
        for known in tasks:
            task = known()
            if task is None:
                continue
            if not task.done():
                self._tasks.append(known)
            elif not task.cancelled() and task._log_traceback:
                error = task.exception()  # seen from here on
                if error is not None and not isinstance(error, _ENDING):
                    self._add(error)
        failures, self._failures = self._failures, []
        unlisted, self._unlisted = self._unlisted, 0
        return failures, unlisted
