"""`rao serve --mcp` as a real process: the official client, and what is on its stdout."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from rao_rl.envs.textcraft import TextCraft
from recursive_agent import ExecutionTree
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.testing import ScriptedEndpoint
from tests.agent.helpers import py
from tests.cli.command import environment
from tests.waiting import until

from .test_runs import Held

pytestmark = pytest.mark.anyio


def text_of(answer: CallToolResult) -> str:
    return "\n".join(block.text for block in answer.content if block.type == "text")


TREE = """
    parts = await asyncio.gather(*[launch_subagent(f"child {n}") for n in range(2)])
    finish({"sum": sum(context["bills"]), "parts": parts})
"""


def tree_script(request: Any) -> str:
    return py("finish(1)") if "Goal: child" in request.first else py(TREE)


def rao_serve(cwd: Path, *arguments: str, **variables: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "rao_cli", "serve", "--mcp", *arguments],
        cwd=cwd,
        env=environment(**variables),
    )


async def test_a_tree_over_pipes_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    with ScriptedEndpoint(tree_script) as endpoint:
        server = rao_serve(tmp_path, "--base-url", endpoint.base_url, "--model", "scripted", OPENAI_API_KEY="any")
        async with Client(server) as client:
            answer = await client.call_tool("solve", {"goal": "add", "context": {"bills": [1, 2]}})
    assert not answer.is_error, text_of(answer)
    assert json.loads(text_of(answer)) == {"sum": 3, "parts": [1, 1]}


async def test_the_embedded_policy_over_pipes(tmp_path: Path) -> None:
    [task] = TextCraft().tasks("test", 0, level="easy", limit=1)
    async with Client(rao_serve(tmp_path, str(SHIPPED), "--engine", "embedded", "--quiet")) as client:
        answer = await client.call_tool("solve", {"goal": task.goal, "seed": 0})
        other = await client.call_tool("solve", {"goal": "write a poem"})
    assert not answer.is_error, text_of(answer)
    assert answer.structured_content is not None
    assert (answer.structured_content["status"], answer.structured_content["score"]) == ("finished", 1.0)
    assert other.is_error


@pytest.mark.parametrize("how", [signal.SIGTERM, None])
async def test_a_process_that_is_stopped_ends_its_runs(tmp_path: Path, how: int | None) -> None:
    held = Held()
    with ScriptedEndpoint(held) as endpoint:
        server = rao_serve(tmp_path, "--base-url", endpoint.base_url, "--model", "scripted", OPENAI_API_KEY="any")
        process = await anyio.open_process([server.command, *server.args], cwd=tmp_path, env=server.env, stderr=None)
        assert process.stdin is not None
        assert process.stdout is not None
        for message in (
            {
                "id": 1,
                "method": "initialize",
                "params": {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "clientInfo": {"name": "t", "version": "1"},
                },
            },
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": {"name": "solve", "arguments": {"goal": "wait"}}},
        ):
            await process.stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        written = await process.stdout.receive()  # it is up: how long that takes is not what is tested
        await until(lambda: len(endpoint.requests) == 3)
        if how is None:
            await process.stdin.aclose()
        else:
            process.send_signal(how)
        with anyio.fail_after(60):
            assert await process.wait() == 0
        written += b"".join([chunk async for chunk in process.stdout])
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in written.splitlines())
        await process.aclose()
        held.release()
    [path] = (tmp_path / "traces").glob("*.jsonl")
    assert ExecutionTree.load(path).status == "cancelled"
