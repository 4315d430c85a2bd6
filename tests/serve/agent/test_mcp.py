"""The agent as a tool of MCP clients: the official client, over HTTP in this process and over the pipes of a real one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from rao_rl.serve.agent.app import agent_app
from rao_rl.serve.http import ServerSettings, serving
from recursive_agent import Agent, ExecutionTree, Limits
from recursive_agent.testing import Script, ScriptedEndpoint
from tests.agent.helpers import py
from tests.waiting import until

from .agents import KEY
from .test_runs import Held

pytestmark = pytest.mark.anyio
TREE = """
    parts = await asyncio.gather(*[launch_subagent(f"child {n}") for n in range(2)])
    finish({"sum": sum(context["bills"]), "parts": parts})
"""


def tree_script(request: Any) -> str:
    return py("finish(1)") if "Goal: child" in request.first else py(TREE)


class Desk:
    """A server with the agent as a tool, and a client of it."""

    def __init__(self, client: Client, endpoint: ScriptedEndpoint, agent: Agent, traces: Path) -> None:
        self.client, self.endpoint, self.agent, self.traces = client, endpoint, agent, traces

    def trees(self) -> list[ExecutionTree]:
        return [ExecutionTree.load(path) for path in sorted(self.traces.glob("*.jsonl"))]


@asynccontextmanager
async def desk(script: Script | str, traces: Path, *, mode: str = "auto", **limits: Any) -> AsyncIterator[Desk]:
    settings = ServerSettings(port=0, api_keys=(KEY,))
    with ScriptedEndpoint(script) as endpoint:
        agent = Agent("scripted", endpoint.base_url, "any", trace_dir=traces, limits=Limits(**limits))
        async with serving(agent_app(agent, settings, mcp=True), settings) as url:
            async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as http:
                async with Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client:
                    yield Desk(client, endpoint, agent, traces)


def text_of(answer: CallToolResult) -> str:
    return "\n".join(block.text for block in answer.content if block.type == "text")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_tree_over_http(tmp_path: Path, mode: str) -> None:
    told: list[tuple[float, str | None]] = []

    async def progress(at: float, total: float | None, message: str | None) -> None:
        told.append((at, message))

    returns = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    async with desk(tree_script, tmp_path, mode=mode) as it:
        (tool,) = (await it.client.list_tools()).tools
        assert (tool.name, tool.input_schema["required"]) == ("solve", ["goal"])
        answer = await it.client.call_tool(
            "solve", {"goal": "add", "context": {"bills": [1, 2]}, "returns": returns}, progress_callback=progress
        )
        data = answer.structured_content
        assert data is not None
        assert not answer.is_error, text_of(answer)
        assert data["result"] == {"sum": 3, "parts": [1, 1]} == json.loads(text_of(answer))
        assert (data["status"], data["agents"], data["depth"], data["usage"]["calls"]) == ("finished", 3, 1, 3)
        (tree,) = it.trees()
        resource = await it.client.read_resource(f"rao://runs/{data['run']}/trace")
        assert tree.run in resource.contents[0].text  # type: ignore[union-attr]
    await until(lambda: len(told) > 4)
    assert [at for at, _ in told] == sorted({at for at, _ in told})
    assert any("3 agents, " in (message or "") and "agent 0 finished" in (message or "") for _, message in told)


async def test_what_does_not_finish_is_an_error_with_its_reason(tmp_path: Path) -> None:
    async with desk(py("print('half')"), tmp_path, max_steps=9) as it:
        answer = await it.client.call_tool("solve", {"goal": "add", "limits": {"max_steps": 2}})
        assert answer.is_error
        assert text_of(answer).startswith("not finished: step_limit")
        assert "half" in text_of(answer)
        assert answer.structured_content is not None
        assert answer.structured_content["status"] == "step_limit"
        assert len(it.endpoint.requests) == 2
        capped = await it.client.call_tool("solve", {"goal": "add", "limits": {"max_steps": 50}})
        assert capped.structured_content is not None
        assert len(it.trees()[-1].root.steps) == 9


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "goal: Field required"),
        ({"goal": " "}, "goal must be a text that says what to do."),
        ({"goal": "g", "colour": 1}, "colour: there is no such argument"),
        ({"goal": "g", "returns": {"type": 3}}, "is not valid under any of the given schemas"),
        ({"goal": "g", "limits": {"max_steps": 0}}, "limits.max_steps: Input should be greater than or equal to 1"),
    ],
)
async def test_wrong_arguments_are_errors_that_a_model_can_read(
    tmp_path: Path, arguments: dict[str, Any], told: str
) -> None:
    async with desk("none", tmp_path) as it:
        answer = await it.client.call_tool("solve", arguments)
        assert answer.is_error
        assert told in text_of(answer)
        assert not it.endpoint.requests


async def test_names_that_are_none(tmp_path: Path) -> None:
    async with desk("none", tmp_path) as it:
        with pytest.raises(MCPError, match="there is no tool 'dissolve'; there is solve"):
            await it.client.call_tool("dissolve", {})
        with pytest.raises(MCPError, match="there is no resource"):
            await it.client.read_resource("rao://runs/../../etc/trace")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_request_cancels_the_run(tmp_path: Path, mode: str) -> None:
    held = Held()
    async with desk(held, tmp_path, mode=mode) as it:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.client.call_tool, "solve", {"goal": "wait"})
            await until(lambda: len(it.endpoint.requests) == 3)
            tasks.cancel_scope.cancel()
        await until(lambda: [tree.status for tree in it.trees()] == ["cancelled"])
        held.release()


async def test_without_a_key_nothing_is_served(tmp_path: Path) -> None:
    settings = ServerSettings(port=0, api_keys=(KEY,))
    agent = Agent("scripted", "http://127.0.0.1:9", "any")
    async with serving(agent_app(agent, settings, mcp=True), settings) as url, httpx2.AsyncClient() as http:
        assert (await http.post(f"{url}/mcp", json={})).status_code == 401
        headers = {"Authorization": f"Bearer {KEY}"}
        assert (await http.get(f"{url}/mcp", headers=headers)).status_code == 405
        assert (await http.post(f"{url}/mcp", headers=headers, content="{}")).status_code in (400, 406)
