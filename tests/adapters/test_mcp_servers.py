"""Public MCP servers as they are installed: `scripts/mcp.sh` does that."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from recursive_agent import MCPServer
from recursive_agent.testing import Request, ScriptedEndpoint
from tests.agent.helpers import agent_on, observations, py

pytestmark = [pytest.mark.models, pytest.mark.anyio]
SERVERS = Path(os.environ.get("RAO_MCP_SERVERS", Path(__file__).parents[2] / ".envs/mcp/bin"))
if not (SERVERS / "mcp-server-git").exists():
    pytest.skip("mcp-server-git is not installed: scripts/mcp.sh installs it", allow_module_level=True)


async def test_the_time() -> None:
    server = MCPServer.stdio(str(SERVERS / "mcp-server-time"), ["--local-timezone", "UTC"])
    assert server.name == "time"
    script = py("""
        there = await convert_time("UTC", "12:00", "Asia/Tokyo")
        try:
            await get_current_time("Moon/Base")
        except ToolError as error:
            finish([there["target"]["datetime"][11:16], str(error)])
    """)
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(server,)).solve("go")
    assert result.status.finished, observations(result)
    at, told = result.output
    assert at == "21:00"
    assert told.startswith("get_current_time() failed: ")
    assert "await get_current_time(timezone: str) -> " in endpoint.requests[0].text("system")


async def test_a_repository(tmp_path: Path) -> None:
    for arguments in (["init", "-q", "."], ["commit", "-q", "--allow-empty", "-m", "The first one"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)
    server = MCPServer.stdio(
        str(SERVERS / "mcp-server-git"), ["--repository", str(tmp_path)], include=["git_log", "git_status"]
    )
    script = py("finish([await launch_subagent('look'), await git_status(context)])")

    def answer(request: Request) -> str:
        look = py(f"finish(await git_log({str(tmp_path)!r}, max_count=3))")
        return look if "Goal: look" in request.first else script

    with ScriptedEndpoint(answer) as endpoint:
        result = await agent_on(endpoint, tools=(server,)).solve("go", context=str(tmp_path))
    assert result.status.finished, observations(result)
    log, status = result.output
    assert "The first one" in log
    assert "working tree clean" in status


NODE = SERVERS.parent / "node/node_modules/.bin"
has_node = pytest.mark.skipif(
    not NODE.exists(), reason="the servers of npm are not installed: scripts/mcp.sh installs them"
)


@has_node
async def test_files(tmp_path: Path) -> None:
    (tmp_path / "bill.txt").write_text("bread 12")
    server = MCPServer.stdio(
        str(NODE / "mcp-server-filesystem"), [str(tmp_path)], exclude=["write_*", "edit_*", "move_*"]
    )
    script = py("""
        text = await read_text_file(context + "/bill.txt")
        try:
            await read_text_file("/etc/passwd")
        except ToolError as error:
            finish([text, str(error)])
    """)
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(server,)).solve("go", context=str(tmp_path))
    assert result.status.finished, observations(result)
    text, refused = result.output
    assert "bread 12" in str(text)
    assert "denied" in refused
    assert "write_file" not in endpoint.requests[0].text("system")


@has_node
async def test_everything() -> None:
    script = py("""
        seen = [await echo("hello"), await get_tiny_image(), await get_structured_content("Chicago")]
        finish([seen, sorted(await launch_subagent("child"))])
    """)

    def answer(request: Request) -> str:
        return py("finish([str(await get_sum(a, 1)) for a in range(2)])") if "Goal: child" in request.first else script

    with ScriptedEndpoint(answer) as endpoint:
        result = await agent_on(endpoint, tools=(MCPServer.stdio(str(NODE / "mcp-server-everything")),)).solve("go")
    assert result.status.finished, observations(result)
    (echoed, image, weather), sums = result.output
    assert "hello" in echoed
    assert any(
        isinstance(each, dict) and each["type"] == "image" and each["data"].startswith(b"\x89PNG") for each in image
    )
    assert "temperature" in weather
    assert len(sums) == 2
