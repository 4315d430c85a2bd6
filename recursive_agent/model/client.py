"""Connections to an endpoint: TLS, proxy, key and headers, the same for every request that leaves.

Whatever the libraries below (see `transport`) raise comes out as a `Failure`, at one place.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from .._version import __version__
from .broken import broken
from .decoding import TooLarge, Undecodable, decoded
from .endpoint import Endpoint
from .failures import Failure
from .surroundings import Proxy, proxy_for, tls_context
from .transport import AiohttpTransport, HttpxTransport, Reply, Timeouts, Transport, on_asyncio

if TYPE_CHECKING:
    import ssl

_CONNECT_TIMEOUT = 10.0
_MOST_REDIRECTS = 5
_FOR_ANYONE = frozenset({"accept", "accept-encoding", "content-type", "user-agent"})
"""Headers that a redirect may take to other addresses. All others may hold a key, those of OPENAI_CUSTOM_HEADERS too."""


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
        self._transports: dict[EventLoopToken, Transport] = {}
        self._tls: ssl.SSLContext | None = None
        self._headers = _headers(endpoint)

    async def aclose(self) -> None:
        """Close the connections made from this event loop."""
        transport = self._transports.pop(current_token(), None)
        if transport is not None:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await transport.aclose()

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        encoding: str = "identity",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Reply]:
        """Send a request (`content` is JSON) and give the answer, whatever its status, before its body is read.

        `path` is one below the base URL, or a whole URL. Raises Failure where no answer comes.
        """
        response = await self._send(method, path, content, query, {**(headers or {}), "accept-encoding": encoding})
        try:
            yield response
        finally:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await response.aclose()

    async def pieces(self, response: Reply, largest: float = math.inf) -> AsyncGenerator[bytes]:
        """The bytes of an answer as they come. Raises Failure where they break off or do not end."""
        pieces = response.pieces()
        size, ended = 0, False
        try:
            while True:
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    ended = True
                    return
                except Exception as error:
                    raise self._broken(error, answered=True) from None
                size += len(piece)
                if size > largest:
                    raise Failure(f"the answer is larger than {largest // 2**20} MiB", lost=True)
                yield piece
        finally:
            if not ended:
                with anyio.CancelScope(shield=True), suppress(Exception):
                    await response.aclose()

    async def whole(self, response: Reply, largest: int) -> bytes:
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
        self, method: str, path: str, content: bytes | None, query: Mapping[str, str] | None, headers: dict[str, str]
    ) -> Reply:
        transport = self._transport()
        url = path if path.startswith("http") else self.endpoint.url(path)
        if query:
            url = f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}"
        if content is not None:
            headers["content-type"] = "application/json"
        headers = {**self._headers, **headers}
        # Between here and the return nothing of ours runs, so whatever is raised is the libraries'.
        try:
            response = await transport.send(method, url, headers, content, self._tls_for(url))
            for _ in range(_MOST_REDIRECTS):
                further = _redirection(response)
                if further is None:
                    break
                await response.aclose()
                if not _is_trusted(url, further):
                    headers = {name: value for name, value in headers.items() if name in _FOR_ANYONE}
                url = further
                response = await transport.send(method, url, headers, content, self._tls_for(url))
        except Exception as error:
            raise self._broken(error) from None
        return response

    def _transport(self) -> Transport:
        token = current_token()
        transport = self._transports.get(token)
        if transport is None:
            transport = self._transports[token] = self._make_transport()
        return transport

    def _make_transport(self) -> Transport:
        self.proxy = proxy_for(self.endpoint)
        connect = _CONNECT_TIMEOUT if self._timeout is None else min(_CONNECT_TIMEOUT, self._timeout / 2)
        timeouts = Timeouts(connect, self._timeout)
        if self.proxy is None and on_asyncio():
            return AiohttpTransport(timeouts)
        return HttpxTransport(timeouts, self._own_tls(), self.proxy)

    def _tls_for(self, url: str) -> ssl.SSLContext | None:
        return self._own_tls() if urlsplit(url).scheme == "https" else None

    def _own_tls(self) -> ssl.SSLContext:
        if self._tls is None:  # takes longer to make than everything else, and can be shared
            self._tls = tls_context(self.endpoint, self.proxy)
        return self._tls

    def _broken(self, error: Exception, *, answered: bool = False) -> Failure:
        return broken(error, self.endpoint, self.proxy, answered=answered)


def _headers(endpoint: Endpoint) -> dict[str, str]:
    """What goes along with every request, by names in small letters: also what the `openai` SDK reads from the environment."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    named = (line.partition(":") for line in lines if ":" in line)
    headers = {
        "accept": "application/json",
        "user-agent": f"rao/{__version__}",
        "openai-organization": os.environ.get("OPENAI_ORG_ID", ""),
        "openai-project": os.environ.get("OPENAI_PROJECT_ID", ""),
        **{name.strip().lower(): value.strip() for name, _, value in named},
        "authorization": endpoint.authorization,
    }
    if endpoint.is_azure:
        headers["api-key"] = endpoint.api_key
    return {name: value for name, value in headers.items() if name and value}


def _redirection(response: Reply) -> str | None:
    """Where an answer sends the same request to, None where it does not, or to nothing that could be asked."""
    location = response.headers.get("location")
    if response.status_code not in (307, 308) or not location:
        return None
    try:
        parts = urlsplit(urljoin(response.url, location))
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    # Name and password would stand in the way of the key.
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if known else None


def _is_trusted(here: str, there: str) -> bool:
    """Whether a key that was sent here may go there: the same address, or the same host by TLS, both on their usual ports."""
    before, after = urlsplit(here), urlsplit(there)
    ports = {"http": 80, "https": 443}
    origins = [(parts.scheme, parts.hostname, parts.port or ports[parts.scheme]) for parts in (before, after)]
    return origins[0] == origins[1] or origins == [("http", before.hostname, 80), ("https", before.hostname, 443)]
