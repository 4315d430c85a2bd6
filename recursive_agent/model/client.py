"""Connections to an endpoint: TLS, proxy, key and headers, the same for every request that leaves.

The clients are those of the `openai` SDK (aiohttp's connections on asyncio, httpx's own on trio) and so are the headers.
Whatever the libraries below raise comes out as a `Failure`, at one place.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from .broken import broken
from .decoding import TooLarge, Undecodable, decoded
from .endpoint import Endpoint
from .failures import Failure
from .surroundings import Proxy, client_proxy, proxy_for, tls_context

if TYPE_CHECKING:
    import ssl

    import httpx2

_CONNECT_TIMEOUT = 10.0
_MOST_REDIRECTS = 5
_UNBOUNDED = 1_000_000
"""Connections at once (a number, since aiohttp takes None for a hundred)."""
_KEEPALIVE = 4.0
"""Seconds an idle connection is kept: uvicorn, and so vLLM, closes them after five."""


class Client:
    """Connections to one endpoint. `timeout` (seconds) is for each wait for bytes, None without an end.

    Connections belong to an event loop, so each loop this is used from has a client of its own. Opens again when used
    after `aclose`.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float | None) -> None:
        self.endpoint = endpoint
        self.proxy: Proxy | None = None
        """What requests go through, once one has left."""
        self._timeout = timeout
        self._clients: dict[EventLoopToken, httpx2.AsyncClient] = {}
        self._tls: ssl.SSLContext | None = None

    async def aclose(self) -> None:
        """Close the connections made from this event loop."""
        client = self._clients.pop(current_token(), None)
        if client is not None:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await client.aclose()

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        encoding: str = "identity",
    ) -> AsyncIterator[httpx2.Response]:
        """Send a request (`content` is JSON) and give the answer, whatever its status, before its body is read.

        `path` is one below the base URL, or a whole URL. Raises Failure where no answer comes.
        """
        response = await self._send(method, path, content, query, encoding)
        try:
            yield response
        finally:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await response.aclose()

    async def pieces(self, response: httpx2.Response, largest: float = math.inf) -> AsyncGenerator[bytes]:
        """The bytes of an answer as they come. Raises Failure where they break off or do not end."""
        pieces = response.aiter_raw()
        size = 0
        try:
            while True:
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except Exception as error:
                    raise self._broken(error, answered=True) from None
                size += len(piece)
                if size > largest:
                    raise Failure(f"the answer is larger than {largest // 2**20} MiB", lost=True)
                yield piece
        finally:
            # Left early, the iterator leaves those below it to the collector, which trio rightly complains about. With
            # the response closed they come to their end by themselves.
            with anyio.CancelScope(shield=True), suppress(Exception):
                await response.aclose()
                async for _ in pieces:
                    pass

    async def whole(self, response: httpx2.Response, largest: int) -> bytes:
        """The body of an answer of at most `largest` bytes, as sent and as decoded. Raises Failure."""
        parts = bytearray()
        async with aclosing(self.pieces(response, largest)) as pieces:
            async for piece in pieces:
                parts += piece
        try:
            return decoded(bytes(parts), response.headers.get("content-encoding", ""), largest)
        except TooLarge:
            raise Failure(f"the answer is larger than {largest // 2**20} MiB", lost=True) from None
        except Undecodable as error:
            raise Failure(f"the answer cannot be decoded: {error}", lost=True) from None

    async def _send(
        self, method: str, path: str, content: bytes | None, query: Mapping[str, str] | None, encoding: str
    ) -> httpx2.Response:
        client = self._client()
        url = path if path.startswith("http") else self.endpoint.url(path)
        headers = {"accept-encoding": encoding}
        if content is not None:
            headers["content-type"] = "application/json"
        # Between here and the return nothing of ours runs, so whatever is raised is the libraries'.
        try:
            request = client.build_request(method, url, headers=headers, content=content, params=query)
            response = await client.send(request, stream=True)
            for _ in range(_MOST_REDIRECTS):
                if response.status_code not in (307, 308) or response.next_request is None:
                    break
                await response.aclose()
                response = await client.send(response.next_request, stream=True)
        except Exception as error:
            raise self._broken(error) from None
        return response

    def _client(self) -> httpx2.AsyncClient:
        token = current_token()
        client = self._clients.get(token)
        if client is None:
            client = self._clients[token] = self._make_client(token)
        return client

    def _make_client(self, token: EventLoopToken) -> httpx2.AsyncClient:
        import httpx2
        import openai

        self.proxy = proxy_for(self.endpoint)
        if self._tls is None:  # takes longer to make than everything else, and can be shared
            self._tls = tls_context(self.endpoint, self.proxy)
        # aiohttp's connections cost half of what httpx's own do, but know neither trio nor SOCKS.
        on_asyncio = isinstance(token.native_token, asyncio.AbstractEventLoop)
        fast = on_asyncio and self.proxy is None
        make = openai.DefaultAioHttpClient if fast else openai.DefaultAsyncHttpxClient
        connect = _CONNECT_TIMEOUT if self._timeout is None else min(_CONNECT_TIMEOUT, self._timeout / 2)
        client = make(
            # The budget limits concurrency, per model call; the pool must never be what calls wait for.
            limits=httpx2.Limits(max_connections=_UNBOUNDED, keepalive_expiry=_KEEPALIVE),
            timeout=httpx2.Timeout(self._timeout, connect=connect, pool=None),
            verify=self._tls,
            proxy=None if self.proxy is None else client_proxy(self.proxy),
            trust_env=False,
            follow_redirects=False,
        )
        sdk = openai.AsyncOpenAI(api_key=self.endpoint.api_key, base_url=self.endpoint.base_url, http_client=client)
        named = {**sdk.default_headers, "authorization": self.endpoint.authorization}
        client.headers.update({name: value for name, value in named.items() if isinstance(value, str)})
        if self.endpoint.is_azure:
            client.headers["api-key"] = self.endpoint.api_key
        return client

    def _broken(self, error: Exception, *, answered: bool = False) -> Failure:
        return broken(error, self.endpoint, self.proxy, answered=answered)
