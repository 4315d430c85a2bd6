"""Imports and brackets that code lacks are supplied where it can only mean them, and the agent is told."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.actions import Supplies
from recursive_agent.actions.brackets import balanced
from recursive_agent.actions.code_checks import Syntax
from recursive_agent.actions.imports import missing_imports
from recursive_agent.testing import ScriptedEndpoint, replies
from tests.agent.helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("code", "imports"),
    [
        ("finish(len(re.findall('a', context)))", ["import re"]),
        ("finish(math.sqrt(4) + math.pi)", ["import math"]),
        ("finish(Counter(context).most_common(1))", ["from collections import Counter"]),
        ("finish(factorial(5))", ["from math import factorial"]),
        ("def f(x):\n    return json.loads(x)", ["import json"]),
        ("finish(datetime.now())", ["from datetime import datetime"]),
        (
            "finish(datetime(2024, 1, 2) - timedelta(days=1))",
            ["from datetime import datetime", "from datetime import timedelta"],
        ),
        ("finish(datetime.date(2024, 1, 2))", ["import datetime"]),
        ("import re\nre.findall('a', 'a')", []),
        ("for re in context:\n    print(re.name)", []),
        ("try:\n    x\nexcept E as math:\n    math.args", []),
        ("finish(words)", []),
        ("finish(string)", []),
        ("finish(string.upper())", []),
        ("finish(string.digits)", ["import string"]),
        ("finish(sum([1]))", []),
        ("re.findall('a'", []),
    ],
)
def test_well_known_names_are_imported(code: str, imports: list[str]) -> None:
    syntax = Syntax.of(code)
    assert ([] if syntax is None else list(missing_imports(syntax, ()).values())) == imports


def test_a_name_of_an_earlier_cell_is_the_agents_own() -> None:
    supplies = Supplies([])
    assert supplies.to("def factorial(n):\n    return 1").notes == ()
    assert supplies.to("finish(factorial(3))").notes == ()
    assert supplies.to("x = math.pi").code == "import math\nx = math.pi"
    assert supplies.to("y = math.pi").code == "y = math.pi"


@pytest.mark.parametrize(
    ("code", "mended"),
    [
        ("finish([n for n in range(3)", "finish([n for n in range(3)])"),
        ("finish(sum([1, 2])", "finish(sum([1, 2]))"),
        ("x = {\n    'a': 1,\n    'b': [2]", "x = {\n    'a': 1,\n    'b': [2]}"),
        ("finish({\n    'a': 1\n}", "finish({\n    'a': 1\n})"),
        ("for i in x:\n    print(f(i)", "for i in x:\n    print(f(i))"),
        ("finish(sum([1, 2])))", "finish(sum([1, 2]))"),
        ("print('(')\nfinish((1)", "print('(')\nfinish((1))"),
    ],
)
def test_brackets_are_closed_at_the_end(code: str, mended: str) -> None:
    done = balanced(code)
    assert done is not None
    assert done[0] == mended


@pytest.mark.parametrize(
    "code",
    [
        "finish(1)",
        "x = f(1\nfinish(x)",
        "x = [1,\nfinish(2)",
        "finish('abc",
        "finish([1)",
        "def f(:",
        "finish(1  # the answer",
        "x = (((((((1",
        "",
    ],
)
def test_what_is_unclear_is_left_as_it_is(code: str) -> None:
    assert balanced(code) is None


@given(st.text(alphabet="([{}])x, =1'#\n :", max_size=30))
def test_balanced_code_is_python_and_keeps_the_agents_own(code: str) -> None:
    done = balanced(code)
    if done is not None:
        ast.parse(done[0])
        assert done[0].rstrip(")]}") == code.rstrip().rstrip(")]}") or done[0].startswith(code.rstrip())


async def test_supplied_code_runs_and_is_reported() -> None:
    answers = [py("print(re.findall('a', 'banana')"), py("finish(len(re.findall('a', 'banana')))")]
    with ScriptedEndpoint(replies(answers)) as endpoint:
        result = await agent_on(endpoint).solve("g")
    assert result.output == 3
    (text,) = observations(result)
    assert "['a', 'a', 'a']" in text
    assert "`)` was added at the end: write it yourself." in text
    assert "`import re` was added: write it yourself." in text
    cell = result.tree.root.steps[0].cell
    assert cell is not None
    assert cell.code == "import re\nprint(re.findall('a', 'banana'))"


async def test_the_code_of_a_specialist_is_run_as_it_stands() -> None:
    with ScriptedEndpoint(replies([py("re.findall('a', 'a')"), py("finish(1)")])) as endpoint:
        result = await agent_on(endpoint, prompt_style="minimal").solve("g")
    assert "NameError" in observations(result)[0]
