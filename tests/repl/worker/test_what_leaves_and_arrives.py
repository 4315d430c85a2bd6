# ruff: noqa: E501 (the code of a cell stands on one line)
"""Values on their way out of a worker and in: checked against `returns`, bounded, and never the end of the run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from recursive_agent.repl import CellResult, HostFunction, HostRequest, ProcessSandbox, ReplLimits, Sandbox
from recursive_agent.repl.answers import Answerer
from tests.waiting import PATIENCE

from .test_cells import box  # noqa: F401 (both sandboxes)

pytestmark = pytest.mark.anyio
LIMITS = ReplLimits(cell_timeout=PATIENCE)
MIB = 1024 * 1024


class Host:
    """Gives what it was told to give."""

    def __init__(self) -> None:
        self.seen: list[HostRequest] = []
        self.child: Any = None

    async def __call__(self, request: HostRequest) -> Any:
        self.seen.append(request)
        if request.name == "launch_subagent":
            return self.child
        if request.name == "text":
            return "x" * (int(request.args[0]) * MIB)
        if request.name == "number":
            return 10 ** int(request.args[0])
        if request.name == "many":
            return [[i] for i in range(int(request.args[0]))]
        return list(request.args)


TOOLS = [HostFunction(name) for name in ("text", "number", "many", "echo")]


@pytest.fixture
def host() -> Host:
    return Host()


async def run(
    sandbox: Sandbox, host: Host, *cells: str, returns: Any = None, limits: ReplLimits = LIMITS
) -> list[CellResult]:
    repl = await sandbox.open(call=host, functions=TOOLS, returns=returns, limits=limits)
    results = [await repl.run(cell) for cell in cells]
    await repl.aclose()
    return results


# -- finish against returns ------------------------------------------------------------------------------------------

PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


async def test_a_value_that_does_not_fit_is_refused_with_its_place_and_the_cell_ends(box: Sandbox, host: Host) -> None:  # noqa: F811
    cell = "try: finish({'name': 3})\nexcept BaseException: print('swallowed')\nprint('went on')"
    wrong, right = await run(box, host, cell, "finish({'name': 'Ada'})", returns=PERSON)
    assert (wrong.status, wrong.output, wrong.error, wrong.value) == ("ok", "", None, None)
    assert wrong.refused == "value['name']: 3 is not of type string"
    assert (right.status, right.value, right.refused) == ("finished", {"name": "Ada"}, None)


async def test_the_plain_form_is_checked_whatever_the_objects_say(box: Sandbox, host: Host) -> None:  # noqa: F811
    code = """
from dataclasses import dataclass
@dataclass
class P:
    name: str
    def __eq__(self, other): return True
class Liar(dict):
    def __contains__(self, key): return True
    def __getitem__(self, key): return "Ada"
class Text(str):
    def __eq__(self, other): return True
    def __hash__(self): return 1
"""
    codes = ["finish(P(3))", "finish(Liar())", "finish({Text('nome'): 'x'})", "finish(P('Ada'))"]
    _, *refused, good = await run(box, host, code, *codes, returns=PERSON)
    assert [r.refused for r in refused] == [
        "value['name']: 3 is not of type string",
        *["the key 'name' is missing"] * 2,
    ]
    assert good.value == {"name": "Ada"}


async def test_a_document_of_the_context_is_checked_as_text(sandbox: ProcessSandbox, host: Host) -> None:
    repl = await sandbox.open(
        call=host, context="y" * 2 * MIB, returns={"type": "string", "maxLength": MIB}, limits=LIMITS
    )
    assert (await repl.run("finish(context)")).refused == "2,097,152 characters are more than 1,048,576"
    assert (await repl.run("finish('y')")).status == "finished"
    await repl.aclose()


async def test_a_pattern_that_takes_for_ever_is_stopped_by_the_clock(sandbox: ProcessSandbox, host: Host) -> None:
    limits = ReplLimits(cell_timeout=0.5)
    returns = {"type": "string", "pattern": "^(a+)+$"}
    first, second = await run(
        sandbox, host, "x = 1\nfinish('a' * 64 + 'b')", "finish('aa')", returns=returns, limits=limits
    )
    assert first.status == "timeout", first
    assert (second.status, second.value) == ("finished", "aa")


# -- a child's result against what its parent asked for --------------------------------------------------------------


async def test_a_childs_result_is_checked_again_where_it_arrives(box: Sandbox, host: Host) -> None:  # noqa: F811
    host.child = {"x": "three"}
    code = """
from dataclasses import dataclass
ran = []
@dataclass
class D:
    x: int
    def __post_init__(self): ran.append(1)
try: await launch_subagent("g", returns=D)
except SubagentError as e: print(e.status, e, e.partial)
subagents[0].status, subagents[0].result, ran
"""
    (result,) = await run(box, host, code)
    assert result.output == (
        "error the result of the sub-agent does not fit returns: value['x']: 'three' is not of type integer {'x': 'three'}\n"
        "('error', {'x': 'three'}, [])\n"
    )


async def test_a_result_is_made_once_however_often_it_is_awaited(box: Sandbox, host: Host) -> None:  # noqa: F811
    host.child = {"x": 3}
    code = """
import asyncio
from dataclasses import dataclass
made = []
@dataclass
class D:
    x: int
    def __post_init__(self): made.append(1)
h = launch_subagent("g", returns=D)
a, b = await asyncio.gather(asyncio.create_task(h), asyncio.sleep(0))
a is await h, await h is h.result, made
"""
    (result,) = await run(box, host, code)
    assert result.output == "(True, True, [1])\n"


async def test_a_class_that_raises_raises_where_it_is_awaited(box: Sandbox, host: Host) -> None:  # noqa: F811
    host.child = {"x": 3}
    code = "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int\n    def __post_init__(self): raise KeyError('mine')\nawait launch_subagent('g', returns=D)"
    first, second = await run(box, host, code, "subagents[0].status")
    assert str(first.error).endswith("KeyError: 'mine'")
    assert second.output == "'finished'\n"


REFUSED = {
    "text": ("'list[int]'", "text is never evaluated"),
    "code_as_text": ("'__import__(\"os\").system(\"true\")'", "text is never evaluated"),
    "text_inside": ("list['Leg']", "text is never evaluated"),
    "keyword": ("{'type': 'object', 'patternProperties': {}}", "'patternProperties' is not supported"),
    "keyword_inside": ("{'properties': {'x': {'dependentSchemas': {}}}}", "'dependentSchemas' is not supported"),
    "remote": ("{'$ref': 'http://127.0.0.1/x'}", "may only name"),
    "endless": ("{'$ref': '#'}", "without end"),
    "large": ("{'description': 'x' * 70_000}", "bytes are more than the 65,536"),
    "many": ("{'enum': list(range(3_000))}", "more than 2,000 values"),
    "deep": ("d", "nested deeper|nested too deeply"),
    "itself": ("c", "more than 2,000 values|nested too deeply"),
    "no_type": ("3", "not a type that can be described"),
    "instance": ("object()", "not a type that can be described"),
    "unhashable": ("[int]", "not a type that can be described"),
    "half_hashable": ("(1, [2])", "not a type that can be described"),
    "bytes_in_it": ("Literal[b'x']", "only JSON"),
    "call": ("{'default': echo()}", "await it"),
    "hook": ("Hooked", "is no dataclass"),
    "hooked_instance": ("Hooked()", "not a type that can be described|mine"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_a_bad_returns_is_an_error_in_the_parents_cell(name: str, sandbox: ProcessSandbox, host: Host) -> None:
    returns, why = REFUSED[name]
    code = """
from typing import Literal
class Hooked:
    def __eq__(self, other): raise ValueError("mine")
    def __hash__(self): raise TypeError("mine")
    def __repr__(self): raise ValueError("mine")
    def __getattr__(self, name): raise ValueError("mine")
d = {}
for _ in range(60): d = {"items": d}
c = {"properties": {}}
c["properties"]["c"] = c
"""
    repl = await sandbox.open(call=host, functions=TOOLS, limits=LIMITS)
    assert (await repl.run(code)).status == "ok"
    result = await repl.run(f"await launch_subagent('g', returns={returns})")
    assert result.status == "error", result
    assert any(part in str(result.error) for part in why.split("|")), result.error
    assert (await repl.run("1")).output == "1\n"
    assert not host.seen
    await repl.aclose()


# -- sizes -----------------------------------------------------------------------------------------------------------

TOO_MUCH = {
    "many": ("list(range(250_000))", "250,0"),
    "more_than_are_counted": ("[[0] * 1000] * 5000", "more than 1,000,000 values are more than the 100,000"),
    "amplified": ("[[[]] * 4000] * 4000", "more than 1,000,000 values are more than the 100,000"),
    "in_a_dict": ("{i: i for i in range(60_000)}", "values are more than the 100,000 that one message may hold; "),
    "in_objects": ("[deque(range(200_000))]", "more than 100,000 values in one message; "),
    "itself": ("me", "nested too deeply, or contains itself"),
    "itself_often": ("wide", "values are more than the 100,000"),
    "itself_in_a_class": ("Node()", "nested too deeply, or contains itself"),
    "deep": ("nest(505)", "at most 100 levels can be sent"),
    "deep_dict": ("nest(101, lambda x: {'a': x})", "nested"),
    "deep_objects": ("nest(120, lambda x: deque([x]))", "nested deeper than 100 levels"),
    "very_deep": ("nest(50_000)", "at most 100 levels can be sent"),
    "bytes": ("'x' * 9_000_000", "9,000,0"),
    "huge_number": ("1 << 3_000_000", "a whole number of 3,000,001 bits"),
    "huge_number_in_an_enum": ("Huge.A", "a whole number of 3,000,001 bits"),
    "broken_text": ("'\\ud800'", "not valid text"),
    "infinite": ("Endless()", "MemoryError"),
}  # fmt: skip
SETUP = """
import itertools
from collections import deque
from enum import Enum
class Huge(Enum): A = 1 << 3_000_000
class Node:
    def popleft(self): pass
    def __iter__(self): return iter([self])
class Endless:
    def popleft(self): pass
    def __iter__(self): return itertools.repeat("x" * 10)
def nest(n, wrap=lambda x: [x]):
    x = []
    for _ in range(n): x = wrap(x)
    return x
me = []
me.append(me)
wide = []
wide += [wide] * 10
"""


@pytest.mark.parametrize("how", ["finish({})", "await echo({})", "await launch_subagent('g', context={})"])
async def test_what_is_too_much_for_a_message_is_an_error_in_the_cell(
    how: str, sandbox: ProcessSandbox, host: Host
) -> None:
    repl = await sandbox.open(call=host, functions=TOOLS, context={"d": "y" * 2 * MIB}, limits=LIMITS)
    assert (await repl.run(SETUP)).status == "ok"
    wrong = {}
    for name, (value, why) in TOO_MUCH.items():
        result = await repl.run(how.format(value))
        if result.status not in ("error", "memory") or why not in str(result.error) or len(str(result.error)) > 2000:
            wrong[name] = (result.status, result.error)
    assert wrong == {}
    assert (await repl.run("len(nest(3)), context['d'][0]")).output == "(1, 'y')\n"
    assert not host.seen
    assert (await repl.run("finish([nest(90), 1 << 100_000, list(range(90_000))])")).status == "finished"
    await repl.aclose()


# -- whole numbers of many digits ------------------------------------------------------------------------------------


async def test_a_long_number_is_shown_and_read(sandbox: ProcessSandbox, host: Host) -> None:
    cells = ["print(2**100000)", "10**5000", "len(str(2**100000)), int('7' * 9000) % 10, f'{10**6000}'[:2], '%d' % 10**4500 == str(10**4500)", "import json\njson.loads(json.dumps(10**7000)) == 10**7000", "await number(8000) == 10**8000", "finish(10**5000)"]  # fmt: skip
    shown, echoed, converted, dumped, received, finished = await run(sandbox, host, *cells)
    assert shown.output.startswith("999002093014384507944032764330033590980429139054181691771529273863145832464257")
    assert "characters cut" in shown.output
    assert echoed.output.startswith("1000")
    assert (converted.output, dumped.output, received.output) == ("(30103, 7, '10', True)\n", "True\n", "True\n")
    assert finished.value == 10**5000


async def test_a_number_too_long_to_spell_gets_advice_that_can_be_followed(box: Sandbox, host: Host) -> None:  # noqa: F811
    for result in await run(
        box, host, "print(10**400_000)", "10**400_000", "int('1' * 400_000)", "raise ValueError(10**400_000)"
    ):
        assert result.status == "error", result
        assert "set_int_max_str_digits" not in str(result.error)
    (result,) = await run(box, host, "str(10**400_000)")
    assert "n.bit_length()" in str(result.error)


# -- answers that there is no memory for -----------------------------------------------------------------------------


@pytest.fixture
async def unfiltered(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProcessSandbox]:
    """A sandbox whose host sends whatever a tool gives, however large."""
    monkeypatch.setattr(Answerer, "_too_large", lambda self, number, name, size: None)
    monkeypatch.setattr("recursive_agent.repl.answers._UNREAD_BYTES", 1 << 40)
    async with ProcessSandbox(spares=1) as sandbox:
        yield sandbox


SMALL = ReplLimits(cell_timeout=PATIENCE, memory_mb=64)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # it takes long, and is the worker's matter
@pytest.mark.parametrize(("size", "taken"), [(30, 0), (30, 25), (70, 50), (200, 0)])
async def test_an_answer_that_does_not_fit_is_an_error_that_names_its_size(
    size: int, taken: int, unfiltered: ProcessSandbox, host: Host
) -> None:
    cells = [
        f"import asyncio\nx = bytes({taken} * 2**20)\ny = list(range(1000))",
        f"try: r = len(await text({size}))\nexcept ToolError as e: r = str(e)\nr",
        "len(x), len(y), await echo(1)",
        f"t = asyncio.create_task(text({size}))",
        "await asyncio.wait([t])\nt.exception()",
        "len(x), len(y), await echo(2)",
        f"r = await asyncio.gather(text({size}), echo(3), text(1), return_exceptions=True)\ntype(r[0]).__name__, r[1], len(r[2])",
        f"try: await launch_subagent({size!r} and 'g')\nexcept SubagentError as e: print(e)\nelse: print('fits')",
    ]
    host.child = "x" * (size * MIB)
    results = await run(unfiltered, host, *cells, limits=SMALL)
    assert [result.status for result in results] == ["ok"] * len(cells), results
    fits = size == 30 and taken == 0
    if fits:
        assert results[1].output == f"{30 * MIB}\n"
    else:
        for result in (results[1], results[4], results[7]):
            assert f"the answer of {size}.0 MiB does not fit" in result.output
            assert "64 MiB" in result.output
        assert results[6].output == "('ToolError', [3], 1048576)\n"
    assert results[2].output == f"({taken * MIB}, 1000, [1])\n"
    assert results[5].output == f"({taken * MIB}, 1000, [2])\n"


async def test_an_answer_that_grows_when_it_is_decoded(unfiltered: ProcessSandbox, host: Host) -> None:
    """Three million lists are nine bytes each on the wire, and a hundred in memory."""
    cells = ["x = 'kept'\ntry: await many(3_000_000)\nexcept ToolError as e: print(e)", "x, await echo(1)"]
    first, second = await run(unfiltered, host, *cells, limits=SMALL)
    assert "does not fit into this interpreter's memory" in first.output, first
    assert second.output == "('kept', [1])\n"


async def test_an_answer_that_cannot_be_read_is_an_error_in_its_call(
    unfiltered: ProcessSandbox, monkeypatch: pytest.MonkeyPatch, host: Host
) -> None:
    monkeypatch.setattr(
        "recursive_agent.repl.protocol.BIG_INT_BYTES", 1 << 30
    )  # of this process: the worker knows better
    cells = ["try: await number(900_000)\nexcept ToolError as e: print(e)", "await echo(1)"]
    first, second = await run(unfiltered, host, *cells)
    assert "cannot be read" in first.output, first
    assert second.output == "[1]\n"
