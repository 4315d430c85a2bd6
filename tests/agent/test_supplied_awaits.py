"""`await` is supplied where the code can only mean the result of a call, and nowhere else."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.actions.awaits import supply_awaits
from recursive_agent.actions.code_checks import Syntax
from recursive_agent.testing import Request, ScriptedEndpoint, replies
from tests.agent.helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio

HOSTS = {"price", "launch_subagent"}


def awaited(code: str) -> tuple[str, list[str]]:
    """As `Supplies` asks: code that is no Python is left alone."""
    syntax = Syntax.of(code)
    return (code, []) if syntax is None else supply_awaits(syntax, HOSTS)


@pytest.mark.parametrize(
    ("code", "mended"),
    [
        ("price('a')", "await price('a')"),
        ("x = price('a')", "x = await price('a')"),
        ("x = price('a')\nfinish(x)", "x = await price('a')\nfinish(x)"),
        ("finish(3 * price('a') + 1)", "finish(3 * (await price('a')) + 1)"),
        ("finish(price('a')['b'])", "finish((await price('a'))['b'])"),
        ("finish(price('a').upper())", "finish((await price('a')).upper())"),
        ("finish(price(price('a')))", "finish((await price((await price('a')))))"),
        ("for c in context:\n    total += price(c)", "for c in context:\n    total += (await price(c))"),
        ("for c in price('all'):\n    print(c)", "for c in (await price('all')):\n    print(c)"),
        ("while price('x') < 3:\n    pass", "while (await price('x')) < 3:\n    pass"),
        ("if x:\n    y = price('a')\nelse:\n    y = 0", "if x:\n    y = await price('a')\nelse:\n    y = 0"),
        (
            "try:\n    y = price('a')\nexcept E:\n    y = price('b')",
            "try:\n    y = await price('a')\nexcept E:\n    y = await price('b')",
        ),
        ("t = {c: price(c) for c in context}\nfinish(t)", "t = {c: (await price(c)) for c in context}\nfinish(t)"),
        (
            "t = []\nfor c in x:\n    t.append(price(c))\nfinish(t)",
            "t = []\nfor c in x:\n    t.append((await price(c)))\nfinish(t)",
        ),
        ("finish(sum(price(c) for c in x))", "finish(sum([(await price(c)) for c in x]))"),
        ("finish(max((price(c) for c in x), default=0))", "finish(max(([(await price(c)) for c in x]), default=0))"),
        ("finish(sum(c for c in price('all')))", "finish(sum([c for c in (await price('all'))]))"),
        ("await launch_subagent('x', context=price('a'))", "await launch_subagent('x', context=(await price('a')))"),
        (
            "r = asyncio.gather(*[launch_subagent(c) for c in context])\nfinish(r)",
            "r = await asyncio.gather(*[launch_subagent(c) for c in context])\nfinish(r)",
        ),
        (
            "r = launch_subagent('a',\n    context=context)\nprint(r)",
            "r = await launch_subagent('a',\n    context=context)\nprint(r)",
        ),
        ("name = 'é'; x = price(name)\nprint(x)", "name = 'é'; x = await price(name)\nprint(x)"),
    ],
)  # fmt: skip
def test_an_await_is_supplied_where_the_value_is_needed(code: str, mended: str) -> None:
    supplied, names = awaited(code)
    assert supplied == mended
    assert names


@pytest.mark.parametrize(
    "code",
    [
        "x = await price('a')",
        "a = launch_subagent('a')\nb = launch_subagent('b')\nr = await asyncio.gather(a, b)",
        "t = []\nfor c in context:\n    t.append(launch_subagent(c))\nr = await asyncio.gather(*t)",
        "t = []\nfor c in context:\n    t.append(launch_subagent(c))\nr = [await one for one in t]",
        "tasks = [launch_subagent(c) for c in context]\nr = await asyncio.gather(*tasks)",
        "tasks = {c: launch_subagent(c) for c in context}\nr = await asyncio.gather(*tasks.values())",
        "tasks = {}\nfor c in context:\n    tasks[c] = launch_subagent(c)\nfor c in context:\n    tasks[c] = await tasks[c]",
        "t = asyncio.create_task(launch_subagent('a'))",
        "a = launch_subagent('a')\nr = await a",
        "r = await helper(price('a'))",
        "r = helper(price('a'))",
        "async with asyncio.TaskGroup() as g:\n    a = g.create_task(price('a'))\nfinish(a.result())",
        "def price(x):\n    return 1\nfinish(price(2))",
        "price = 3\nfinish(price)",
        "async def main():\n    return await price('a')\nfinish(await main())",
        "f = lambda: price('a')",
        "print('price')",
        "not python at all (price",
    ],
)
def test_a_call_that_may_be_meant_for_later_is_left_alone(code: str) -> None:
    assert awaited(code) == (code, [])


EXPRESSIONS = st.recursive(
    st.sampled_from(["1", "x", "'é'", "price(x)", "launch_subagent('a', context=x)", "await price(1)"]),
    lambda inner: st.one_of(
        inner.map("[{}]".format),
        inner.map("f'{{({})}}'".format),
        inner.map("price({})".format),
        inner.map("sum({} for c in y)".format),
        inner.map("[{} for c in y]".format),
        inner.map("t.append({})".format),
        inner.map("({})[0]".format),
        inner.map("asyncio.gather({})".format),
        st.tuples(inner, inner).map("({0[0]}) + ({0[1]})".format),
    ),
    max_leaves=6,
)
STATEMENTS = st.one_of(
    EXPRESSIONS, EXPRESSIONS.map("x = {}".format), EXPRESSIONS.map("for i in ({}):\n    print(i)".format)
)


@given(st.lists(STATEMENTS, max_size=4).map("\n".join))
def test_only_awaits_are_added_and_a_second_time_adds_none(code: str) -> None:
    supplied, names = awaited(code)
    assert (supplied == code) is (not names)
    assert supplied.count("\n") == code.count("\n")
    assert awaited(supplied)[0] == supplied
    if names:
        ast.parse(supplied)


async def price(fruit: str) -> int:
    return len(fruit)


async def test_a_supplied_await_runs_and_is_reported() -> None:
    with ScriptedEndpoint(replies([py("x = price('pear')\nprint(x)"), py("finish(x)")])) as endpoint:
        result = await agent_on(endpoint, tools=(price,)).solve("g")
    assert result.output == 4
    assert "`await` was added before price" in observations(result)[0]
    cell = result.tree.root.steps[0].cell
    assert cell is not None
    assert cell.code == "x = await price('pear')\nprint(x)"


async def test_a_generator_of_calls_runs() -> None:
    with ScriptedEndpoint(replies([py("finish(sum(price(f) for f in ['fig', 'pear']))")])) as endpoint:
        result = await agent_on(endpoint, tools=(price,)).solve("g")
    assert result.output == 7


async def test_a_function_of_the_agents_own_is_never_awaited() -> None:
    answers = [py("def price(fruit):\n    return 7\nx = price('pear')"), py("finish(price('fig') + x)")]
    with ScriptedEndpoint(replies(answers)) as endpoint:
        result = await agent_on(endpoint, tools=(price,)).solve("g")
    assert result.output == 14


async def test_a_missing_await_before_a_launch_is_supplied() -> None:
    def script(request: Request) -> str:
        return py("finish(3)") if "Goal: child" in request.first else py("n = launch_subagent('child')\nfinish(n + 1)")

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert (result.output, result.tree.launches) == (4, 1)


async def test_the_code_of_a_specialist_is_run_as_it_stands() -> None:
    with ScriptedEndpoint(replies([py("price('pear')"), py("finish(1)")])) as endpoint:
        result = await agent_on(endpoint, tools=(price,), prompt_style="minimal").solve("g")
    assert "Never awaited" in observations(result)[0]
