"""Which variables other code can bind between two steps of a cell, and which attributes are therefore read in one step."""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator

import pytest

from recursive_agent.repl.worker import names, scopes
from recursive_agent.repl.worker.language import compile_cell


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("def f(a, /, b, *c, d, **e): g = 1", "a b c d e g"),
        ("def f(a):\n    for b, [c, *d] in a: pass", "a b c d"),
        ("def f(a):\n    global b\n    b = a", "a"),
        ("def f(a):\n    def g():\n        nonlocal a\n        a = 1", ""),
        ("def f(a):\n    class C:\n        nonlocal a\n        a = 1", ""),
        ("def f(a):\n    return ((b := c) for c in a), b", "a"),
        ("def f(a):\n    def g(): b = 1\n    class C: c = 1\n    [d for d in a]", "a"),
        ("async def f(a):\n    async with a as b: pass", "a b"),
        ("lambda a: a", "a"),
    ],
)
def test_variables_that_nobody_else_binds(source: str, own: str) -> None:
    statement = ast.parse(source).body[0]
    function = statement.value if isinstance(statement, ast.Expr) else statement
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    assert scopes.own_variables(function) == set(own.split())


def _all_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_names(constant)


@pytest.mark.parametrize(
    "source",
    [
        "v.found",
        "def f(): return v.found",
        "def f(v=v.found): pass",
        "@v.found\ndef f(v): pass",
        "def f(v: v.found) -> v.found: pass",
        "lambda v=v.found: 1",
        "class A:\n    v = 1\n    v.found",
        "def f(v):\n    class A:\n        v.found",
        "[1 for v in v.found]",
        "[w for w in w if v.found]",
        "def f(v):\n    return [v.found for w in v]",
        "def f(v):\n    def g():\n        nonlocal v\n    v.found",
        "def f(v):\n    def g(): return v.found",
        "def f():\n    global v\n    v = 1\n    v.found",
        "v.found += 1",
        "match v:\n    case v.found: pass",
    ],
)
def test_variables_that_others_bind_are_read_once(source: str) -> None:
    code = compile_cell(source, "<cell 1>")
    assert names.GET in _all_names(code)
    assert names.TYPE not in _all_names(code)


@pytest.mark.parametrize(
    "source",
    ["def f(v): return v.found", "lambda v: v.found", "[v.found for v in []]", "def f():\n    v = 1\n    v.found"],
)
def test_own_variables_are_read_at_full_speed(source: str) -> None:
    assert names.TYPE in _all_names(compile_cell(source, "<cell 1>"))
