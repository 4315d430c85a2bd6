"""Cells and values."""

from __future__ import annotations

from typing import Any

import pytest

from ...repl.base import CellStatus, ReplLimits
from .suite import PATIENCE, Open, Suite, ok


class Cells(Suite):
    """Cells and values."""

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
