"""HTTP: one attempt, raw JSON in and out, every failure told apart by what it may have cost.

The clients are those of the `openai` SDK (aiohttp's connections on asyncio, httpx's own on trio) and so are the headers.
Requests are sent and answers read here: every attempt must be accounted for, an answer may be of any size and shape, and
whatever the libraries below raise is told as a `Failure`, at one place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from .broken import broken
from .decoding import TooLarge, Undecodable, decoded
from .endpoint import Endpoint, show_url
from .failures import Failure, Rejected, Unreachable, rejected
from .sse import Events, NoJson
from .stream import Assembly
from .surroundings import Proxy, client_proxy, proxy_for, tls_context

if TYPE_CHECKING:
    import ssl

    import httpx2

LARGEST = 64 * 1024 * 1024
"""Bytes of an answer, as sent and as decoded."""
_LARGEST_ERROR = 1024 * 1024
_CONNECT_TIMEOUT = 10.0
_MOST_REDIRECTS = 5
_UNBOUNDED = 1_000_000
"""Connections at once (a number, since aiohttp takes None for a hundred)."""
_KEEPALIVE = 4.0
"""Seconds an idle connection is kept: uvicorn, and so vLLM, closes them after five."""


class Wire:
    """Connections to one endpoint. `timeout` is for one whole attempt, in seconds.

    Connections belong to an event loop, so each loop this is used from has a client of its own. Opens again when used
    after `aclose`.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self._clients: dict[EventLoopToken, httpx2.AsyncClient] = {}
        self._tls: ssl.SSLContext | None = None
        self._proxy: Proxy | None = None

    async def aclose(self) -> None:
        """Close the connections made from this event loop."""
        client = self._clients.pop(current_token(), None)
        if client is not None:
            with anyio.CancelScope(shield=True), suppress(Exception):
                await client.aclose()

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One attempt at a JSON answer. Raises Failure."""
        async with self._attempt("POST", path, body) as response:
            return self._parse(response, await self._whole(response))

    async def get(self, path: str, *, timeout: float) -> dict[str, Any]:
        """One attempt at a GET. Raises Failure."""
        async with self._attempt("GET", path, None, timeout=timeout) as response:
            return self._parse(response, await self._whole(response))

    @asynccontextmanager
    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """One attempt at a stream of server-sent events; iterating ends at [DONE]. Raises Failure."""
        async with self._attempt("POST", path, body, stream=True) as response:
            async with aclosing(self._events(response)) as events:
                yield events

    @asynccontextmanager
    async def _attempt(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        stream: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        timeout = timeout or self.timeout
        try:
            with anyio.fail_after(timeout):
                response = await self._send(method, path, body, stream)
                try:
                    if not 200 <= response.status_code < 300:
                        raise await self._refusal(response)
                    yield response
                finally:
                    with anyio.CancelScope(shield=True), suppress(Exception):
                        await response.aclose()
        except TimeoutError:
            raise Unreachable(f"no whole answer within {timeout:g} s", lost=True) from None

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None, stream: bool) -> httpx2.Response:
        client = self._client()
        url = path if path.startswith("http") else self.endpoint.url(path)
        headers = {"accept-encoding": "identity" if stream else "gzip, deflate"}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        # Between here and the return nothing of ours runs, so whatever is raised is the libraries'.
        try:
            request = client.build_request(method, url, headers=headers, content=content)
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

        self._proxy = proxy_for(self.endpoint)
        if self._tls is None:  # takes longer to make than everything else, and can be shared
            self._tls = tls_context(self.endpoint, self._proxy)
        # aiohttp's connections cost half of what httpx's own do, but know neither trio nor SOCKS.
        on_asyncio = isinstance(token.native_token, asyncio.AbstractEventLoop)
        fast = on_asyncio and self._proxy is None
        make = openai.DefaultAioHttpClient if fast else openai.DefaultAsyncHttpxClient
        client = make(
            # The budget limits concurrency, per model call; the pool must never be what calls wait for.
            limits=httpx2.Limits(max_connections=_UNBOUNDED, keepalive_expiry=_KEEPALIVE),
            timeout=httpx2.Timeout(self.timeout, connect=min(_CONNECT_TIMEOUT, self.timeout / 2), pool=None),
            verify=self._tls,
            proxy=None if self._proxy is None else client_proxy(self._proxy),
            trust_env=False,
            follow_redirects=False,
        )
        sdk = openai.AsyncOpenAI(api_key=self.endpoint.api_key, base_url=self.endpoint.base_url, http_client=client)
        named = {**sdk.default_headers, "authorization": self.endpoint.authorization}
        client.headers.update({name: value for name, value in named.items() if isinstance(value, str)})
        if self.endpoint.is_azure:
            client.headers["api-key"] = self.endpoint.api_key
        return client

    async def _pieces(self, response: httpx2.Response, largest: int) -> AsyncGenerator[bytes]:
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

    async def _whole(self, response: httpx2.Response, largest: int = LARGEST) -> bytes:
        parts = bytearray()
        async with aclosing(self._pieces(response, largest)) as pieces:
            async for piece in pieces:
                parts += piece
        try:
            return decoded(bytes(parts), response.headers.get("content-encoding", ""), largest)
        except TooLarge:
            raise Failure(f"the answer is larger than {largest // 2**20} MiB", lost=True) from None
        except Undecodable as error:
            raise Failure(f"the answer cannot be decoded: {error}", lost=True) from None

    async def _events(self, response: httpx2.Response) -> AsyncGenerator[dict[str, Any]]:
        if "text/event-stream" not in response.headers.get("content-type", "").lower():
            # An endpoint that cannot stream answers in one piece; one that can may name it wrongly.
            for event in _split(self._parse_any(response, await self._whole(response))):
                yield self._checked(event)
            return
        if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            for event in _split(_in_events(await self._whole(response))):
                yield self._checked(event)
            return
        events = Events()
        async with aclosing(self._pieces(response, LARGEST)) as pieces:
            try:
                async for piece in pieces:
                    # What follows the end is still read, so that the connection can be used again.
                    for event in events.feed(piece):
                        yield self._checked(event)
                for event in events.close():
                    yield self._checked(event)
            except NoJson as error:
                raise Failure(str(error), lost=True) from None

    async def _refusal(self, response: httpx2.Response) -> Failure:
        status, headers = response.status_code, response.headers
        if status < 200:
            return Failure(f"HTTP {status} instead of an answer", lost=True)
        if status < 400:
            return self._redirected(response)
        try:
            raw = await self._whole(response, _LARGEST_ERROR)
        except Failure:
            raw = b""
        try:
            body: Any = json.loads(raw)
        except (ValueError, RecursionError):
            body = raw.decode("utf-8", "replace")
        if status == 407 and self._proxy is not None:
            return Failure(f"{self._proxy} wants other credentials (HTTP 407)", retryable=False)
        return rejected(status, body, headers, secret=self.endpoint.api_key)

    def _redirected(self, response: httpx2.Response) -> Failure:
        location = response.headers.get("location", "")
        place = show_url(str(response.url.join(location))) if _is_location(response, location) else "nowhere"
        for ending in ("/chat/completions", "/completions"):
            place = place.removesuffix(ending)
        return Failure(
            f"it leads elsewhere (HTTP {response.status_code}, {place}); use that as the base URL", retryable=False
        )

    def _parse(self, response: httpx2.Response, content: bytes) -> dict[str, Any]:
        data = self._parse_any(response, content)
        if not isinstance(data, _Stream):
            return self._checked(data)
        whole = Assembly()
        for event in data:
            whole.add(self._checked(event))
        return whole.body()

    def _parse_any(self, response: httpx2.Response, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            pass
        kind = response.headers.get("content-type", "no content type").partition(";")[0]
        if content.lstrip()[:5] in (b"data:", b"event") or "event-stream" in kind:
            return _in_events(content)  # a stream that nobody asked for
        raise Failure(f"the answer is no JSON ({kind}, {len(content)} bytes)", lost=True)

    def _checked(self, data: Any) -> dict[str, Any]:
        if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict):
            data = data[0]
        if not isinstance(data, dict):
            raise Failure(f"the answer is a JSON {type(data).__name__}, not an object", lost=True)
        failure = self._error_within(data)
        if failure is not None:
            raise failure
        return data

    def _error_within(self, data: dict[str, Any]) -> Rejected | None:
        """The error that an answer with status 200 holds. Gateways pass an upstream's on so; it may have been billed."""
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        error = choice.get("error") or (not choice and (data.get("error") or data.get("errors")))
        if not error and choice.get("finish_reason") == "error":
            error = data.get("error") or {"message": "the answer ended with an error"}
        if not error and not choice and data.get("object") == "error":
            error = {name: data.get(name) for name in ("message", "type", "code")}
        if not error and not choices and not _KNOWN & data.keys():
            error = data.get("detail") or (
                {"message": data["message"]} if isinstance(data.get("message"), str) else None
            )
        if not error:
            return None
        return rejected(0, {"error": error}, {}, secret=self.endpoint.api_key, within_answer=True)

    def _broken(self, error: Exception, *, answered: bool = False) -> Failure:
        return broken(error, self.endpoint, self._proxy, answered=answered)


_KNOWN = frozenset({"choices", "data", "tokens", "count", "usage", "id"})
"""What answers hold that are no errors."""


class _Stream(list[Any]):
    """Events that came in one piece."""


def _split(data: Any) -> list[Any]:
    return data if isinstance(data, _Stream) else [data]


def _in_events(content: bytes) -> _Stream:
    events = Events()
    try:
        return _Stream([*events.feed(content), *events.close()])
    except NoJson as error:
        raise Failure(str(error), lost=True) from None


def _is_location(response: httpx2.Response, location: str) -> bool:
    try:
        response.url.join(location)
    except Exception:
        return False
    return bool(location)
