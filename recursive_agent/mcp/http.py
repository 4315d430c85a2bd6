"""A server at a URL, as the streams of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from .server import MCPServer

_CONNECT_SECONDS = 30.0
_READ_SECONDS = 300.0
"""How long a stream of events may be silent at least."""


@asynccontextmanager
async def http_streams(server: MCPServer) -> AsyncIterator[tuple[Any, Any]]:
    """The streams that a session reads and writes."""
    most = int(server.max_message_mb * 1024**2)
    silence = None if server.timeout is None else max(_READ_SECONDS, server.timeout + 5)
    if server.transport == "sse":
        seconds = _READ_SECONDS if silence is None else silence
        async with sse_client(
            server.url,
            headers=dict(server.headers),
            timeout=_CONNECT_SECONDS,
            sse_read_timeout=seconds,
            auth=server.auth,
        ) as streams:
            yield streams[0], streams[1]
        return
    timeout = httpx2.Timeout(_CONNECT_SECONDS, read=silence)
    async with httpx2.AsyncClient(
        headers=dict(server.headers),
        timeout=timeout,
        auth=server.auth,
        event_hooks={"response": [_bounding(most)]},
    ) as client:
        async with streamable_http_client(server.url, http_client=client, max_sse_event_size=most) as streams:
            yield streams[0], streams[1]


def _bounding(most: int) -> Callable[[httpx2.Response], Awaitable[None]]:
    """Reads of a body in one piece no more than `most` bytes. (Streams of events are bounded event by event.)"""

    async def bound(response: httpx2.Response) -> None:
        if "text/event-stream" not in response.headers.get("content-type", ""):
            response.stream = _BoundedStream(response.stream, most)

    return bound


class _TooLarge(httpx2.StreamError):
    """Fails the request alone, not the session."""


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: Any, most: int) -> None:
        self._inner = inner
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > self._most:
                raise _TooLarge(
                    f"the answer has more than {self._most:,} bytes, which max_message_mb allows: ask for less"
                )
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
