"""More of what agents do with MCP servers, and what is said to people."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from recursive_agent import Approve, ConfigurationError, MCPServer, PendingCall, ToolServerError
from recursive_agent.testing import Request, ScriptedEndpoint
from tests.agent.helpers import agent_on, observations, py
from tests.waiting import until

from .servers import counting, free_port, gone, is_running, listening, marked, steps

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_servers_at_a_url(kind: str) -> None:
    script = steps(py("finish([await add(1), await volume([{'width': 2}])])"))
    async with listening(kind) as (url, _):
        server = MCPServer.http(url) if kind == "http" else MCPServer.sse(url)
        with ScriptedEndpoint(script) as endpoint:
            result = await agent_on(endpoint, tools=(server,)).solve("go")
    assert result.output == [3, {"cubic": 8.0, "labels": ["box"]}], observations(result)


async def test_what_goes_wrong_in_a_call_is_told_to_the_agent() -> None:
    script = steps(
        py("""
        told = []
        for call in (lambda: add("x"), lambda: fail("no ink"), lambda: huge(2), lambda: wait(600)):
            try:
                await call()
            except ToolError as error:
                told.append(str(error))
        finish([*told, await add(1), len(await huge(1))])
        """)
    )
    servers = (
        counting(max_message_mb=1.5, exclude=["wait"]),
        counting(name="hasty", include=["wait"], timeout=0.5),
    )
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=servers).solve("go")
    assert result.status.finished, observations(result)
    wrong, failed, large, late, *fine = result.output
    assert wrong == (
        "add(): argument ['a']: 'x' is not of type 'integer'; the signature is add(a: int, b: int = 2) -> int"
    )
    assert failed.startswith("fail() failed: ")
    assert "max_message_mb" in large
    assert late == "wait() gave no answer within 0.5 seconds"
    assert fine == [3, 1024 * 1024]


async def test_images_and_documents_are_data() -> None:
    script = steps(py("finish([await picture(), await document()])"))
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(counting(),)).solve("go")
    picture, (text, resource) = result.output
    assert picture == {"type": "image", "mime_type": "image/png", "data": b"\x89PNG...."}
    assert (text, resource["text"], resource["uri"]) == ("see", "hello", "memo://1")


async def test_a_changed_list_of_tools_reaches_agents_that_start_later() -> None:
    def script(request: Request) -> str:
        if "Goal: child" in request.first:
            return py("finish(await fresh())") if "await fresh(" in request.text("system") else py("finish('unknown')")
        return py("""
            await grow("fresh")
            found = "unknown"
            for attempt in range(200):
                if found == "unknown":
                    found = await launch_subagent(f"child {attempt}")
            finish(found)
        """)

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(counting(),), max_agents=300, max_children=300, max_tokens=None).solve(
            "go"
        )
    assert result.output == "I am fresh"


async def test_an_open_agent_keeps_its_servers_between_runs_and_its_variants_bring_their_own() -> None:
    script = py("finish([(await calls())['pid'], 'second_calls' in globals() or 'second_calls' in dir()])")
    with ScriptedEndpoint(script) as endpoint:
        server = counting()
        async with agent_on(endpoint, tools=(server,)) as agent:
            one, two = await agent.solve("a"), await agent.solve("b")
            other = counting(name="second", prefix="second_")
            three = await agent.variant(tools=[server, other]).solve("c")
            assert one.output[0] == two.output[0] == three.output[0]
            told = endpoint.requests[-1].text("system")
            assert "await second_add(a: int" in told
            assert "await add(a: int" in told
        await gone(one.output[0])


async def test_tools_of_one_name_are_told_apart_and_chosen() -> None:
    def add() -> str:
        """The caller's own."""
        return "own"

    servers = (counting(name="left", include=["add", "ca*"]), counting(name="right-hand", exclude=["[!ac]*"]))
    script = py("finish([await add(), await left_add(1), await right_hand_add(2)])")
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(add, *servers)).solve("go")
    assert result.output == ["own", 3, 4]
    told = endpoint.requests[0].text("system")
    assert "await left_calls()" in told
    assert "volume" not in told


async def test_calls_of_a_server_wait_for_approval() -> None:
    asked: list[PendingCall] = []

    def approve(call: PendingCall) -> bool | str:
        asked.append(call)
        return call.name == "add"

    server = counting()
    script = py("""
        try:
            await note("secret")
        except ToolError as error:
            finish([str(error), await add(b=1, a=2)])
    """)
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(server,), approve=Approve(approve, tools=[server])).solve("go")
        assert result.output == ["the operator of this run did not approve this call", 3]
        assert [(call.name, dict(call.arguments)) for call in asked] == [
            ("note", {"text": "secret"}),
            ("add", {"a": 2, "b": 1}),
        ]
        with pytest.raises(ConfigurationError, match="Approve names the tool 'nots', which this agent does not have"):
            await agent_on(endpoint, tools=(server,), approve=Approve(approve, tools=["nots"])).solve("go")


async def test_a_cancelled_run_leaves_no_process(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}-{tmp_path.name}"
    server = MCPServer.stdio(counting().command, [*counting().args, mark, "stubborn"], name="counting")
    with ScriptedEndpoint(py("await wait(600)")) as endpoint:
        with anyio.move_on_after(60):
            async with anyio.create_task_group() as tasks:

                async def run() -> None:
                    await agent_on(endpoint, tools=(server,)).solve("go")

                tasks.start_soon(run)
                await until(lambda: len(endpoint.requests) > 0 and marked(mark))
                tasks.cancel_scope.cancel()
    assert not [pid for pid in marked(mark) if is_running(pid)]


# -- what is said to people -------------------------------------------------------------------------------------------


async def test_a_wrong_command_is_named() -> None:
    with ScriptedEndpoint("none") as endpoint:
        agent = agent_on(endpoint, tools=(MCPServer.stdio("no-such-server", ["x"], name="files"),))
        with pytest.raises(ConfigurationError) as refused:
            await agent.solve("go")
        assert str(refused.value) == (
            "the MCP server 'files' cannot be started: the command 'no-such-server' was not found; install it, or give its "
            "full path"
        )
        agent = agent_on(endpoint, tools=(counting("exit"),))
        with pytest.raises(ToolServerError) as failed:
            await agent.solve("go")
        assert (
            "it ended with exit status 7; the last lines of its stderr: no license found for token [redacted]"
            in str(failed.value)
        )
        agent = agent_on(endpoint, tools=(MCPServer.http(f"http://127.0.0.1:{free_port()}/mcp"),))
        with pytest.raises(ToolServerError, match=r"cannot be reached .*is it running"):
            await agent.solve("go")
