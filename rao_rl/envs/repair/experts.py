"""The reference solver: the code that a good agent of each kind writes. It knows nothing but what the tools show.

It mends by search: it tries every edit of one token (edits.py) and keeps the first that passes the visible test.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator

from ..base import Expert, Mode
from .edits import CHOOSE, SEARCH
from .goals import Goal, parse_goal

_AT_ONCE = 2
"""Failing tests whose causes are looked for at the same time: mending those of one often mends others."""
_FAILING = """files = await list_files()
functions = [name for names in files.values() for name in names]
async def failing():
    bad = {}
    for i in range(0, len(functions), 8):
        bad |= await run_tests(['test_' + name for name in functions[i:i + 8]])
    return list(bad)
await failing()"""
_BROKEN = """import re
async def broken(todo):
    seen, bad = [], []
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.append(name)
            todo += [word for word in re.findall(r'\\w+', await read_function(name)) if word in functions]
    for i in range(0, len(seen), 8):
        bad += await test_alone(seen[i:i + 8])
    return sorted(bad)
"""
_MEND = """async def mend(name):
    made = edits(await read_function(name))
    rows = await try_function(name, made)
    return await write_patch(name, [new for new, row in zip(made, rows) if all(row)][0])
"""
_TRY = """made = edits(await read_function('{name}'))
rows = await try_function('{name}', made)
finish(choose(await read_test('test_{name}'), rows))"""


def expert_for(mode: Mode) -> Expert:
    """The reference solver for agents that delegate, or for one that does everything itself."""

    def expert(goal: str, context: object) -> Iterator[str]:
        parsed = parse_goal(goal)
        if parsed is None:
            raise ValueError(f"this goal breaks the grammar: {goal!r:.200}")
        return _cells(parsed, mode)

    return expert


def _cells(goal: Goal, mode: Mode) -> Iterator[str]:
    match goal.kind:
        case "repair":
            return _root(goal) if mode == "recursive" else _alone(goal)
        case "find":
            return _find(goal)
        case "explain":
            return _explain(goal)
        case "mend":
            return _mend(goal, delegate=mode == "recursive")
        case "test":
            return _test(goal)


def _root(goal: Goal) -> Generator[str, str, None]:
    shown = yield _FAILING
    mended: set[str] = set()
    while tests := _quoted(shown)[:_AT_ONCE]:
        goals = [str(Goal("find", test=test.removeprefix("test_"))) for test in tests]
        found = yield (
            f"found = await asyncio.gather(*[launch_subagent(goal) for goal in {goals}])\n"
            "sorted({name for names in found for name in names})"
        )
        # Sub-agents begin with the repository as it was found, so they find what is mended already too.
        names = [name for name in _quoted(found) if name not in mended]
        mended.update(names)
        shown = yield (
            f"await asyncio.gather(*[launch_subagent(f'Mend {{name}}') for name in {names}])\nawait failing()"
        )
    if goal.name is None:
        yield "finish('all tests pass')"
    else:
        yield f"finish(await launch_subagent('{Goal('test', goal.name)}'))"


def _alone(goal: Goal) -> Generator[str, str, None]:
    shown = yield _FAILING
    search = _BROKEN
    edit = SEARCH + _MEND
    while tests := _quoted(shown)[:_AT_ONCE]:
        names = [test.removeprefix("test_") for test in tests]
        found = yield f"{search}await broken({names})"
        shown = yield f"{edit}for name in {_quoted(found)}:\n    await mend(name)\nawait failing()"
        search = edit = ""
    yield "finish('all tests pass')" if goal.name is None else CHOOSE + _TRY.format(name=goal.name)


def _find(goal: Goal) -> Generator[str, str, None]:
    yield (
        "files = await list_files()\n"
        "functions = [name for names in files.values() for name in names]\n"
        f"{_BROKEN}finish(await broken(['{goal.test}']))"
    )


def _explain(goal: Goal) -> Generator[str, str, None]:
    yield f"failed = await test_alone(['{goal.name}'])\nfirst = failed['{goal.name}'][0]\nfirst"
    yield "finish({'input': first[0], 'output': first[1]})"


def _mend(goal: Goal, *, delegate: bool) -> Generator[str, str, None]:
    why = (
        f"await launch_subagent('{Goal('explain', goal.name, goal.name)}')"
        if delegate
        else f"await test_alone(['{goal.name}'])"
    )
    yield f"print(await read_function('{goal.name}'))\n{why}"
    yield f"{SEARCH}{_MEND}finish(await mend('{goal.name}'))"


def _test(goal: Goal) -> Generator[str, str, None]:
    yield f"print(await read_function('{goal.name}'))\nawait read_test('test_{goal.name}')"
    yield SEARCH + CHOOSE + _TRY.format(name=goal.name)


def _quoted(shown: str) -> list[str]:
    """The names of functions or tests that a cell showed in quotes."""
    return re.findall(r"'((?:test_)?[a-z]+_[a-z]+)'", shown)
