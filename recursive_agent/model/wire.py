"""HTTP through the `openai` SDK: one attempt, raw JSON in and out, every failure told apart by what it may have cost.

The SDK builds, authenticates and sends the requests. Its own retries are off, since every attempt must be accounted
for, and answers are read as plain JSON: building its response models costs more than the rest of a call together.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from .endpoint import Endpoint
from .failures import Failure, Unreachable, rejected, scrub
from .retry import retry_after

if TYPE_CHECKING:
    import ssl

    import httpx2
    import openai

_CONNECT_TIMEOUT = 10.0
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
        self._clients: dict[EventLoopToken, openai.AsyncOpenAI] = {}
        self._tls: ssl.SSLContext | None = None

    async def aclose(self) -> None:
        """Close the connections made from this event loop."""
        client = self._clients.pop(current_token(), None)
        if client is not None:
            with anyio.CancelScope(shield=True):
                await client.close()

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One attempt at a JSON answer. Raises Failure."""
        async with self._attempt("POST", path, body) as response:
            return self._parse(response)

    async def get(self, path: str, *, timeout: float) -> dict[str, Any]:
        """One attempt at a GET. Raises Failure."""
        async with self._attempt("GET", path, None, timeout=timeout) as response:
            return self._parse(response)

    @asynccontextmanager
    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """One attempt at a stream of server-sent events; iterating ends at [DONE]. Raises Failure."""
        async with self._attempt("POST", path, body, stream=True) as response:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                await response.aread()

                async def whole() -> AsyncGenerator[dict[str, Any]]:
                    yield self._parse(response)  # an endpoint that cannot stream answers in one piece

                events = whole()
            else:
                events = self._events(response)
            async with aclosing(events):
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
        import httpx2
        import openai

        timeout = timeout or self.timeout
        try:
            with anyio.fail_after(timeout):
                response = await self._send(self._client(), method, path, body, stream)
                try:
                    yield response
                finally:
                    if stream:
                        with anyio.CancelScope(shield=True):
                            await response.aclose()
        except openai.APIStatusError as error:
            headers = error.response.headers
            raise rejected(
                error.status_code, error.body, headers, wait=retry_after(headers), secret=self.endpoint.api_key
            ) from None
        except openai.APIConnectionError as error:
            raise self._broken(error.__cause__ or error) from None
        except httpx2.HTTPError as error:
            raise self._broken(error) from None
        except TimeoutError:
            raise Unreachable(f"no whole answer within {timeout:g} s", lost=True) from None

    async def _send(
        self, client: openai.AsyncOpenAI, method: str, path: str, body: Mapping[str, Any] | None, stream: bool
    ) -> httpx2.Response:
        import httpx2
        import openai

        if method == "GET":
            return await client.get(path, cast_to=httpx2.Response)
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        options: Any = {"headers": {"content-type": "application/json"}}
        if not stream:
            return await client.post(path, cast_to=httpx2.Response, content=content, options=options)
        options["headers"]["accept-encoding"] = "identity"
        # With a plain response class the SDK hands the open response over as it is, whatever `stream_cls` says.
        response: Any = await client.post(
            path,
            cast_to=httpx2.Response,
            content=content,
            options=options,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        assert isinstance(response, httpx2.Response)
        return response

    def _client(self) -> openai.AsyncOpenAI:
        token = current_token()
        client = self._clients.get(token)
        if client is None:
            client = self._clients[token] = self._make_client(token)
        return client

    def _make_client(self, token: EventLoopToken) -> openai.AsyncOpenAI:
        import httpx2
        import openai

        if self._tls is None:  # takes longer to make than everything else, and can be shared
            self._tls = httpx2.create_ssl_context()
        # aiohttp's connections cost half of what httpx's own do, but know only one of the two event loops.
        on_asyncio = isinstance(token.native_token, asyncio.AbstractEventLoop)
        make = openai.DefaultAioHttpClient if on_asyncio else openai.DefaultAsyncHttpxClient
        timeout = httpx2.Timeout(self.timeout, connect=min(_CONNECT_TIMEOUT, self.timeout / 2), pool=None)
        return openai.AsyncOpenAI(
            api_key=self.endpoint.api_key,
            base_url=self.endpoint.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=make(
                # The budget limits concurrency, per model call; the pool must never be what calls wait for.
                limits=httpx2.Limits(max_connections=_UNBOUNDED, keepalive_expiry=_KEEPALIVE),
                timeout=timeout,
                verify=self._tls,
                trust_env=not self.endpoint.is_loopback,
            ),
        )

    def _parse(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            data = json.loads(response.content)
        except ValueError:
            kind = response.headers.get("content-type", "no content type").partition(";")[0]
            raise Failure(f"the answer is no JSON ({kind}, {len(response.content)} bytes)", lost=True) from None
        return self._checked(data)

    def _checked(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise Failure(f"the answer is a JSON {type(data).__name__}, not an object", lost=True)
        error = data.get("error")
        if error and not data.get("choices"):
            # Gateways pass an upstream's failure on with status 200; it may have been billed all the same.
            message = error.get("message") if isinstance(error, dict) else error
            raise Failure(f"the answer is an error: {scrub(str(message), self.endpoint.api_key)}", lost=True)
        return data

    async def _events(self, response: httpx2.Response) -> AsyncGenerator[dict[str, Any]]:
        buffer, done = b"", False
        pieces = response.aiter_raw()
        try:
            async for piece in pieces:
                *lines, buffer = (buffer + piece).split(b"\n")
                for line in lines:
                    field, _, value = line.partition(b":")
                    value = value.strip()
                    done = done or value == b"[DONE]"
                    # What follows the end is still read, so that the connection can be used again.
                    if field != b"data" or done:
                        continue
                    try:
                        data = json.loads(value)
                    except ValueError:
                        raise Failure("the stream holds a line that is no JSON", lost=True) from None
                    yield self._checked(data)
        finally:
            # Left early, the iterator leaves those below it to the collector, which trio rightly complains about. With
            # the response closed they come to their end by themselves.
            with anyio.CancelScope(shield=True), suppress(Exception):
                await response.aclose()
                async for _ in pieces:
                    pass

    def _broken(self, error: BaseException) -> Failure:
        import httpx2

        said = scrub(str(error), self.endpoint.api_key) or "no details"
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL | httpx2.TooManyRedirects):
            return Failure(said, retryable=False)
        return Unreachable(f"{type(error).__name__}: {said}", lost=not _never_left(error))


def _never_left(error: BaseException) -> bool:
    """Whether a request failed before any of it was sent."""
    import aiohttp
    import httpx2

    cause = error.__cause__
    if isinstance(
        cause, aiohttp.ClientError
    ):  # the SDK's bridge calls a connection lost in mid-answer a failed one too
        return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.ProxyError)
