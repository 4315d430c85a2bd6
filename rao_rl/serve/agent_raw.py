"""The model under the agent, for those who want it bare: requests go to its endpoint and answers come back untouched."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Self

import anyio
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.types import Message, Receive, Scope, Send

from recursive_agent.model.endpoint import Endpoint

from .errors import ApiError
from .streams import PING, PING_SECONDS, beside, sse, unless_disconnected

if TYPE_CHECKING:
    import httpx2

_CONNECT_SECONDS = 10.0
_KEEPALIVE = 4.0
"""Seconds an idle connection is kept: uvicorn, and so vLLM, closes them after five."""
_PASSED_ON = (b"content-type", b"content-encoding", b"retry-after", b"cache-control")


class RawModel:
    """Connections to the endpoint of the model; an async context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        import httpx2

        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self.endpoint.api_key}", "Accept-Encoding": "identity"},
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE),
            trust_env=not self.endpoint.is_loopback,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def window(self) -> int | None:
        """The model's context window in tokens, None where the endpoint does not say."""
        import httpx2

        try:
            answer = await self._open().get(f"{self.endpoint.base_url}/models", timeout=_CONNECT_SECONDS)
            cards = answer.json()["data"]
            lengths = [card.get("max_model_len") for card in cards if card["id"] == self.endpoint.model]
        except (httpx2.HTTPError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return next((length for length in lengths if isinstance(length, int)), None)

    def relay(self, path: str, body: Mapping[str, Any], gate: AbstractAsyncContextManager[Any]) -> Response:
        """The endpoint's answer to `body` at `path`, as it comes, while `gate` has room for it."""
        base = self.endpoint.base_url
        # vLLM has /tokenize beside /v1, not in it.
        url = base + path.removeprefix("/v1") if path.startswith("/v1/") else base.removesuffix("/v1") + path
        content = to_json({**body, "model": self.endpoint.model})
        headers = {"Content-Type": "application/json"}
        request = self._open().build_request("POST", url, content=content, headers=headers)
        return _Relay(request, self._open(), gate, streams=body.get("stream") is True)

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            raise ApiError(503, "The server has not started.", retry_after=1)
        return self._client


class _Relay(Response):
    """An answer passed on piece by piece; the request is taken back once the client has gone.

    One that `streams` is kept alive while it waits: after PING_SECONDS it begins as a stream of events, and what fails from
    then on is told by an event.
    """

    def __init__(
        self,
        request: httpx2.Request,
        client: httpx2.AsyncClient,
        gate: AbstractAsyncContextManager[Any],
        *,
        streams: bool,
    ) -> None:
        super().__init__()
        self._request = request
        self._client = client
        self._gate = gate
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        waiting, begun, turn = True, False, anyio.Lock()

        async def ping() -> None:
            nonlocal begun
            while True:
                await anyio.sleep(PING_SECONDS)
                async with turn:
                    if not (self._streams and waiting):
                        continue
                    if not begun:
                        begun = True
                        headers = [
                            (b"content-type", b"text/event-stream; charset=utf-8"),
                            (b"cache-control", b"no-cache"),
                        ]
                        await send({"type": "http.response.start", "status": 200, "headers": headers})
                    await send({"type": "http.response.body", "body": PING, "more_body": True})

        async def pass_on(message: Message) -> None:
            nonlocal waiting
            async with turn:
                waiting = False
            if not begun or message["type"] == "http.response.body":
                await send(message)
            elif message["status"] != 200:
                raise ApiError(
                    502, f"The model's endpoint answered with status {message['status']}.", kind="upstream_error"
                )

        async def work() -> None:
            try:
                async with self._gate:
                    await self._relay(pass_on)
            except ApiError as error:
                if not begun:
                    raise
                await send({"type": "http.response.body", "body": sse(error.body), "more_body": False})

        await unless_disconnected(receive, lambda: beside(ping, work))

    async def _relay(self, send: Send) -> None:
        import httpx2

        try:
            answer = await self._client.send(self._request, stream=True)
        except httpx2.HTTPError as error:
            raise ApiError(
                502, f"The model's endpoint gave no answer ({type(error).__name__}).", kind="upstream_error"
            ) from error
        try:
            headers = [(name, value) for name, value in answer.headers.raw if name.lower() in _PASSED_ON]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            async for part in answer.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await answer.aclose()
