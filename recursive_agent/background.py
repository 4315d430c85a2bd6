"""Tasks that hold something open, on either event loop.

A task group (and so a sandbox) must be left by the task that entered it. Fixtures of pytest, cells of a notebook and
generators that are simply left do not: for them a task of its own enters, holds and leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import current_token

from .concurrency import spawn

T = TypeVar("T")


class BackgroundTask:
    """Runs `function(*args)`, which must not raise. `ended` is set when it is over, `over` can be read from anywhere."""

    def __init__(self, function: Callable[..., Awaitable[None]], *args: object) -> None:
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self.over = False
        self._loop: Any = current_token().native_token

        async def body() -> None:
            try:
                with self.scope:
                    await function(*args)
            finally:
                self.over = True
                self.ended.set()

        self._spawned = spawn(body)

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the event loop that runs now."""
        return bool(current_token().native_token == self._loop)

    @property
    def is_gone(self) -> bool:
        """Whether it is over, or its event loop is closed (then nothing of it will ever run again)."""
        closed = isinstance(self._loop, asyncio.AbstractEventLoop) and self._loop.is_closed()
        return self.over or closed

    def stop(self) -> None:
        """Cancel it; from a task of its own event loop."""
        self.scope.cancel()

    def stop_from_anywhere(self) -> None:
        """Cancel it from any thread, also when the event loop is closed or no other is there: then it is over."""
        asynchronous = isinstance(self._loop, asyncio.AbstractEventLoop)
        soon = self._loop.call_soon_threadsafe if asynchronous else self._loop.run_sync_soon
        with suppress(RuntimeError):  # RunFinishedError of trio is one too
            soon(self.scope.cancel)


class Held(Generic[T]):
    """The value of `open(stack)`, held open by a separate task until `aclose`; any task may open and close it."""

    def __init__(self, open_: Callable[[AsyncExitStack], Awaitable[T]]) -> None:
        self._open = open_
        self._ready, self._closing = anyio.Event(), anyio.Event()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._task = BackgroundTask(self._hold)

    async def _hold(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                try:
                    self._value = await self._open(stack)
                finally:
                    self._ready.set()
                await self._closing.wait()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            self._error = error
        finally:
            self._value = None

    async def opened(self) -> T:
        """The value, once it is there. Raises what opening it raised."""
        try:
            await self._ready.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                self._task.stop()
                await self._task.ended.wait()
            raise
        if self._value is None:
            with anyio.CancelScope(shield=True):
                await self._task.ended.wait()
            self._raise()
            raise RuntimeError("it was closed while it was being opened")
        return self._value

    @property
    def value(self) -> T | None:
        """The value while it is open in this event loop, else None."""
        return self._value if not self._task.is_gone and self._task.is_here and not self._closing.is_set() else None

    @property
    def is_gone(self) -> bool:
        """Whether nothing is held any more: closed, or its event loop has ended."""
        return self._task.is_gone

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the event loop that runs now."""
        return self._task.is_here

    async def aclose(self) -> None:
        """Close it and wait until that is done. Raises what closing raised."""
        if self._task.is_gone:
            return
        self._closing.set()
        with anyio.CancelScope(shield=True):
            await self._task.ended.wait()
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
