"""A function that a cell hid behind a value can be called again, once the agent has read why it could not."""

from __future__ import annotations

import pytest

from recursive_agent.repl import ProcessSandbox
from recursive_agent.repl.base import CellStatus, HostFunction
from tests.repl.conftest import PATIENT, answer

pytestmark = pytest.mark.anyio

SAID = "is a function, but your code gave that name to a value. It is the function again: give the value another name."


async def shown(sandbox: ProcessSandbox, *cells: str) -> list[str]:
    """Errors or output of the cells of one agent."""
    repl = await sandbox.open(call=answer, limits=PATIENT, functions=[HostFunction("double", "")])
    try:
        results = [await repl.run(code) for code in cells]
        return [str(result.error) if result.status is CellStatus.ERROR else result.output for result in results]
    finally:
        await repl.aclose()


@pytest.mark.parametrize(
    ("name", "call", "again", "printed"),
    [
        ("len", "len('ab')", "print(len('ab'))", "2\n"),
        ("max", "[max(1, n) for n in (1, 2)]", "print(max(1, 2))", "2\n"),
        ("sum", "f = lambda: sum([1])\nf()", "print(sum([2]))", "2\n"),
        ("double", "await double(2)", "print(await double(2))", "[[2], {}]\n"),
    ],
)
async def test_a_hidden_function_is_back_after_the_error(
    sandbox: ProcessSandbox, name: str, call: str, again: str, printed: str
) -> None:
    first, second = await shown(sandbox, f"{name} = 4\nx = 1\n{call}", again)
    assert first.splitlines()[-1] == f"`{name}` {SAID}"
    assert f"Here {name} = 4" in first
    assert second == printed


async def test_a_value_that_hides_a_function_is_kept_while_nobody_calls_it(sandbox: ProcessSandbox) -> None:
    assert await shown(sandbox, "len = 3\nprint(len)", "print(len + 1)") == ["3\n", "4\n"]


@pytest.mark.parametrize(
    "code",
    [
        "x = 4\nx(1)",  # no function has this name
        "sum = 4\n[1][0](sum)",  # it is not what was called
        "sum = 4\nraise TypeError('sum is gone')",
        "sum = 4\ndef f(sum):\n    return len(sum)\nf(2)",
        "class sum:\n    pass\nsum.x = 1\nsum.x(1)",
    ],
)
async def test_other_errors_change_nothing(sandbox: ProcessSandbox, code: str) -> None:
    first, second = await shown(sandbox, code, "print(type(sum).__name__)")
    assert SAID not in first
    kind = "int" if code.startswith("sum") else "type" if code.startswith("class") else None
    assert kind is None or second == f"{kind}\n"


async def test_an_error_that_lies_about_itself_runs_no_code(sandbox: ProcessSandbox) -> None:
    code = "class E(TypeError):\n    def __str__(self):\n        return 'int is not callable'\nlen = 1\nraise E(len)"
    first, second = await shown(sandbox, code, "print(len)")
    assert SAID not in first
    assert second == "1\n"
