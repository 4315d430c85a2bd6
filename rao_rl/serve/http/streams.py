"""Work that ends when its client goes, and answers that come as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, TypeVar

import anyio
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from recursive_agent.concurrency import LOST, race

from .errors import INTERNAL, ApiError
from .traffic import stopping

T = TypeVar("T")

DONE = b"data: [DONE]\n\n"
EVENT_STREAM = "text/event-stream"
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""No proxy may keep events back; nginx asks for the second one."""
PING = b": ping\n\n"
"""A comment, which clients pass over."""
PING_SECONDS = 15.0
"""Silence after which one is sent."""
_LAST_WORD = 1.0
"""Seconds that a client has to take in why a stream ends before its time."""
_ESCAPED = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""Ends of lines to Unicode, and so to some clients, but not to JSON."""


def sse(data: Any, event: str | None = None) -> bytes:
    """A server-sent event of JSON (pydantic models allowed)."""
    name = b"" if event is None else b"event: %b\n" % event.encode()
    text = to_json(data)
    for character, escape in _ESCAPED:
        text = text.replace(character, escape)
    return b"%bdata: %b\n\n" % (name, text)


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


class EventChannel:
    """The sending end of a stream of events, `headers` first.

    `send` sends the parts of the answer in their order. While `run` runs, a comment is sent wherever `ping_seconds` have passed
    between two events, so that no proxy takes the connection for dead; before the first event too, which begins the answer.
    """

    def __init__(
        self,
        send: Send,
        *,
        headers: Sequence[tuple[bytes, bytes]],
        ping_seconds: float,
        failed: Callable[[dict[str, Any]], bytes] = sse,
    ) -> None:
        self._send = send
        self._headers = headers
        self._ping_seconds = ping_seconds
        self._failed = failed
        self._turn = anyio.Lock()
        self._sent = anyio.current_time()
        self._end = b"\n\n"
        self.begun = False
        """Whether status and headers have been sent."""
        self.of_events = True
        """Whether the answer is a stream of events, so that comments and errors may be among them."""

    @property
    def between_events(self) -> bool:
        """Whether something else than the rest of an event may come now."""
        return self.of_events and self._end.endswith((b"\n\n", b"\r\n\r\n"))

    async def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin the answer otherwise than with 200 and the channel's own headers."""
        async with self._turn:
            self.begun = True
            await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, part: bytes, *, more: bool = True) -> None:
        """Send a part of the answer's body, the last one without `more`."""
        async with self._turn:
            self._sent = anyio.current_time()
            self._end = (self._end + part)[-4:]
            if not self.begun:
                self.begun = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def run(self, receive: Receive, work: Callable[[], Awaitable[object]]) -> None:
        """Do `work`, which sends, then end the answer; it is cancelled once the client has gone.

        What fails before the answer has begun is raised, and gets an HTTP status; later it becomes one last event.
        """
        try:
            await unless_disconnected(receive, lambda: race(work, self._keep_alive))
        except ClientDisconnect:
            raise
        except Exception as error:
            if not (self.begun and self.between_events):
                raise
            await self._tell(error.body if isinstance(error, ApiError) else INTERNAL)
            if not isinstance(error, ApiError):
                raise
        except anyio.get_cancelled_exc_class():
            if self.begun and self.between_events:
                with anyio.move_on_after(_LAST_WORD, shield=True):
                    await self._tell(stopping().body)
            raise
        else:
            await self.send(b"", more=False)

    async def _tell(self, error: dict[str, Any]) -> None:
        await self.send(self._failed(error))
        await self.send(b"", more=False)

    async def _keep_alive(self) -> None:
        while True:
            await anyio.sleep_until(self._sent + self._ping_seconds)
            if anyio.current_time() < self._sent + self._ping_seconds:
                continue
            if self.between_events:
                await self.send(PING)
            else:
                self._sent = anyio.current_time()


class EventStream(Response):
    """Events (see `sse`; at least one) as they come, while `gate` has room for them.

    Nothing is sent before the first event is there or `ping_seconds` have passed, so what fails until then has an HTTP status
    of its own; what fails later, a server that ends among it, becomes one last event, `failed(body)`. `events` is cancelled
    and closed once the client has gone. In silence, in the queue too, comments keep the connection (see `EventChannel`).
    """

    media_type = EVENT_STREAM

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        gate: AbstractAsyncContextManager[Any] | None = None,
        failed: Callable[[dict[str, Any]], bytes] = sse,
        ping_seconds: float = PING_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={**STREAM_HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._gate = gate
        self._failed = failed
        self._ping_seconds = ping_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        channel = EventChannel(send, headers=self.raw_headers, ping_seconds=self._ping_seconds, failed=self._failed)

        async def stream() -> None:
            async with self._gate or nullcontext(), aclosing(self._events) as events:
                async for event in events:
                    await channel.send(event)

        await channel.run(receive, stream)
