"""Watching a run: an async iterator over its events that owns the run."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self
from weakref import ref

import anyio

from .background import BackgroundTask
from .errors import ConfigurationError, NotFinished
from .result import Result
from .trace.schema import Event

Runner = Callable[[Callable[[Event], None]], Awaitable[Result]]


class Stream:
    """The events of one run, in order. The run starts with the first `async for` step, or on entering `async with`.

    This object stops the run when it is closed or garbage-collected. (A generator could not: after a `break`, it cannot stop
    its own task group, so the run is a separate task.)
    """

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._send, self._receive = anyio.create_memory_object_stream[Event](math.inf)
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._task: BackgroundTask | None = None
        self._over = False
        """All events were taken."""
        self._closed = False

    @property
    def result(self) -> Result:
        """The result, after the last event. Raises NotFinished before that."""
        if self._result is None:
            raise NotFinished("the stream has no result yet; iterate to its end first")
        return self._result

    def __aiter__(self) -> Self:
        self._check()
        return self

    async def __anext__(self) -> Event:
        if self._over:
            raise StopAsyncIteration
        self._start()
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            self._over = True
            await self._stop()
            error, self._error = self._error, None
            if error is not None:
                raise error from None
            raise StopAsyncIteration from None
        except anyio.ClosedResourceError:  # closed by another task while this one waited
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the run if it is still going on, and wait until it has ended."""
        self._closed = True
        await self._stop()

    async def _stop(self) -> None:
        if self._task is not None and not self._task.is_gone:
            self._task.stop()
            with anyio.CancelScope(shield=True):
                await self._task.ended.wait()
        self._send.close()
        self._receive.close()

    def __del__(self) -> None:
        # It may be called in any thread, and when event loop and interpreter are already gone.
        with suppress(Exception):
            if self._task is not None and not self._task.is_gone:
                self._task.stop_from_anywhere()
            self._send.close()
            self._receive.close()

    def _check(self) -> None:
        if self._over:
            raise ConfigurationError(
                "this stream has ended and its events were taken; call agent.stream(...) again for another run, or keep the "
                "events in a list"
            )
        if self._closed:
            raise ConfigurationError("this stream was closed; call agent.stream(...) again for another run")

    def _start(self) -> None:
        self._check()
        if self._task is None:
            self._task = BackgroundTask(_produce, self._run, self._send.clone(), _Outlet(self))
            self._send.close()


class _Outlet:
    """Where the task leaves its result, without keeping the stream alive."""

    def __init__(self, stream: Stream) -> None:
        self._stream = ref(stream)

    def put(self, result: Result | None, error: BaseException | None) -> None:
        stream = self._stream()
        if stream is not None:
            stream._result, stream._error = result, error


async def _produce(run: Runner, send: Any, outlet: _Outlet) -> None:
    def watch(event: Event) -> None:
        # The reader may have left: then the run is being stopped.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            send.send_nowait(event)

    with send:
        try:
            outlet.put(await run(watch), None)
        except Exception as error:
            outlet.put(None, error)
