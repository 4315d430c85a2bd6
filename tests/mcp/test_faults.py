"""Servers that hang, talk nonsense, start slowly, have many tools or do not end; and programs that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from recursive_agent import MCPServer, ToolServerError
from recursive_agent.testing import ScriptedEndpoint
from tests.agent.helpers import agent_on, observations, py
from tests.waiting import until, wait_until

from .servers import SERVED, counting, free_port, listening, marked

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("fault", ["garbage", "slow", "stubborn"])
async def test_a_server_with_bad_manners_still_works(fault: str) -> None:
    with ScriptedEndpoint(py("finish(await add(1))")) as endpoint:
        result = await agent_on(endpoint, tools=(counting(fault),)).solve("go")
    assert result.output == 3, observations(result)


async def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}-{tmp_path.name}"
    server = MCPServer.stdio(sys.executable, [SERVED, "stdio", mark, "hang"], name="mute", connect_timeout=3)
    with ScriptedEndpoint("none") as endpoint, pytest.raises(ToolServerError) as failed:
        await agent_on(endpoint, tools=(server,)).solve("go")
    assert "was not ready after 3 seconds" in str(failed.value)
    await until(lambda: not marked(mark))


async def test_what_is_no_server_is_named() -> None:
    server = MCPServer.stdio("echo", ["hello"], name="echo")
    with ScriptedEndpoint("none") as endpoint, pytest.raises(ToolServerError) as failed:
        await agent_on(endpoint, tools=(server,)).solve("go")
    assert "it wrote 'hello' to its standard output, which is no message of the protocol" in str(failed.value)


async def test_two_hundred_tools_are_shown_in_brief() -> None:
    with ScriptedEndpoint(py("finish(await tool_199())")) as endpoint:
        result = await agent_on(endpoint, tools=(counting("many"),)).solve("go")
    assert result.output == "many", observations(result)
    told = endpoint.requests[0].text("system")
    assert told.count("One of many tools.") < 200 * 9
    assert len(told) < 60_000


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_at_a_url_that_is_started_anew_is_found_again() -> None:
    port, pids = free_port(), []
    with ScriptedEndpoint(py("finish((await calls())['pid'])")) as endpoint:
        async with AsyncExitStack() as stack:
            for number in range(2):
                async with listening(port=port) as (url, pid):
                    if number == 0:
                        agent = await stack.enter_async_context(agent_on(endpoint, tools=(MCPServer.http(url),)))
                    pids.append(pid)
                    assert (await agent.solve("go")).output == pid
    assert len(set(pids)) == 2


def test_a_killed_program_leaves_no_server_behind(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}-{tmp_path.name}"
    program = textwrap.dedent(f"""
        import anyio, sys
        from recursive_agent import MCPServer
        from recursive_agent.mcp.toolbox import connected

        async def main():
            async with connected([MCPServer.stdio(sys.executable, [{SERVED!r}, "stdio", {mark!r}, "stubborn"])]):
                print("up", flush=True)
                await anyio.sleep_forever()

        anyio.run(main)
    """)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert marked(mark)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_until(lambda: not marked(mark))
