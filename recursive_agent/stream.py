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
from .steering import Steering
from .trace.schema import Event

Runner = Callable[[Callable[[Event], None]], Awaitable[Result]]


class Stream:
    """The events of one run, in order. The run starts with the first `async for` step, or on entering `async with`.

    This object stops the run when it is closed or garbage-collected. (A generator could not: after a `break`, it cannot stop
    its own task group, so the run is a separate task.)
    """

    def __init__(self, run: Runner, steering: Steering | None = None) -> None:
        self._run = run
        self._steering = steering or Steering()
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

    @property
    def paused(self) -> bool:
        """Whether the run is paused."""
        return self._steering.paused

    def pause(self) -> None:
        """Pause the run: no new model call is sent and no new cell starts until `resume`.

        Calls of the model and cells that are under way go on to their end, with the tools and launches of these cells. The
        time of `Limits.timeout` stands still; all other limits stay. A paused run can be closed. Raises ConfigurationError
        if the run has not started or has ended, as do `resume`, `cancel` and `tell`; call them in the run's event loop.
        """
        self._controls().pause()

    def resume(self) -> None:
        """Continue after `pause`; does nothing if the run is not paused."""
        self._controls().resume()

    def cancel(self, node: str, reason: str | None = None) -> None:
        """Cancel an agent and all agents below it; `node` is its id in the events.

        They end with the status CANCELLED and the reason. The parent's code gets a SubagentError with the partial result,
        and its other sub-agents go on. If you cancel the root, "0", the run ends with a result. An agent that ends by itself
        in the same moment keeps its own result. Raises ConfigurationError if the agent does not exist or has ended.
        """
        self._controls().cancel(node, reason)

    def tell(self, node: str, text: str) -> None:
        """Send a message to an agent: it reads it as part of its next observation, or of its first prompt.

        If the agent ends first, the trace says that it did not read the message. Raises ConfigurationError if the agent does
        not exist or has ended, or if its unread messages would have more than 10,000 characters.
        """
        self._controls().tell(node, text)

    def _controls(self) -> Steering:
        task = self._task
        if task is None:
            raise ConfigurationError(
                "this run has not started, so it cannot be steered yet: enter `async with` or take its first event"
            )
        if self._closed or task.is_gone:
            raise ConfigurationError("this run has ended; only a run that goes on can be steered")
        try:
            here = task.is_here
        except RuntimeError:  # a thread without an event loop
            here = False
        if not here:
            raise ConfigurationError(
                "a run must be steered in its own event loop; in a thread, use anyio.from_thread.run_sync or "
                "loop.call_soon_threadsafe"
            )
        return self._steering

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
