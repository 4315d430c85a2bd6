"""An agent served for real: its model is a scripted endpoint, and an official client speaks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from fastapi import FastAPI

from rao_rl.serve.agent.app import agent_app
from rao_rl.serve.agent.runs import MakeApprove
from rao_rl.serve.http import ServerSettings, serving
from recursive_agent import Agent, ExecutionTree, Limits
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.testing import Script, ScriptedEndpoint

KEY = "sk-of-the-agent"
UPSTREAM_KEY = "sk-of-the-model"
MODEL = "scripted"
AGENT = "scripted-agent"


@dataclass
class Served:
    """A server under test."""

    url: str
    app: FastAPI
    agent: Agent
    endpoint: ScriptedEndpoint
    traces: Path
    client: openai.AsyncOpenAI
    http: httpx2.AsyncClient

    def trees(self) -> list[ExecutionTree]:
        """The recorded runs, oldest first."""
        return [ExecutionTree.load(path) for path in sorted(self.traces.glob("*.jsonl"))]

    async def metric(self, name: str) -> float:
        """The value of a metric, labels written as Prometheus does."""
        for line in (await self.http.get("/metrics")).text.splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return 0.0


@asynccontextmanager
async def served(
    script: Script | str,
    traces: Path,
    *,
    settings: dict[str, Any] | None = None,
    ceilings: Limits | None = None,
    raw: bool = False,
    latency: float = 0.0,
    approve: MakeApprove | None = None,
    **agent: Any,
) -> AsyncIterator[Served]:
    """An agent whose model says what the script says."""
    with ScriptedEndpoint(script, api_key=UPSTREAM_KEY, max_model_len=32_768, latency=latency) as endpoint:
        made = Agent(MODEL, endpoint.base_url, UPSTREAM_KEY, trace_dir=traces, **agent)
        kept = ServerSettings(port=0, api_keys=(KEY,), **(settings or {}))
        upstream = Endpoint(MODEL, endpoint.base_url, UPSTREAM_KEY) if raw else None
        app = agent_app(made, kept, ceilings=ceilings, upstream=upstream, approve=approve)
        async with (
            serving(app, kept) as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client,
            httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http,
        ):
            yield Served(url, app, made, endpoint, traces, client, http)
        assert not endpoint.script_errors
