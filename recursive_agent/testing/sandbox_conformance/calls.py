"""Calls of the host."""

from __future__ import annotations

import anyio

from ...repl.base import CellResult, CellStatus, HostFunction
from .suite import Host, Open, Suite, ok


class HostCalls(Suite):
    """Calls of the host."""

    async def test_calls_reach_the_host_as_they_were_made(self, opened: Open, host: Host) -> None:
        """With arguments, the number of the cell, and ids that are never used twice."""
        async with opened() as repl:
            assert await ok(repl, "await echo(1, [2], k={'a': None})") == "[[1, [2]], {'k': {'a': None}}]\n"
            await ok(repl, "await echo()\nawait echo()")
            first, second, third = host.requests
            assert (first.name, first.args, dict(first.kwargs), first.cell) == ("echo", (1, [2]), {"k": {"a": None}}, 1)
            assert (second.cell, third.cell) == (2, 2)
            assert len({request.id for request in host.requests}) == 3

    async def test_calls_are_answered_concurrently(self, opened: Open, host: Host) -> None:
        """All of a gather are under way at once, in the order in which they were made."""
        async with opened() as repl, anyio.create_task_group() as group:
            results: list[CellResult] = []

            async def run() -> None:
                results.append(await repl.run("import asyncio\nawait asyncio.gather(*[gate(i) for i in range(10)])"))

            group.start_soon(run)
            await host.until(calls=10)
            assert [request.args for request in host.requests] == [(i,) for i in range(10)]
            assert not results
            host.opened.set()
        assert results[0].output == f"{['open'] * 10!r}\n"

    async def test_a_failing_call_raises_in_the_cell(self, opened: Open) -> None:
        """ToolError for any exception of the host and for what is no plain data; SubagentError with its attributes."""
        async with opened() as repl:
            for name in ("broken", "odd"):
                assert (
                    await ok(repl, f"try:\n    await {name}()\nexcept ToolError as e:\n    print('caught')")
                    == "caught\n"
                )
            result = await repl.run("await broken()")
            assert result.status == CellStatus.ERROR
            assert "the drawer is empty" in str(result.error)
            code = "try:\n    await child_failed()\nexcept SubagentError as e:\n    print(e.status, e.partial, e)"
            shown = await ok(repl, code)
            assert shown.startswith("step_limit [1, 2]")
            assert "it gave up" in shown

    async def test_launches_reach_the_host(self, opened: Open, host: Host) -> None:
        """As `launch_subagent` with keyword arguments; a refusal raises LaunchRefused."""
        async with opened() as repl:
            assert await ok(repl, "await launch_subagent('dig', max_steps=3)") == "'done: dig'\n"
            (request,) = host.requests
            assert set(request.kwargs) >= {"goal", "context", "returns", "max_steps", "max_tokens"}
            assert (request.kwargs["goal"], request.kwargs["max_steps"], request.args) == ("dig", 3, ())
            code = "try:\n    await launch_subagent('too much')\nexcept LaunchRefused:\n    print('refused')"
            assert await ok(repl, code) == "refused\n"

    async def test_nothing_is_there_that_was_not_given(self, opened: Open, host: Host) -> None:
        """No launcher, no function."""
        async with opened(launcher=False, functions=[HostFunction("echo")]) as repl:
            for code in ("await launch_subagent('x')", "subagents", "await gate()"):
                result = await repl.run(code)
                assert result.status == CellStatus.ERROR
                assert "NameError" in str(result.error)
            await ok(repl, "await echo()")
            assert host.names() == ["echo"]

    async def test_calls_that_nobody_awaited_are_named(self, opened: Open) -> None:
        """They never ran."""
        async with opened() as repl:
            result = await repl.run("echo(1)\nx = 2")
            assert (result.status, result.unawaited) == (CellStatus.OK, ("echo",))
            assert (await repl.run("x")).unawaited == ()

    async def test_calls_that_outlive_their_cell_are_named_and_go_on(self, opened: Open, host: Host) -> None:
        """And the next cell can await them."""
        async with opened() as repl:
            result = await repl.run("import asyncio\nt = asyncio.create_task(gate())\nawait asyncio.sleep(0)")
            assert (result.status, result.running) == (CellStatus.OK, ("gate",))
            await host.until(calls=1)
            host.opened.set()
            assert await ok(repl, "await t") == "'open'\n"
