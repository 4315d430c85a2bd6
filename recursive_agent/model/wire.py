"""HTTP: one attempt, raw JSON in and out, every failure told apart by what it may have cost.

Requests are sent and answers read here and in `client`: every attempt must be accounted for, and an answer may be of any
size and shape.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import urljoin

import anyio

from .client import Client
from .endpoint import Endpoint, show_url
from .failures import Failure, Rejected, TooSlow, rejected
from .sse import Events, NoJson
from .stream import Assembly
from .transport import Reply

LARGEST = 64 * 1024 * 1024
"""Bytes of an answer, as sent and as decoded."""
_LARGEST_ERROR = 1024 * 1024


class Wire:
    """Attempts at calls of one endpoint. `timeout` is for one whole attempt, in seconds."""

    def __init__(self, endpoint: Endpoint, *, timeout: float) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self._client = Client(endpoint, timeout=timeout)

    async def aclose(self) -> None:
        """Close the connections made from this event loop."""
        await self._client.aclose()

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One attempt at a JSON answer; `timeout` (seconds) takes the place of its own. Raises Failure."""
        async with self._attempt("POST", path, body, timeout=timeout, headers=headers) as response:
            return self._parse(response, await self._client.whole(response, LARGEST))

    async def get(self, path: str, *, timeout: float) -> dict[str, Any]:
        """One attempt at a GET. Raises Failure."""
        async with self._attempt("GET", path, None, timeout=timeout) as response:
            return self._parse(response, await self._client.whole(response, LARGEST))

    @asynccontextmanager
    async def stream(
        self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """One attempt at a stream of server-sent events; iterating ends at [DONE]. Raises Failure."""
        async with self._attempt("POST", path, body, stream=True, headers=headers) as response:
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
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Reply]:
        timeout = timeout or self.timeout
        content = None
        if body is not None:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        encoding = "identity" if stream else "gzip, deflate"
        try:
            with anyio.fail_after(timeout):
                async with self._client.exchange(method, path, content, encoding=encoding, headers=headers) as response:
                    if not 200 <= response.status_code < 300:
                        raise await self._refusal(response)
                    yield response
        except TimeoutError:
            raise TooSlow(f"no whole answer within {timeout:g} s", lost=True) from None

    async def _events(self, response: Reply) -> AsyncGenerator[dict[str, Any]]:
        if "text/event-stream" not in response.headers.get("content-type", "").lower():
            # An endpoint that cannot stream answers in one piece; one that can may name it wrongly.
            for event in _split(self._parse_any(response, await self._client.whole(response, LARGEST))):
                yield self._checked(event)
            return
        if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            for event in _split(_in_events(await self._client.whole(response, LARGEST))):
                yield self._checked(event)
            return
        events = Events()
        async with aclosing(self._client.pieces(response, LARGEST)) as pieces:
            try:
                async for piece in pieces:
                    # What follows the end is still read, so that the connection can be used again.
                    for event in events.feed(piece):
                        yield self._checked(event)
                for event in events.close():
                    yield self._checked(event)
            except NoJson as error:
                raise Failure(str(error), lost=True) from None

    async def _refusal(self, response: Reply) -> Failure:
        status, headers = response.status_code, response.headers
        if status < 200:
            return Failure(f"HTTP {status} instead of an answer", lost=True)
        if status < 400:
            return self._redirected(response)
        try:
            raw = await self._client.whole(response, _LARGEST_ERROR)
        except Failure:
            raw = b""
        try:
            body: Any = json.loads(raw)
        except (ValueError, RecursionError):
            body = raw.decode("utf-8", "replace")
        if status == 407 and self._client.proxy is not None:
            return Failure(f"{self._client.proxy} wants other credentials (HTTP 407)", retryable=False)
        return rejected(status, body, headers, secret=self.endpoint.api_key)

    def _redirected(self, response: Reply) -> Failure:
        location = response.headers.get("location", "")
        place = show_url(urljoin(response.url, location)) if _is_location(response, location) else "nowhere"
        for ending in ("/chat/completions", "/completions"):
            place = place.removesuffix(ending)
        return Failure(
            f"it leads elsewhere (HTTP {response.status_code}, {place}); use that as the base URL", retryable=False
        )

    def _parse(self, response: Reply, content: bytes) -> dict[str, Any]:
        data = self._parse_any(response, content)
        if not isinstance(data, _Stream):
            return self._checked(data)
        whole = Assembly()
        for event in data:
            whole.add(self._checked(event))
        return whole.body()

    def _parse_any(self, response: Reply, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            pass
        kind = response.headers.get("content-type", "no content type").partition(";")[0]
        if content.lstrip()[:5] in (b"data:", b"event") or "event-stream" in kind:
            return _in_events(content)  # a stream that nobody asked for
        raise Failure(f"the answer is not JSON ({kind}, {len(content)} bytes)", lost=True)

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


def _is_location(response: Reply, location: str) -> bool:
    try:
        urljoin(response.url, location)
    except ValueError:
        return False
    return bool(location)
