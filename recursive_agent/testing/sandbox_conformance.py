"""What every sandbox must do, as tests that any sandbox can run. Needs pytest.

    from recursive_agent.testing.sandbox_conformance import CLAIMS, SandboxConformance

    class TestMySandbox(SandboxConformance):
        claims = CLAIMS - {"memory"}  # what it does not promise; those tests are skipped, with the reason

        def make_sandbox(self) -> Sandbox:
            return MySandbox()

The tests are asynchronous, on anyio's own pytest plugin, which comes with anyio.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from ..errors import SandboxError
from ..repl.base import CellResult, CellStatus, HostCallError, HostFunction, HostRequest, Repl, ReplLimits, Sandbox

CLAIMS = frozenset({"isolation", "memory", "interrupt", "killed"})
"""What a sandbox may promise beyond the behaviour of a REPL.

`isolation`: cells see no file, no variable of the environment, no network and no process of the host. `memory`: a cell that
takes more than `ReplLimits.memory_mb` ends, and the sandbox lives on. `interrupt`: a cell that never ends, and does not
wait, is stopped at its limit. `killed`: a worker that was killed from outside is replaced (`kill_worker` must be written).
"""
SECRET = "canary-7c1e55"
PATIENCE = 60.0
"""Seconds after which what should happen has not happened; a busy machine is slow, a broken sandbox for ever."""


class Host:
    """The host of the tests: answers calls, and keeps them."""

    def __init__(self) -> None:
        self.requests: list[HostRequest] = []
        self.cancelled = 0
        self.opened = anyio.Event()
        """Set it, and calls of `gate` return."""
        self._news = anyio.Event()

    def names(self) -> list[str]:
        """The functions that were called, in order."""
        return [request.name for request in self.requests]

    async def until(self, *, calls: int = 0, cancelled: int = 0) -> None:
        """Wait for so many calls, and for so many that were cancelled."""
        with anyio.fail_after(PATIENCE):
            while len(self.requests) < calls or self.cancelled < cancelled:
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def __call__(self, request: HostRequest) -> Awaitable[Any]:
        """A `HostCall`."""
        self.requests.append(request)
        self._tell()
        return self._answer(request)

    async def _answer(self, request: HostRequest) -> Any:
        match request.name:
            case "echo":
                return [list(request.args), dict(request.kwargs)]
            case "gate":
                try:
                    await self.opened.wait()
                except BaseException:
                    self.cancelled += 1
                    self._tell()
                    raise
                return "open"
            case "broken":
                raise KeyError("the drawer is empty")
            case "odd":
                return object()
            case "child_failed":
                raise HostCallError("SubagentError", "it gave up", status="step_limit", partial=[1, 2])
            case "launch_subagent":
                if request.kwargs["goal"] == "too much":
                    raise HostCallError("LaunchRefused", "no agent is left")
                return "done: " + request.kwargs["goal"]
        return None


FUNCTIONS = [HostFunction(name, f"The function {name}.") for name in ("echo", "gate", "broken", "odd", "child_failed")]
Open = Callable[..., AbstractAsyncContextManager[Repl]]


class SandboxConformance:
    """The tests. Inherit, name the class `Test…`, and write `make_sandbox`."""

    claims: ClassVar[frozenset[str]] = CLAIMS
    """What the sandbox promises, of `CLAIMS`."""
    pytestmark: ClassVar[Sequence[pytest.MarkDecorator]] = [pytest.mark.anyio]

    def make_sandbox(self) -> Sandbox:
        """The sandbox under test, not yet entered."""
        raise NotImplementedError("write make_sandbox: it returns the sandbox under test")

    async def kill_worker(self, repl: Repl) -> None:
        """Kill what runs the cells of `repl`, as the kernel's out-of-memory killer would."""
        raise NotImplementedError('write kill_worker, or leave "killed" out of `claims`')

    def promises(self, claim: str) -> None:
        """Skip the test where the sandbox does not promise this."""
        if claim not in self.claims:
            pytest.skip(f"this sandbox does not promise {claim!r}")

    @pytest.fixture
    def host(self) -> Host:
        """What answers the calls of cells."""
        return Host()

    @pytest.fixture
    async def sandbox(self) -> AsyncIterator[Sandbox]:
        """The sandbox under test, entered."""
        async with self.make_sandbox() as sandbox:
            yield sandbox

    @pytest.fixture
    def opened(self, sandbox: Sandbox, host: Host) -> Open:
        """Opens a REPL, and closes it."""

        @asynccontextmanager
        async def opened(**settings: Any) -> AsyncIterator[Repl]:
            settings.setdefault("limits", ReplLimits(cell_timeout=PATIENCE))
            with anyio.fail_after(PATIENCE):
                repl = await sandbox.open(**{"call": host, "functions": FUNCTIONS, **settings})
            try:
                yield repl
            finally:
                with anyio.fail_after(PATIENCE, shield=True):
                    await repl.aclose()

        return opened

    @pytest.fixture
    def canaries(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, socket.socket]]:
        """A file with a secret that anybody may change, and a listener that nobody should reach."""
        monkeypatch.setenv("RAO_CONFORMANCE", SECRET)
        with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as listener:
            file = Path(name) / "secret"
            file.parent.chmod(0o777)  # nothing but the sandbox stands between
            file.write_text(SECRET)
            file.chmod(0o666)
            listener.setblocking(False)
            yield file, listener
            assert [(item.name, item.read_text()) for item in file.parent.iterdir()] == [("secret", SECRET)]
            with pytest.raises(BlockingIOError):
                listener.accept()

    # -- cells -------------------------------------------------------------------------------------------------------

    async def test_state_persists_across_cells(self, opened: Open) -> None:
        """Variables, functions, classes and imports of one cell are there in the next."""
        async with opened() as repl:
            await ok(repl, "import math\nx = [1]\ndef f(n):\n    return n + len(x)\nclass A:\n    y = 5")
            await ok(repl, "x.append(2)")
            assert await ok(repl, "f(10), A().y, math.floor(2.5)") == "(12, 5, 2)\n"

    async def test_await_at_the_top_level(self, opened: Open) -> None:
        """A cell may await, and define and call coroutines."""
        async with opened() as repl:
            code = "import asyncio\nasync def g(n):\n    await asyncio.sleep(0)\n    return n * 2\nawait g(21)"
            assert await ok(repl, code) == "42\n"
            assert await ok(repl, "sum(await asyncio.gather(g(1), g(2)))") == "6\n"

    async def test_printed_text_and_the_last_expression_are_the_output(self, opened: Open) -> None:
        """In the order of the code; None and statements show nothing."""
        async with opened() as repl:
            assert await ok(repl, "print('a', 1)\nprint('ü')\n'last'") == "a 1\nü\n'last'\n"
            assert await ok(repl, "x = 3") == ""
            assert await ok(repl, "None") == ""

    async def test_long_output_is_cut_with_a_note(self, opened: Open) -> None:
        """However it comes; what follows is whole again."""
        async with opened(limits=ReplLimits(cell_timeout=PATIENCE, output_chars=500)) as repl:
            for code in ("print('x' * 100_000)", "for i in range(20_000): print(i)", "'y' * 100_000"):
                result = await repl.run(code)
                assert result.status == CellStatus.OK, result
                assert 100 < len(result.output) < 1500
                assert set(result.output) - set("xy0123456789'\n"), "the note that something was cut"
            assert await ok(repl, "'short'") == "'short'\n"

    async def test_an_exception_is_told_and_harms_nothing(self, opened: Open) -> None:
        """The traceback names error and line; what was printed before it is kept, and so are variables."""
        async with opened() as repl:
            result = await repl.run("x = 1\nprint('before')\n1 / 0\nx = 2")
            assert (result.status, result.output) == (CellStatus.ERROR, "before\n")
            assert "ZeroDivisionError" in str(result.error)
            assert "3" in str(result.error)
            assert await ok(repl, "x") == "1\n"

    async def test_what_is_no_python_is_told(self, opened: Open) -> None:
        """As an error of the cell."""
        async with opened() as repl:
            for code in ("def f(:", "x = ", "\x00", "return 1", "class"):
                result = await repl.run(code)
                assert result.status == CellStatus.ERROR, (code, result)
                assert result.error
            assert await ok(repl, "1") == "1\n"

    async def test_times_are_told(self, opened: Open) -> None:
        """Wall and CPU time of the cell, in seconds."""
        async with opened() as repl:
            result = await repl.run("sum(range(300_000))")
            assert 0 < result.wall < PATIENCE
            assert 0 <= result.cpu < PATIENCE

    # -- context and values ------------------------------------------------------------------------------------------

    async def test_the_context_is_a_variable(self, opened: Open) -> None:
        """With plain data of every kind as it was, large strings too."""
        text = "äöü🎉" * 200_000
        context = {"text": text, "more": [None, True, 2**70, -1.5, b"\x00\xff", {"a": ["b"]}]}
        async with opened(context=context) as repl:
            assert await ok(repl, "len(context['text']), context['text'][-2:]") == "(800000, 'ü🎉')\n"
            assert await ok(repl, "context['more']") == f"{context['more']!r}\n"
        async with opened(context=None) as repl:
            assert await ok(repl, "context") == ""

    @pytest.mark.parametrize(
        "value", [None, True, 0, -(2**70), 1.5, "tëxt", "", b"\x00\xff", [], [1, [2]], {"a": {"b": 1}}]
    )
    async def test_finish_gives_plain_data(self, opened: Open, value: Any) -> None:
        """As it was, and of the same type."""
        async with opened() as repl:
            result = await repl.run(f"finish({value!r})\nprint('never')")
            assert (result.status, result.output) == (CellStatus.FINISHED, "")
            assert result.value == value
            assert type(result.value) is type(value)

    async def test_finish_ends_the_cell_wherever_it_is_called(self, opened: Open) -> None:
        """In functions, loops and coroutines, and no `except Exception` holds it up."""
        for code in (
            "def f():\n    for i in range(9):\n        finish(i)\nf()\nprint('never')",
            "try:\n    finish(0)\nexcept Exception:\n    print('never')",
            "async def f():\n    finish(0)\nawait f()\nprint('never')",
        ):
            async with opened() as repl:
                result = await repl.run(code)
                assert (result.status, result.value, result.output) == (CellStatus.FINISHED, 0, "")

    async def test_a_value_that_is_no_plain_data_is_refused_in_the_cell(self, opened: Open) -> None:
        """The agent may give another."""
        async with opened() as repl:
            deep = "x = []\nfor _ in range(300):\n    x = [x]\nfinish(x)"
            for code in ("finish(lambda: 1)", deep, "x = []\nx.append(x)\nfinish(x)"):
                result = await repl.run(code)
                assert result.status == CellStatus.ERROR, result
            assert (await repl.run("finish('other')")).value == "other"

    async def test_a_value_that_does_not_fit_is_refused_with_the_reason(self, opened: Open) -> None:
        """`returns` is checked in the sandbox; the cell ends at `finish`, and the agent may give another value."""
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        async with opened(returns=schema) as repl:
            result = await repl.run("finish({'n': 'many'})\nprint('never')")
            assert (result.status, result.value, result.output) == (CellStatus.OK, None, "")
            assert "integer" in str(result.refused)
            result = await repl.run("finish({'n': 3})")
            assert (result.status, result.value, result.refused) == (CellStatus.FINISHED, {"n": 3}, None)

    @pytest.mark.parametrize("what", ["bytes", "objects"])
    async def test_a_value_that_is_too_large_is_refused_and_the_repl_goes_on(self, opened: Open, what: str) -> None:
        """For `finish` and for arguments of calls alike; the host never sees it."""
        limits = ReplLimits(cell_timeout=PATIENCE, message_bytes=100_000, message_objects=1000)
        value = "'x' * 300_000" if what == "bytes" else "[0] * 20_000"
        async with opened(limits=limits) as repl:
            for code in (f"finish({value})", f"await echo({value})"):
                result = await repl.run(code)
                assert result.status in (CellStatus.ERROR, CellStatus.KILLED), result
                assert result.value is None
            assert (await repl.run("1 + 1")).output.endswith("2\n")

    # -- calls of the host -------------------------------------------------------------------------------------------

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

    # -- walls -------------------------------------------------------------------------------------------------------

    async def test_repls_share_nothing(self, opened: Open) -> None:
        """Neither variables nor what the code did to modules."""
        async with opened(context={"a": [1]}) as first, opened(context={"a": [1]}) as second:
            await ok(first, "import random\nrandom.seed(7)\nsecret = 'mine'\ncontext['a'].append(2)")
            result = await second.run("secret")
            assert result.status == CellStatus.ERROR
            assert "NameError" in str(result.error)
            assert await ok(second, "context['a']") == "[1]\n"

    async def test_layers_are_named(self, sandbox: Sandbox) -> None:
        """By `enforced`, a set of names; a sandbox that isolates has some."""
        assert isinstance(sandbox.enforced, frozenset)
        assert all(isinstance(layer, str) for layer in sandbox.enforced)
        assert sandbox.enforced or "isolation" not in self.claims

    @pytest.mark.parametrize("attempt", ["environment", "arguments", "file", "write", "folder", "network", "process"])
    async def test_cells_see_nothing_of_the_host(
        self, opened: Open, attempt: str, canaries: tuple[Path, socket.socket]
    ) -> None:
        """No environment, command line, file, network or process, and they change none."""
        self.promises("isolation")
        file, listener = canaries
        code = {
            "environment": "import os\nprint(dict(os.environ))",
            "arguments": f"print(open('/proc/{os.getpid()}/cmdline').read())",
            "file": f"print(open({str(file)!r}).read())",
            "write": f"open({str(file.with_name('new'))!r}, 'w').write('x')",
            "folder": f"import os\nprint(os.listdir({str(file.parent)!r}))",
            "network": f"import socket\nsocket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), 5)",
            "process": f"import os\nos.kill({os.getpid()}, 0)\nprint({SECRET!r})",
        }[attempt]
        async with opened() as repl:
            result = await repl.run(code)
        said = result.output + str(result.error)
        assert SECRET not in said.replace(repr(SECRET), "")
        assert file.name not in result.output
        assert " ".join(sys.orig_argv) not in said

    async def test_nothing_that_happens_in_a_cell_is_lost_on_the_clock(self, opened: Open) -> None:
        """Cells are quick: a hundred small ones take no time that anybody would notice."""
        async with opened() as repl:
            with anyio.fail_after(PATIENCE):
                for number in range(100):
                    result = await repl.run(f"x = {number}")
                    assert result.status == CellStatus.OK
                    assert math.isfinite(result.wall)
            assert await ok(repl, "x") == "99\n"


async def ok(repl: Repl, code: str) -> str:
    """The output of a cell that runs to its end."""
    result = await repl.run(code)
    assert result.status == CellStatus.OK, result
    return result.output


async def again(repl: Repl, code: str) -> str:
    """The last line of a cell's output, where the cells before it may have cost the worker.

    A machine that is busy may take longer than a short limit for a first cell in a fresh worker; then it is run again.
    """
    for _ in range(20):
        result = await repl.run(code)
        if result.status == CellStatus.OK:
            return result.output.splitlines()[-1]
    raise AssertionError(f"the REPL did not go on: {result}")
