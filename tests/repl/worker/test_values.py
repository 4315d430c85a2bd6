"""What the variables of a failing line held is shown with the error."""

from __future__ import annotations

from typing import Any

import pytest

from recursive_agent.repl import ProcessSandbox
from tests.repl.conftest import PATIENT, answer

pytestmark = pytest.mark.anyio


async def here(sandbox: ProcessSandbox, code: str, **given: Any) -> list[str]:
    """The lines that show variables, of a cell that fails."""
    repl = await sandbox.open(call=answer, limits=PATIENT, **given)
    try:
        result = await repl.run(code)
        assert result.error is not None
        assert not result.output
        return [line for line in result.error.splitlines() if line.startswith("Here ")]
    finally:
        await repl.aclose()


async def test_the_row_that_a_loop_failed_at_is_shown(sandbox: ProcessSandbox) -> None:
    rows = [{"name": "a", "cost": 5}, {"name": "b", "price": 7}, {"name": "c", "cost": 1}]
    code = "total = sum(row['cost'] for row in context)"
    assert (await here(sandbox, code, context=rows))[0] == "Here row = {'name': 'b', 'price': 7}"


async def test_the_variables_are_those_of_the_function_that_failed(sandbox: ProcessSandbox) -> None:
    code = "a = 'outer'\ndef add(a, b):\n    unused = 1\n    return a + b\nadd(3, None)"
    assert await here(sandbox, code) == ["Here a = 3", "Here b = None"]


async def test_functions_modules_and_what_the_line_does_not_name_are_left_out(sandbox: ProcessSandbox) -> None:
    assert await here(sandbox, "import math\nx = 4\ny = 5\nmath.sqrt(-x)") == ["Here x = 4"]
    assert await here(sandbox, "int('x')") == []
    assert await here(sandbox, "missing") == []


async def test_large_values_are_cut(sandbox: ProcessSandbox) -> None:
    code = "a = 'x' * 100_000\nb = [list(range(1000)) for _ in range(1000)]\nc = 10 ** 100_000\na + b + c"
    lines = await here(sandbox, code)
    assert [line.split(" = ")[0] for line in lines] == ["Here a", "Here b", "Here c"]
    row = "[0, 1, 2, … 1,000 in all]"
    assert lines[1] == f"Here b = [{row}, {row}, {row}, … 1,000 in all]"
    assert all(len(line) < 400 for line in lines)
    for line in lines[:2]:  # what is cut cannot be run when it is copied
        with pytest.raises(SyntaxError):
            compile(line.removeprefix("Here "), "copied", "exec")


@pytest.mark.parametrize("body", ["1 / 0", "raise SystemExit", "while True: pass", "print('run')"])
async def test_no_code_of_the_agents_is_run_to_show_a_value(sandbox: ProcessSandbox, body: str) -> None:
    code = f"class Odd:\n    def __repr__(self):\n        {body}\nx = [Odd(), 3]\nx + 1"
    assert await here(sandbox, code) == ["Here x = [<Odd>, 3]"]


async def test_the_mapping_of_a_class_body_is_not_asked(sandbox: ProcessSandbox) -> None:
    """A metaclass may let a class body write into a mapping of its own."""
    code = "x = 4\nclass Body:\n    y = 2\n    z = x / (y - 2)"
    assert await here(sandbox, code) == ["Here x = 4"]
