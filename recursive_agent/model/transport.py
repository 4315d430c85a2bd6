"""Requests out, answers in: by aiohttp, or by httpx where aiohttp cannot.

aiohttp takes a third of httpx's CPU for a call, but knows neither trio nor SOCKS. httpx's client is that of the `openai` SDK.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from anyio.lowlevel import current_token

from .surroundings import Proxy, client_proxy

if TYPE_CHECKING:
    import ssl

    import aiohttp
    import httpx2

_UNBOUNDED = 1_000_000
"""Connections at once: the budget limits concurrency, per model call; the pool must never be what calls wait for."""
_MOST_RAW = 2**20
"""Bytes of a request that aiohttp takes as they are; it warns of more, and sends a file piece by piece."""
_LONGEST_HEADER = 2**16
"""Bytes of one header of an answer; gateways write long ones."""
_KEEPALIVE = 4.0
"""Seconds an idle connection is kept: uvicorn, and so vLLM, closes them after five."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, and for the next bytes; None without an end."""

    connect: float
    read: float | None


class Reply(Protocol):
    """An answer whose head has come."""

    status_code: int
    headers: Mapping[str, str]
    """By name, in any case."""
    raw_headers: Sequence[tuple[bytes, bytes]]
    url: str

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, not decoded."""

    async def aclose(self) -> None:
        """Give the connection back; close it where the body has not been read to its end."""


class Transport(Protocol):
    """The connections of one event loop. Both methods raise what the library below raises."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, tls: ssl.SSLContext | None
    ) -> Reply:
        """Send a request and wait for the head of its answer. Redirects are not followed."""

    async def aclose(self) -> None:
        """Close the connections."""


def on_asyncio() -> bool:
    """Whether the event loop that runs is asyncio's."""
    return isinstance(current_token().native_token, asyncio.AbstractEventLoop)


class AiohttpTransport:
    """aiohttp's connections, on asyncio and without a proxy."""

    def __init__(self, timeouts: Timeouts) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.read),
            auto_decompress=False,
            trust_env=False,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, tls: ssl.SSLContext | None
    ) -> Reply:
        """See Transport."""
        data = io.BytesIO(content) if content is not None and len(content) > _MOST_RAW else content
        response = await self._session.request(
            method, url, headers=headers, data=data, allow_redirects=False, ssl=True if tls is None else tls
        )
        return _AiohttpReply(response)

    async def aclose(self) -> None:
        """See Transport."""
        await self._session.close()


class _AiohttpReply:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status_code = response.status
        self.headers: Mapping[str, str] = response.headers
        self.raw_headers: Sequence[tuple[bytes, bytes]] = response.raw_headers
        self.url = str(response.url)

    def pieces(self) -> AsyncIterator[bytes]:
        return self._response.content.iter_any()

    async def aclose(self) -> None:
        self._response.close()


class HttpxTransport:
    """httpx's connections, on any event loop and through any proxy."""

    def __init__(self, timeouts: Timeouts, tls: ssl.SSLContext, proxy: Proxy | None) -> None:
        import httpx2
        import openai

        self._client = openai.DefaultAsyncHttpxClient(
            limits=httpx2.Limits(max_connections=_UNBOUNDED, keepalive_expiry=_KEEPALIVE),
            timeout=httpx2.Timeout(timeouts.read, connect=timeouts.connect, pool=None),
            verify=tls,
            proxy=None if proxy is None else client_proxy(proxy),
            trust_env=False,
            follow_redirects=False,
        )

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, tls: ssl.SSLContext | None
    ) -> Reply:
        """See Transport; `tls` is that of the client."""
        request = self._client.build_request(method, url, headers=headers, content=content)
        return _HttpxReply(await self._client.send(request, stream=True))

    async def aclose(self) -> None:
        """See Transport."""
        await self._client.aclose()


class _HttpxReply:
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._pieces: AsyncIterator[bytes] | None = None
        self.status_code = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.raw_headers: Sequence[tuple[bytes, bytes]] = response.headers.raw
        self.url = str(response.url)

    def pieces(self) -> AsyncIterator[bytes]:
        self._pieces = self._response.aiter_raw()
        return self._pieces

    async def aclose(self) -> None:
        await self._response.aclose()
        # Left early, the iterator leaves those below it to the collector, which trio rightly complains about. With the
        # response closed they come to their end by themselves.
        if self._pieces is not None:
            with suppress(Exception):
                async for _ in self._pieces:
                    pass
