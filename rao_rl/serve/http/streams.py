"""Work that ends when its client goes, and answers that come as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, TypeVar

import anyio
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from recursive_agent.concurrency import LOST, race

from .errors import INTERNAL, ApiError

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
"""A comment, which clients pass over."""
PING_SECONDS = 15.0
"""Silence after which one is sent."""


def sse(data: Any, event: str | None = None) -> bytes:
    """A server-sent event of JSON (pydantic models allowed)."""
    name = b"" if event is None else b"event: %b\n" % event.encode()
    return b"%bdata: %b\n\n" % (name, to_json(data))


async def unless_disconnected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """What `work()` gives; it is cancelled, and ClientDisconnect raised, once the client has gone.

    `receive` is that of a request whose body was read (`request.receive`).
    """

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    result = await race(work, listen)
    if result is LOST:
        raise ClientDisconnect
    return result


class EventStream(Response):
    """Events (see `sse`; at least one) as they come, while `gate` has room for them.

    Nothing is sent before the first event is there or `ping_seconds` have passed, so what fails until then has an HTTP status
    of its own; what fails later becomes one last event, `failed(body)`. `events` is cancelled and closed once the client
    has gone. After `ping_seconds` without an event, in the queue too, a comment is sent, so that no proxy takes the
    connection for dead.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        gate: AbstractAsyncContextManager[Any] | None = None,
        failed: Callable[[dict[str, Any]], bytes] = sse,
        ping_seconds: float = PING_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._gate = gate
        self._failed = failed
        self._ping_seconds = ping_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        started, sent, turn = False, anyio.current_time(), anyio.Lock()

        async def body(part: bytes, more: bool = True) -> None:
            nonlocal started, sent
            async with turn:
                sent = anyio.current_time()
                if not started:
                    started = True
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": part, "more_body": more})

        async def stream() -> None:
            async with self._gate or nullcontext(), aclosing(self._events) as events:
                async for event in events:
                    await body(event)

        async def ping() -> None:
            while True:
                await anyio.sleep_until(sent + self._ping_seconds)
                if anyio.current_time() >= sent + self._ping_seconds:
                    await body(PING)

        try:
            await unless_disconnected(receive, lambda: race(stream, ping))
        except ClientDisconnect:
            raise
        except Exception as error:
            if not started:
                raise
            await body(self._failed(error.body if isinstance(error, ApiError) else INTERNAL))
            await body(b"", more=False)
            if not isinstance(error, ApiError):
                raise
        else:
            await body(b"", more=False)
