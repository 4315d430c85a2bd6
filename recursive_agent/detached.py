"""Other people's code that may hang (a scorer, a validator, a slow disk), run so that a run can leave it behind.

A function runs in a daemon thread, a coroutine in a task outside every task group: whoever waits for one can be cancelled
and goes on at once, and neither keeps the process alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import current_token

from . import threads
from .threads import Ended

T = TypeVar("T")
CANCEL_GRACE = 2.0
"""Seconds that a coroutine has to end after it was cancelled, before it is left behind."""


async def call_in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` in a daemon thread. Where the waiting is cancelled, the thread is left behind."""
    ended = await threads.call_in_thread(partial(function, *arguments))
    if ended.error is not None:
        try:
            raise ended.error
        finally:
            ended.error = None  # no circle of frame and exception
    value: T = ended.value
    return value


async def settled(start: Callable[[], Awaitable[Any]], grace: float = CANCEL_GRACE) -> Ended:
    """How `await start()` ended, in a task of its own; any exception but a KeyboardInterrupt is data.

    Where the waiting is cancelled, so is the task; after `grace` seconds in which it did not end, it is left behind.
    """
    ended, over = Ended(), anyio.Event()

    async def body() -> None:
        try:
            ended.value = await start()
        except BaseException as error:
            ended.error = error
        finally:
            over.set()

    stop = _spawn(body, copy_context())
    try:
        await over.wait()
    except BaseException:
        stop()
        with anyio.move_on_after(grace, shield=True):
            await over.wait()
        raise
    if isinstance(ended.error, KeyboardInterrupt):
        raise ended.error
    return ended


_tasks: set[asyncio.Task[None]] = set()


def _spawn(body: Callable[[], Coroutine[Any, Any, None]], context: Context) -> Callable[[], object]:
    """Start a task outside any task group, on either event loop; gives what cancels it."""
    loop = current_token().native_token
    if isinstance(loop, asyncio.AbstractEventLoop):
        task = loop.create_task(body(), context=context)
        _tasks.add(task)  # asyncio itself holds tasks only weakly
        task.add_done_callback(_tasks.discard)
        return task.cancel
    import trio  # on its loop it is installed

    scope = trio.CancelScope()

    async def scoped() -> None:
        with scope:
            await body()

    trio.lowlevel.spawn_system_task(scoped, context=context)
    return scope.cancel
