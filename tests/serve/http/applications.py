"""An application on our shared layer whose requests do what a test says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict

from rao_rl.serve.http import (
    DONE,
    ApiError,
    EventStream,
    Gate,
    ServerSettings,
    make_app,
    serving,
    sse,
    unless_disconnected,
)

KEY = "key-one"
JSON = {"content-type": "application/json"}


class Part(BaseModel):
    text: str


class Body(BaseModel):
    model_config = ConfigDict(strict=True)
    text: str
    anything: Any = None
    parts: list[str | Part] = []


class Server:
    """An application whose requests do what the test says."""

    def __init__(self, **settings: Any) -> None:
        self.settings = ServerSettings(port=0, **settings)
        self.app: FastAPI = make_app("test", self.settings)
        self.gate: Gate = self.app.state.gate
        self.bodies: list[Body] = []
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.release = anyio.Event()
        self.app.post("/echo")(self._echo)
        self.app.post("/work")(self._work)
        self.app.post("/stream")(self._stream)
        self.app.get("/things/{name}")(self._thing)

    async def _echo(self, body: Body) -> Body:
        self.bodies.append(body)
        return body

    async def _thing(self, name: str) -> str:
        if name == "broken":
            raise RuntimeError("a private matter")
        return name

    async def _held(self, text: str) -> None:
        self.begun.append(text)
        try:
            await self.release.wait()
        finally:
            self.ended.append(text)

    async def _work(self, body: Body, request: Request) -> str:
        async def work() -> str:
            async with self.gate:
                await self._held(body.text)
                return body.text

        return await unless_disconnected(request.receive, work)

    async def _stream(self, body: Body) -> Response:
        async def events() -> AsyncGenerator[bytes, None]:
            if body.text == "refused":
                raise ApiError(400, "no such thing", param="text")
            if body.text == "late":
                await self._held(body.text)
                raise ApiError(502, "the model is gone")
            yield sse({"said": body.text})
            if body.text == "fails":
                raise ApiError(500, "the model is gone")
            if body.text == "breaks":
                raise RuntimeError("a private matter")
            if body.text != "short":
                await self._held(body.text)
            yield DONE

        return EventStream(events(), gate=self.gate, ping_seconds=0.05 if body.text in ("pinged", "late") else 60)

    @asynccontextmanager
    async def client(self, key: str | None = None) -> AsyncIterator[httpx2.AsyncClient]:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with serving(self.app, self.settings) as url:
            async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
                yield client


def error_of(response: httpx2.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    assert error["message"]
    return error
