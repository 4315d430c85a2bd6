"""Task groups wrap what went wrong in exception groups; callers want the exception itself."""

from __future__ import annotations

import anyio


def the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception a task group of ours wrapped; cancellation counts only where nothing else went wrong."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            flat.append(error)
    return next((error for error in flat if not isinstance(error, anyio.get_cancelled_exc_class())), flat[0])
