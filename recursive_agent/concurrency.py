"""Structured concurrency: task groups that unwrap, a race of two, and tasks outside every task group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import current_token

T = TypeVar("T")
CANCEL_GRACE = 2.0
"""Seconds that a coroutine has to end after it was cancelled, before it is left behind."""


# -- in a task group --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """anyio's task group, which raises the exception that went wrong in it instead of a group around it."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise the_cause(errors) from None


def the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception a task group wrapped; cancellation counts only where nothing else went wrong."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            flat.append(error)
    return next((error for error in flat if not isinstance(error, anyio.get_cancelled_exc_class())), flat[0])


class Race(Enum):
    """How a race may end without a value."""

    LOST = "lost"


LOST: Final = Race.LOST
"""`race` gives this where the other one ended first."""


async def race(work: Callable[[], Awaitable[T]], other: Callable[[], Awaitable[object]]) -> T | Literal[Race.LOST]:
    """What `work()` gives; LOST if `other()`, which runs beside it, ends first. Whichever ends first cancels the other.

    Raises what either of them raises, as it is.
    """
    result: T | Literal[Race.LOST] = LOST
    async with task_group() as group:

        async def watch() -> None:
            await other()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        result = await work()
        group.cancel_scope.cancel()
    return result


# -- outside every task group -----------------------------------------------------------------------------------------


class Spawned(NamedTuple):
    """A task outside every task group. Keep `handle` while it should run: asyncio itself holds tasks only weakly."""

    handle: object
    cancel: Callable[[], object]


def spawn(body: Callable[[], Coroutine[Any, Any, None]]) -> Spawned:
    """Start a task outside every task group, on either event loop, in a copy of the current context."""
    loop, context = current_token().native_token, copy_context()
    if isinstance(loop, asyncio.AbstractEventLoop):
        task = loop.create_task(body(), context=context)
        return Spawned(task, task.cancel)
    import trio  # on its loop it is installed

    scope = trio.CancelScope()

    async def scoped() -> None:
        with scope:
            await body()

    return Spawned(trio.lowlevel.spawn_system_task(scoped, context=context), scope.cancel)


@dataclass(slots=True)
class Ended:
    """How a call ended: with a value, or with any exception (also one that must not travel through an event loop)."""

    value: Any = None
    error: BaseException | None = None


_settling: dict[object, Spawned] = {}
"""Tasks of `settled` that go on, also those that were left behind."""


async def settled(start: Callable[[], Awaitable[Any]], grace: float = CANCEL_GRACE) -> Ended:
    """How `await start()` ended, in a task of its own; any exception but a KeyboardInterrupt is data.

    For other people's code that may hang: where the waiting is cancelled, so is the task; after `grace` seconds in which it
    did not end, it is left behind.
    """
    ended, over, key = Ended(), anyio.Event(), object()

    async def body() -> None:
        try:
            ended.value = await start()
        except BaseException as error:
            ended.error = error
        finally:
            _settling.pop(key, None)
            over.set()

    spawned = spawn(body)
    if not over.is_set():
        _settling[key] = spawned
    try:
        await over.wait()
    except BaseException:
        spawned.cancel()
        with anyio.move_on_after(grace, shield=True):
            await over.wait()
        raise
    if isinstance(ended.error, KeyboardInterrupt):
        raise ended.error
    return ended
