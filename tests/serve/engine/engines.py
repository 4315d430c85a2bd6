"""The embedded engine behind HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai

from rao_rl.serve.engine.app import engine_app
from rao_rl.serve.http import ServerSettings, serving
from recursive_agent.model import Message
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.local import LocalModel

NAME = "rao-textcraft"
GOAL = "Craft the following items: 2x copper_gear\nget_info view_inventory craft launch_subagent finish"
MESSAGES: Any = [{"role": "user", "content": GOAL}]
IDS = {"return_token_ids": True}


class Served:
    """A model behind HTTP."""

    def __init__(self, model: LocalModel, url: str) -> None:
        self.model = model
        self.url = url
        self.openai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
        self.http = httpx2.AsyncClient(base_url=url, timeout=120)

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        return await self.http.post(path, json=body)

    async def complete(self, **body: Any) -> dict[str, Any]:
        """The body of a completion."""
        response = await self.post("/v1/completions", **{"prompt": self.prompt, "max_tokens": 60, **IDS, **body})
        assert response.status_code == 200, response.text
        answered: dict[str, Any] = response.json()
        return answered

    async def choice(self, **body: Any) -> dict[str, Any]:
        choice: dict[str, Any] = (await self.complete(**body))["choices"][0]
        return choice

    @property
    def prompt(self) -> list[int]:
        return self.model.renderer.encode([Message("user", GOAL)])


@asynccontextmanager
async def served(model: LocalModel | None = None, **settings: Any) -> AsyncIterator[Served]:
    model = model or EmbeddedModel(seed=0)
    server = ServerSettings(port=0, **settings)
    async with serving(engine_app(model, server), server) as url:
        it = Served(model, url)
        async with it.openai, it.http:
            yield it
