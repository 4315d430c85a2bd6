"""The event loop of a worker: it runs only while a cell runs, and remembers the tasks that failed unnoticed."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

_Ts = TypeVarTuple("_Ts")

_MOST_FAILURES = 10
_TASKS = 1_000
"""Tasks among which those that are gone are not looked for."""
_ENDING = (SystemExit, KeyboardInterrupt)
"""These leave the loop and end the cell, so its error tells of them (CellExit is one of them)."""


class CellLoop(asyncio.SelectorEventLoop):
    """Says whether anything could run at once, and which tasks failed without anybody looking at their exception."""

    _ready: Any

    def __init__(self, selector: Any = None) -> None:
        super().__init__(selector)
        self.selector = selector
        self._tasks: list[weakref.ref[asyncio.Task[Any]]] = []
        """Those that had not ended at the end of the last cell, and all since; some may be gone."""
        self._room = _TASKS
        self._failures: list[BaseException] = []
        self._unlisted = 0
        self.set_exception_handler(lambda _, context: self._note(context))

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
        task: asyncio.Task[Any] = super().create_task(coro, **options)
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
