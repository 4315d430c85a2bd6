"""Hooks of the agent's own classes that our code or C code meets: they change nothing but the agent's own cell."""

from __future__ import annotations

import anyio
import pytest

from recursive_agent.repl import HostCallError, HostFunction, HostRequest, ProcessSandbox, Repl, ReplLimits
from tests.waiting import PATIENCE

from ..conftest import answer
from .escapes_library import SURVIVED

pytestmark = pytest.mark.anyio


async def _open(sandbox: ProcessSandbox, seconds: float = PATIENCE) -> Repl:
    return await sandbox.open(call=answer, functions=[HostFunction("tool")], limits=ReplLimits(cell_timeout=seconds))


@pytest.mark.parametrize("code", SURVIVED.values(), ids=SURVIVED)
async def test_exception_groups_are_split_by_python_alone(code: str, sandbox: ProcessSandbox) -> None:
    repl = await _open(sandbox)
    result = await repl.run(code)
    assert result.status == "ok", result


@pytest.mark.parametrize(
    "code",
    [
        "raise E('shown')",
        "raise E('shown') from asyncio.CancelledError()",
        "async def b(): raise E('shown')\nt = asyncio.create_task(b())\nawait asyncio.sleep(0)",
    ],
)
async def test_an_exception_is_shown_whatever_its_class_does_when_set(code: str, sandbox: ProcessSandbox) -> None:
    repl = await _open(sandbox)
    made = (
        "class E(Exception):\n    def __setattr__(self, name, value):\n        print('SET')\n        raise ValueError\n"
    )
    result = await repl.run(made + code)
    assert "shown" in result.output + (result.error or "")
    assert "SET" not in result.output
    assert (await repl.run("E")).status == "ok"


@pytest.mark.parametrize(
    "own",
    [
        "class D(dict):\n    def __len__(self): return 3\nx = D(a=1)",
        "class D(dict):\n    def items(self): return [('a', 1), ('b', 2), ('c', 3)]\nx = D(a=1)",
        "class D(list):\n    def __iter__(self): return iter([1, 2, 3])\nx = D([1])",
    ],
)
@pytest.mark.parametrize("use", ["await tool(x)", "finish(x)", "await launch_subagent('a', returns={'const': x})"])
async def test_a_container_that_lies_about_its_size_is_an_error_in_the_cell(
    own: str, use: str, sandbox: ProcessSandbox
) -> None:
    repl = await _open(sandbox)
    result = await repl.run(f"{own}\n{use}")
    assert result.status == "error"
    assert "ValueError: " in (result.error or "") or "TypeError: returns: " in (result.error or "")
    assert (await repl.run("print(len(await tool(1)))")).output == "2\n"


async def test_a_refused_launch_asks_nothing_of_what_stands_beside_it(sandbox: ProcessSandbox) -> None:
    async def refuse(request: HostRequest) -> object:
        raise HostCallError("LaunchRefused", "no agent is left")

    repl = await sandbox.open(call=refuse, functions=[], limits=ReplLimits(cell_timeout=PATIENCE))
    own = "class E:\n    def __eq__(self, other): raise KeyError\nsubagents.insert(0, E())\n"
    result = await repl.run(own + "try: await launch_subagent('x')\nexcept LaunchRefused: print(len(subagents))")
    assert (result.status, result.output) == ("ok", "1\n")


async def test_a_limit_that_was_reached_once_cannot_be_shown_again(sandbox: ProcessSandbox) -> None:
    repl = await _open(sandbox, 1.0)
    keep = "kept = []\nclass C:\n    def __enter__(self): pass\n    def __exit__(self, kind, *_): kept.append(kind)\n"
    assert (await repl.run(keep + "with C():\n    while True: pass")).status == "timeout"
    result = await repl.run("raise kept[0]")
    assert result.status == "error", result


async def test_the_loop_compares_plain_numbers(sandbox: ProcessSandbox) -> None:
    repl = await _open(sandbox)
    result = await repl.run(
        "class When:\n"
        "    def __le__(self, other): return False\n"
        "    def __radd__(self, other): return self\n"
        "    def __sub__(self, other): print('COMPARED')\n"
        "await asyncio.sleep(When())"
    )
    assert "TypeError" in (result.error or "")
    assert "COMPARED" not in result.output


async def test_a_call_that_is_closed_is_cancelled(sandbox: ProcessSandbox) -> None:
    cancelled = anyio.Event()

    async def hang(request: HostRequest) -> object:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        return None

    repl = await sandbox.open(call=hang, functions=[HostFunction("tool")], limits=ReplLimits(cell_timeout=PATIENCE))
    result = await repl.run("c = tool(1)\nc.send(None)\nawait asyncio.sleep(0.1)\nc.close()")
    assert (result.status, list(result.running)) == ("ok", [])
    with anyio.fail_after(PATIENCE):
        await cancelled.wait()


@pytest.mark.parametrize(
    "code",
    [
        "class C:\n    def __enter__(self): pass\n    def __exit__(self, *_): return True\n"
        "with C():\n    while True: pass\nprint('LATE')",
        "class C:\n    async def __aenter__(self): pass\n    async def __aexit__(self, *_):\n"
        "        print('LATE', await tool(1))\n        return True\nasync with C():\n    while True: pass",
        "def f():\n    try:\n        while True: pass\n    finally: return\nf()",
        "def f():\n    try:\n        while True: pass\n    finally: return\nf()\nprint('LATE', await tool(1))",
    ],
    ids=["with", "async with", "return", "call"],
)
async def test_a_limit_that_was_swallowed_counts(code: str, sandbox: ProcessSandbox) -> None:
    repl = await _open(sandbox, 1.0)
    await repl.run("kept = 5")
    result = await repl.run(code)
    assert result.status == "timeout", result
    assert "LATE" not in result.output
    assert (await repl.run("kept")).output == "5\n"


async def test_self_is_a_name_of_an_argument_like_any_other(sandbox: ProcessSandbox) -> None:
    repl = await _open(sandbox)
    result = await repl.run("print('{self}'.format(self=1), await tool(self=2))")
    assert result.output == "1 [[], {'self': 2}]\n"


_BYE = "def bye(*_): raise KeyboardInterrupt('said')\n"
_RAISED = "async def raise_later(n):\n    for _ in range(n): await asyncio.sleep(0)\n    raise {}('said')\n"


@pytest.mark.parametrize(
    "code",
    [
        _RAISED.format("SystemExit")
        + "t = [asyncio.create_task(raise_later(n)) for n in range(9)]\nawait asyncio.sleep(9)",
        _RAISED.format("KeyboardInterrupt") + "t = [asyncio.create_task(raise_later(n)) for n in range(9)]",
        "class E(ExceptionGroup): exceptions = property(bye)\nraise E('x', [ValueError()])",
        "class E(SyntaxError): filename = property(bye)\nraise E('x')",
        "class B(BaseException): pass\ndef leave(_): raise B\nclass E(SyntaxError): lineno = property(leave)\nraise E('x')",
        "class T:\n    def rstrip(self, *_): bye()\nclass E(SyntaxError): text = property(lambda _: T())\n"
        "raise E('x', ('f', 1, 1, 'text'))",
        "class S(str):\n    def split(self, *_): bye()\ne = ValueError()\ne.add_note('x')\ne.__notes__.append(S('y'))\nraise e",
        "class E(SyntaxError): lineno = property(bye)\nasync def fail(): raise E('x')\n"
        "t = asyncio.create_task(fail())\nawait asyncio.sleep(0)\nraise ValueError",
    ],
    ids=["tasks", "tasks at the end", "group", "syntax", "base", "text", "note", "task"],
)
async def test_nothing_that_a_cell_raises_ends_the_worker(code: str, sandbox: ProcessSandbox) -> None:
    repl = await _open(sandbox)
    await repl.run("kept = 5\n" + _BYE)
    result = await repl.run(code)
    assert result.status == "error", result
    for _ in range(9):  # tasks that are left raise theirs in the next cells
        result = await repl.run("kept")
        assert result.status in ("ok", "error"), result
    assert (await repl.run("kept")).output == "5\n"
