"""Sync functions of the caller (tools, scorers, validators), run on threads that never keep the program alive.

anyio's own worker threads are joined when Python exits, so that one call that hangs holds the process for ever. These are
daemons: a call that is given up goes on in its thread until it returns, and ends with the program at the latest.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import RunVar, current_token

from .concurrency import Ended

T = TypeVar("T")

MOST_AT_ONCE = 64
"""Calls at once in one event loop; further ones wait."""
MOST_THREADS = 512
"""Threads in all, with those whose call was given up but has not returned."""
MOST_LEFT = 16
"""Threads whose call one owner (an agent) gave up; it may make no further ones until some have returned."""
MOST_LEFT_TOGETHER = 128
"""The same for owners that belong together (the agents of a run): the others have the rest."""

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("rao-tool-threads")
_running = 0
_left: Counter[Hashable] = Counter()
"""Calls given up that have not returned, by owner and by what the owner belongs to."""
_lock = threading.Lock()


async def call_in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` in a daemon thread. Where the waiting is cancelled, the thread is left behind."""
    ended = await settled_in_thread(partial(function, *arguments))
    if ended.error is not None:
        try:
            raise ended.error
        finally:
            ended.error = None  # no circle of frame and exception
    value: T = ended.value
    return value


async def settled_in_thread(function: Callable[[], Any], owner: tuple[Hashable, Hashable] | None = None) -> Ended:
    """How `function` ended in a daemon thread, in a copy of the current context; what it raises is data.

    Cancellation does not wait for it. `owner` is who calls, and what it belongs to; who gives up many calls that go on takes
    no threads from others. Raises RuntimeError when too many calls hang.
    """
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(MOST_AT_ONCE)
        _limiter.set(limiter)
    async with limiter:
        _check(owner)  # here, where one that waited for its turn sees what was given up meanwhile
        done, ended = anyio.Event(), Ended()
        wake = _waker(done)
        context = copy_context()
        context.run(outside_the_loop)
        call = _Call(owner)
        _begin()
        try:
            thread = threading.Thread(
                target=_run, args=(context, function, ended, wake, call), name="rao tool", daemon=True
            )
            thread.start()
        except BaseException:
            _end(call)
            raise
        try:
            await done.wait()
        except BaseException:
            _leave(call)
            raise
        return ended


@dataclass(slots=True)
class _Call:
    """A call in a thread: who made it, and whether it was given up, or has returned."""

    owner: tuple[Hashable, Hashable] | None
    left: bool = False
    over: bool = False


def _run(context: Context, function: Callable[[], Any], ended: Ended, wake: Callable[[], object], call: _Call) -> None:
    try:
        ended.value = context.run(function)
    except BaseException as error:
        ended.error = error
    finally:
        _end(call)
        with suppress(RuntimeError):  # the event loop may be gone, and then nobody waits
            wake()


def _waker(done: anyio.Event) -> Callable[[], object]:
    """Sets an event of the current event loop from another thread."""
    loop: Any = current_token().native_token
    soon = loop.call_soon_threadsafe if isinstance(loop, asyncio.AbstractEventLoop) else loop.run_sync_soon
    return partial(soon, done.set)


def outside_the_loop() -> None:
    """In this context, let anyio start an event loop: the thread has none, whatever the context was copied from."""
    with suppress(ImportError):
        import sniffio

        sniffio.current_async_library_cvar.set(None)


def _begin() -> None:
    global _running
    with _lock:
        if _running >= MOST_THREADS:
            raise RuntimeError(f"{_running} calls are still running in threads, which is the limit; some of them hang")
        _running += 1


def _end(call: _Call) -> None:
    global _running
    with _lock:
        _running -= 1
        call.over = True
        if call.left:
            _count(call, -1)


def _leave(call: _Call) -> None:
    with _lock:
        if not call.over:
            call.left = True
            _count(call, 1)


def _count(call: _Call, number: int) -> None:
    for name in call.owner or ():
        _left[name] += number
        if not _left[name]:
            del _left[name]


def _check(owner: tuple[Hashable, Hashable] | None) -> None:
    if owner is None:
        return
    for name, most, whose in zip(
        owner, (MOST_LEFT, MOST_LEFT_TOGETHER), ("you", "the agents of this run"), strict=True
    ):
        if (left := _left[name]) >= most:
            raise RuntimeError(
                f"{left} calls that {whose} gave up are still running, which is the limit: wait until some have returned"
            )
