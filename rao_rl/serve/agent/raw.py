"""The model under the agent, for those who want it bare: requests go to its endpoint and answers come back untouched."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any, Self

import anyio
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.types import Message, Receive, Scope, Send

from recursive_agent.concurrency import race
from recursive_agent.model import connect
from recursive_agent.model.client import Client
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.model.failures import Failure

from ..http.errors import ApiError
from ..http.streams import PING, PING_SECONDS, sse, unless_disconnected

_PASSED_ON = (b"content-type", b"content-encoding", b"retry-after", b"cache-control")


class RawModel:
    """Connections to the endpoint of the model; an async context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client = Client(endpoint, timeout=None)
        self._model = connect(endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()
        await self._model.aclose()

    async def window(self) -> int | None:
        """The model's context window in tokens, None where the endpoint does not say."""
        return await self._model.context_length()

    def relay(self, path: str, body: Mapping[str, Any], gate: AbstractAsyncContextManager[Any]) -> Response:
        """The endpoint's answer to `body` at `path`, as it comes, while `gate` has room for it."""
        # vLLM has /tokenize beside /v1, not in it.
        url = path.removeprefix("/v1") if path.startswith("/v1/") else self.endpoint.beside(path)
        content = to_json({**body, "model": self.endpoint.model})
        return _Relay(self._client, url, content, gate, streams=body.get("stream") is True)


class _Relay(Response):
    """An answer passed on piece by piece; the request is taken back once the client has gone.

    One that `streams` is kept alive while it waits: after PING_SECONDS it begins as a stream of events, and what fails from
    then on becomes an event.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        content: bytes,
        gate: AbstractAsyncContextManager[Any],
        *,
        streams: bool,
    ) -> None:
        super().__init__()
        self._client = client
        self._url = url
        self._content = content
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

        await unless_disconnected(receive, lambda: race(work, ping))

    async def _relay(self, send: Send) -> None:
        async with AsyncExitStack() as stack:
            try:
                answer = await stack.enter_async_context(self._client.exchange("POST", self._url, self._content))
            except Failure as failure:
                raise ApiError(
                    502, f"The model's endpoint gave no answer ({failure.reason}).", kind="upstream_error"
                ) from failure
            headers = [(name, value) for name, value in answer.headers.raw if name.lower() in _PASSED_ON]
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            async with aclosing(self._client.pieces(answer)) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
