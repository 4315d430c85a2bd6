"""The model under the agent, for those who want it bare: requests go to its endpoint and answers come back untouched."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Self

from fastapi.responses import Response
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from recursive_agent.model import connect
from recursive_agent.model.client import Client
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.model.failures import Failure
from recursive_agent.model.transport import Reply

from ..http.errors import ApiError
from ..http.streams import EVENT_STREAM, PING_SECONDS, STREAM_HEADERS, EventChannel

_log = logging.getLogger(__name__)
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

    One that `streams` is kept alive, while it waits and while the model is silent between two events.
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
        super().__init__(headers=STREAM_HEADERS, media_type=EVENT_STREAM)
        del self.headers["content-length"]
        self._client = client
        self._url = url
        self._content = content
        self._gate = gate
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        channel = EventChannel(send, headers=self.raw_headers, ping_seconds=PING_SECONDS)
        channel.of_events = self._streams

        async def work() -> None:
            async with self._gate:
                await self._relay(channel)

        await channel.run(receive, work)

    async def _relay(self, channel: EventChannel) -> None:
        try:
            async with self._client.exchange("POST", self._url, self._content) as answer:
                await self._begin(channel, answer)
                async with aclosing(self._client.pieces(answer)) as pieces:
                    async for piece in pieces:
                        await channel.send(piece)
        except Failure as failure:
            # The reason holds the endpoint's address, which is not the business of those who ask.
            _log.error("the model's endpoint gave no answer: %s", failure.reason)
            raise _upstream("The model's endpoint gave no answer; the server's log says why.") from failure

    async def _begin(self, channel: EventChannel, answer: Reply) -> None:
        of_events = answer.headers.get("content-type", "").startswith(EVENT_STREAM)
        if channel.begun:
            if answer.status_code != 200:
                raise _upstream(f"The model's endpoint answered with status {answer.status_code}.")
            if not of_events:
                raise _upstream("The model's endpoint answered without a stream.")
            return
        channel.of_events = of_events and "content-encoding" not in answer.headers
        headers = [(name, value) for name, value in answer.raw_headers if name.lower() in _PASSED_ON]
        if of_events:
            named = {name.lower() for name, _ in headers}
            headers += [(name, value) for name, value in self.raw_headers if name not in named]
        await channel.begin(answer.status_code, headers)


def _upstream(message: str) -> ApiError:
    return ApiError(502, message, kind="upstream_error")
