"""Streams of the raw model, passed on from an endpoint that falls silent, breaks off, or answers otherwise."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from rao_rl.serve.agent import agent_app
from rao_rl.serve.agent import raw as agent_raw
from rao_rl.serve.http import ServerSettings, make_app, serving
from recursive_agent import Agent
from recursive_agent.model.endpoint import Endpoint
from tests.waiting import until

from .agents import MODEL

pytestmark = pytest.mark.anyio

EVENT = b'data: {"choices": []}\n\n'
SAID = EVENT.decode().strip()
PATH = "/v1/chat/completions"


class Upstream:
    """An endpoint whose streams say an event, wait, and go on as `manner` says."""

    def __init__(self, manner: str = "") -> None:
        self.manner = manner
        self.release = anyio.Event()
        self.settings = ServerSettings(port=0)
        self.app = make_app("endpoint", self.settings)
        self.app.post(PATH)(self._answer)

    async def _answer(self, request: Request) -> Response:
        if self.manner == "whole":
            await self.release.wait()
            return JSONResponse({"choices": []})
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncGenerator[bytes, None]:
        yield EVENT
        if self.manner == "torn":
            yield b"data: {"
        await self.release.wait()
        if self.manner:
            raise RuntimeError("the endpoint breaks off")
        yield EVENT + b"data: [DONE]\n\n"


@asynccontextmanager
async def asked(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, **body: Any) -> AsyncIterator[httpx2.Response]:
    """The answer to a request for the raw model, whose body is yet to be read."""
    monkeypatch.setattr(agent_raw, "PING_SECONDS", 0.05)
    own = ServerSettings(port=0, drain_seconds=0)
    async with serving(upstream.app, upstream.settings) as below:
        endpoint = Endpoint(MODEL, f"{below}/v1", "key")
        app = agent_app(Agent(MODEL, endpoint.base_url, "key", trace_dir=None), own, upstream=endpoint)
        async with serving(app, own) as url, httpx2.AsyncClient(base_url=url, timeout=60) as client:
            async with client.stream(
                "POST", PATH, json={"model": MODEL, "messages": [{"role": "user", "content": "x"}], **body}
            ) as response:
                yield response
            await until(lambda: app.state.gate.running == 0)


async def test_a_model_that_is_silent_between_two_events_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = Upstream()
    async with asked(upstream, monkeypatch, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert (response.headers["x-accel-buffering"], response.headers["cache-control"]) == ("no", "no-cache")
        lines = response.aiter_lines()
        with anyio.fail_after(60):
            while await anext(lines) != SAID:  # pings may come before it, too
                pass
            assert [await anext(lines) for _ in range(4)] == ["", ": ping", "", ": ping"]
        upstream.release.set()
        rest = [line async for line in lines if line and line != ": ping"]
    assert rest == [SAID, "data: [DONE]"]


async def test_an_endpoint_that_breaks_off_between_two_events_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = Upstream("breaks")
    async with asked(upstream, monkeypatch, stream=True) as response:
        lines = response.aiter_lines()
        while await anext(lines) != SAID:
            pass
        upstream.release.set()
        rest = [line async for line in lines if line and line != ": ping"]
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["type"] == "upstream_error"


async def test_an_endpoint_that_breaks_off_within_an_event_breaks_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = Upstream("torn")
    async with asked(upstream, monkeypatch, stream=True) as response:
        got = bytearray()

        async def read() -> None:
            async for piece in response.aiter_raw():
                got.extend(piece)
                if got.endswith(b"data: {"):
                    upstream.release.set()

        with pytest.raises(httpx2.RemoteProtocolError):
            await read()
    assert got.replace(b": ping\n\n", b"") == EVENT + b"data: {"  # nothing that a client would take for the rest


@pytest.mark.parametrize("stream", [False, None])
async def test_an_answer_that_is_no_stream_has_nothing_put_into_it(
    stream: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream("whole")
    upstream.release.set()
    async with asked(upstream, monkeypatch, stream=stream) as response:
        await response.aread()
        assert response.json() == {"choices": []}
        assert "x-accel-buffering" not in response.headers
        assert response.headers["content-type"] == "application/json"


async def test_an_endpoint_that_answers_a_kept_stream_otherwise_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = Upstream("whole")
    async with asked(upstream, monkeypatch, stream=True) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == ": ping"
        upstream.release.set()
        (last,) = [line async for line in lines if line and line != ": ping"]
    assert "without a stream" in json.loads(last.removeprefix("data: "))["error"]["message"]
