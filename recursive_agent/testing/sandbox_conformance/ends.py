"""Limits, and ends that were not asked for."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from ...errors import SandboxError
from ...repl.base import CellResult, CellStatus, ReplLimits, Sandbox
from .suite import PATIENCE, Host, Open, Suite, again, ok


class Ends(Suite):
    """Limits, and ends that were not asked for."""

    # -- limits ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("code", ["while True: pass", "import asyncio\nawait asyncio.sleep(3600)"])
    async def test_a_cell_ends_at_its_limit(self, opened: Open, code: str) -> None:
        """Whether it works or waits, and the REPL goes on."""
        if "while" in code:
            self.promises("interrupt")
        async with opened(limits=ReplLimits(cell_timeout=1.0)) as repl:
            with anyio.fail_after(PATIENCE):
                result = await repl.run(code)
            assert result.status in (CellStatus.TIMEOUT, CellStatus.KILLED), result
            assert await again(repl, "1 + 1") == "2"

    async def test_a_cell_that_will_not_end_is_killed(self, opened: Open) -> None:
        """Where it is inside one long operation too."""
        self.promises("interrupt")
        async with opened(limits=ReplLimits(cell_timeout=1.0)) as repl:
            with anyio.fail_after(PATIENCE):
                result = await repl.run("x = 3 ** (3 ** 21)")
            assert result.status in (CellStatus.TIMEOUT, CellStatus.KILLED, CellStatus.MEMORY, CellStatus.ERROR), result
            assert await again(repl, "1 + 1") == "2"

    async def test_waiting_for_the_host_costs_no_time_of_the_cell(self, opened: Open, host: Host) -> None:
        """However long the host takes."""
        async with opened(limits=ReplLimits(cell_timeout=1.0)) as repl, anyio.create_task_group() as group:
            results: list[CellResult] = []

            async def run() -> None:
                results.append(await repl.run("await gate()"))

            group.start_soon(run)
            await host.until(calls=1)
            await anyio.sleep(2.5)
            host.opened.set()
        assert results[0].status == CellStatus.OK, results

    @pytest.mark.parametrize(
        "code",
        ["x = 'x' * (1 << 34)", "x = []\nwhile True: x.append('y' * 1_000_000 + str(len(x)))", "x = [0] * 10**9"],
    )
    async def test_memory_ends_at_its_limit(self, opened: Open, code: str) -> None:
        """The cell ends, and the REPL goes on."""
        self.promises("memory")
        async with opened(limits=ReplLimits(cell_timeout=PATIENCE, memory_mb=64)) as repl:
            with anyio.fail_after(PATIENCE):
                result = await repl.run(code)
            assert result.status in (CellStatus.MEMORY, CellStatus.KILLED), result
            assert await again(repl, "1 + 1") == "2"

    # -- ends --------------------------------------------------------------------------------------------------------

    async def test_a_killed_worker_is_replaced(self, opened: Open) -> None:
        """Between cells and in the middle of one; the context is there again, and other REPLs do not notice."""
        self.promises("killed")
        async with opened(context=[1, 2]) as repl, opened() as other:
            await ok(repl, "x = 1")
            await ok(other, "x = 'kept'")
            await self.kill_worker(repl)
            assert await again(repl, "context") == "[1, 2]"
            async with anyio.create_task_group() as group:
                results: list[CellResult] = []

                async def run() -> None:
                    results.append(await repl.run("print('begun')\nawait gate()"))

                group.start_soon(run)
                await anyio.sleep(0.2)
                await self.kill_worker(repl)
            assert results[0].status == CellStatus.KILLED
            assert results[0].error
            assert await again(repl, "context") == "[1, 2]"
            assert await ok(other, "x") == "'kept'\n"

    async def test_a_cancelled_cell_is_over(self, opened: Open, host: Host) -> None:
        """Its host calls are cancelled, and the REPL can run another cell."""
        async with opened() as repl:
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    group.start_soon(repl.run, "await gate()")
                    await host.until(calls=1)
                    group.cancel_scope.cancel()
                await host.until(cancelled=1)
                assert (await repl.run("1 + 1")).output.endswith("2\n")

    async def test_one_cell_at_a_time(self, opened: Open, host: Host) -> None:
        """A second one is refused with SandboxError; the first goes on."""
        async with opened() as repl, anyio.create_task_group() as group:
            results: list[CellResult] = []

            async def run() -> None:
                results.append(await repl.run("await gate()"))

            group.start_soon(run)
            await host.until(calls=1)
            with pytest.raises(SandboxError):
                await repl.run("1")
            host.opened.set()
        assert results[0].status == CellStatus.OK

    async def test_closing_twice_is_closing(self, opened: Open, host: Host) -> None:
        """Also while a cell runs; after it no cell runs."""
        async with opened() as repl:
            await repl.aclose()
            await repl.aclose()
            with pytest.raises(SandboxError):
                await repl.run("1")
        async with opened() as repl:
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:

                    async def run() -> None:
                        with suppress(SandboxError):
                            await repl.run("await gate()")

                    group.start_soon(run)
                    await host.until(calls=1)
                    await repl.aclose()
                    assert host.cancelled == 1

    async def test_a_sandbox_that_was_left_opens_nothing(self, host: Host) -> None:
        """Its REPLs are closed with it; what is not entered opens nothing either."""
        left = self.make_sandbox()
        with pytest.raises(SandboxError):
            await left.open(call=host)
        async with left as sandbox:
            assert isinstance(sandbox, Sandbox)
            repl = await sandbox.open(call=host)
        with anyio.fail_after(PATIENCE):
            with pytest.raises(SandboxError):
                await left.open(call=host)
            with pytest.raises(SandboxError):
                await repl.run("1")
            await repl.aclose()

    async def test_many_at_once(self, opened: Open, host: Host) -> None:
        """REPLs are opened, run and closed concurrently, each with its own variables."""
        shown: dict[int, str] = {}

        async def one(number: int) -> None:
            async with opened(context=number) as repl:
                await ok(repl, "x = context * 10")
                shown[number] = await ok(repl, "(await echo(x))[0]")

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for number in range(12):
                    group.start_soon(one, number)
        assert shown == {number: f"[{number * 10}]\n" for number in range(12)}
