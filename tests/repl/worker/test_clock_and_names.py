# ruff: noqa: E501 (the code of a cell stands on one line)
"""The clock of a cell counts its CPU whatever is pending; errors name what the agent knows."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from recursive_agent.repl import HostFunction, HostRequest, ProcessSandbox, ReplLimits, Sandbox
from recursive_agent.repl.watchdog import cpu_seconds
from recursive_agent.repl.worker_repl import WorkerRepl
from tests.waiting import PATIENCE, until

from .test_cells import box  # noqa: F401 (both sandboxes)

pytestmark = pytest.mark.anyio
TOOLS = [HostFunction("forever"), HostFunction("search"), HostFunction("tick")]


async def answer(request: HostRequest) -> Any:
    if request.name == "forever":
        await anyio.sleep_forever()
    return list(request.args)


PENDING = "import asyncio, time\nasync def f():\n    for _ in range(200): pass\nt = asyncio.create_task(forever())\nawait asyncio.sleep(0)\n"
ENDLESS = {
    "busy": "while True: pass",
    "busy_swallowing": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "tiny_waits": "while True: await asyncio.sleep(0)",
    "waits_and_cpu": "while True:\n    await asyncio.sleep(0.0001)\n    for _ in range(100_000): pass",
    "sleeping": "while True: time.sleep(0.01)",
    "busy_in_a_task": "async def g():\n    while True: pass\nu = asyncio.create_task(g())\nawait t",
    "ticking_task": "async def g():\n    while True:\n        for _ in range(100_000): pass\n        await asyncio.sleep(0)\nu = asyncio.create_task(g())\nawait t",
    "ping_pong": "q = asyncio.Queue()\nasync def g():\n    while True: q.put_nowait(await q.get())\nq.put_nowait(1)\nawait asyncio.gather(g(), g(), g())",
    "finalizers": "def gen():\n    try: yield\n    finally:\n        for _ in range(10_000): pass\ndef cycle():\n    g = gen()\n    next(g)\n    x = [g]\n    x.append(x)\nwhile True:\n    cycle()\n    await asyncio.sleep(0)",
    "callbacks": "def again(_): asyncio.create_task(f()).add_done_callback(again)\nagain(0)\nawait t",
    "calls": "while True: await tick(1)\n",
}  # fmt: skip


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_pending_call_gives_no_cpu_for_nothing(
    name: str, sandbox: ProcessSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", PATIENCE)  # it is interrupted, not killed
    repl = await sandbox.open(call=answer, functions=TOOLS, limits=ReplLimits(cell_timeout=0.5))
    assert isinstance(repl, WorkerRepl)
    result = await repl.run("kept = 1")
    with anyio.fail_after(PATIENCE):
        result = await repl.run(PENDING + ENDLESS[name])
    assert result.status == "timeout", result
    assert (await repl.run("kept")).output == "1\n"
    await repl.aclose()


async def test_waiting_for_the_host_alone_costs_no_time(sandbox: ProcessSandbox) -> None:
    gate = anyio.Event()

    async def gated(request: HostRequest) -> Any:
        await gate.wait()
        return 1

    repl = await sandbox.open(call=gated, functions=TOOLS, limits=ReplLimits(cell_timeout=0.3))
    async with anyio.create_task_group() as group:

        async def open_later() -> None:
            await anyio.sleep(0.6)  # twice the cell's time
            gate.set()

        group.start_soon(open_later)
        result = await repl.run("await search('x')")
    assert (result.status, result.output) == ("ok", "1\n"), result
    assert result.cpu < 0.2
    await repl.aclose()


async def test_the_kernel_ends_a_worker_at_the_cpu_of_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code included: it may ignore signals and lift its soft limits, never the hard one."""
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", PATIENCE)
    monkeypatch.setattr("recursive_agent.repl.worker_repl.IDLE_SECONDS", PATIENCE)
    code = """
import resource, signal
for number in (signal.SIGXCPU, signal.SIGALRM): signal.signal(number, signal.SIG_IGN)
refused = []
for which in (resource.RLIMIT_CPU, resource.RLIMIT_AS):
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (hard, hard))
    for wanted in (hard + 1, resource.RLIM_INFINITY):
        try: resource.setrlimit(which, (wanted, wanted))
        except (ValueError, OSError): refused.append(which)
"""
    async with ProcessSandbox(policy=False, spares=0) as raw:
        repl = await raw.open(call=answer, limits=ReplLimits(cell_timeout=PATIENCE, cpu_seconds=1.0))
        assert isinstance(repl, WorkerRepl)
        assert (await repl.run(code + "len(refused)")).output == "4\n"
        result = await repl.run("signal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass")
        assert result.status == "killed", result
        await repl.aclose()


async def test_a_worker_that_waits_uses_no_cpu(sandbox: ProcessSandbox) -> None:
    repl = await sandbox.open(call=answer, functions=TOOLS, limits=ReplLimits(cell_timeout=0.05))
    assert isinstance(repl, WorkerRepl)
    async with anyio.create_task_group() as group:
        group.start_soon(repl.run, "await forever()")
        await until(lambda: repl._answers.waiting)
        assert repl.pid is not None
        before = cpu_seconds(repl.pid)
        await anyio.sleep(0.5)  # ten limits long
        after = cpu_seconds(repl.pid)
        assert before is not None
        assert after is not None
        assert after - before < 0.1
        group.cancel_scope.cancel()
    await repl.aclose()


WRONG = {
    "finish(1, 2)": "TypeError: finish(): too many positional arguments; call it as finish(value)",
    "finish(result=2)": "TypeError: finish(): got an unexpected keyword argument 'result'; call it as finish(value)",
    "await launch_subagent()": "TypeError: launch_subagent(): missing a required argument: 'goal'; call it as launch_subagent(goal, context=None, returns=None, max_steps=None, max_tokens=None)",
    "await launch_subagent('g', tools=[1])": "TypeError: launch_subagent(): got an unexpected keyword argument 'tools'; call it as launch_subagent(goal, context=None, returns=None, max_steps=None, max_tokens=None)",
    "await launch_subagent('g', 1, 2, 3, 4, 5, 6)": "TypeError: launch_subagent(): too many positional arguments; call it as launch_subagent(goal, context=None, returns=None, max_steps=None, max_tokens=None)",
    "await launch_subagent(3)": "TypeError: launch_subagent: goal must be text, not int",
    "print(1, separator=2)": "TypeError: print(): got an unexpected keyword argument 'separator'; call it as print(*values, sep=' ', end='\\n', file=None, flush=False)",
    "print(1, sep=2)": "TypeError: sep must be None or a string, not int",
    "finish.x": "AttributeError",
    "getattr()": "TypeError: getattr()",
    "hasattr(1)": "TypeError: hasattr()",
    "setattr(1)": "TypeError: setattr()",
    "vars(1, 2)": "TypeError: vars()",
    "globals(1)": "TypeError: globals()",
    "search.limit = 3": "AttributeError",
    "search('x')['a']": "TypeError: search(…) is a call, not its result: write `(await search(…))[…]`",
    "search('x').items": "AttributeError: search(…) is a call, not its result, and has no 'items': write `await search(…)`",
    "launch_subagent('g').split()": "AttributeError: launch_subagent(…) is a call, not its result",
    "locals(1)": "TypeError: locals()",
}  # fmt: skip


async def test_errors_name_what_the_agent_knows(box: Sandbox) -> None:  # noqa: F811
    repl = await box.open(call=answer, functions=TOOLS, limits=ReplLimits(cell_timeout=PATIENCE))
    wrong = {}
    for code, expected in WRONG.items():
        result = await repl.run(code)
        last = str(result.error).splitlines()[-1]
        inner = [
            name
            for name in ("Interpreter", "<locals>", "guarded", "_AgentFunction", "visible", "PendingCall", ".py")
            if name in str(result.error)
        ]
        if inner or not last.startswith(expected):
            wrong[code] = last
    assert wrong == {}
    shown = await repl.run("finish, launch_subagent, search, print")
    assert shown.output == (
        "(<function finish: finish(value)>, <host function launch_subagent: launch_subagent(goal, context=None, returns=None, "
        "max_steps=None, max_tokens=None)>, <host function search: await search(…)>, <function print: print(*values, sep=' ', "
        "end='\\n', file=None, flush=False)>)\n"
    )
    await repl.aclose()


IMPORTS = {
    "import launch_subagent\nlaunch_subagent": "launch_subagent is there already, without an import: write await "
    "launch_subagent(goal)",
    "from rao import launch_subagent": "launch_subagent is there already",
    "from recursive_agent.tools import search, finish": "search is there already, without an import: write await search(…)",
    "import finish": "finish is there already, without an import: write finish(value)",
    "import subagents": "subagents is there already",
    "import context": "context is there already",
    "from math import launch_subagent, sqrt\nsqrt(4)": "launch_subagent is there already",
    "import asyncio, search as look": "search is there already",
}
REFUSED_IMPORTS = {
    "import search.web as w": "cannot import name 'web'",
    "from rao import launch_subagent, spell": "launch_subagent is there already",
    "from .tools import search": "search is there already",
    "import numpy": "the module 'numpy' is not available",
}


@pytest.mark.parametrize("code", IMPORTS)
async def test_importing_what_is_there_works_with_a_hint(code: str, box: Sandbox) -> None:  # noqa: F811
    repl = await box.open(call=answer, functions=TOOLS, limits=ReplLimits(cell_timeout=PATIENCE))
    first, second = await repl.run(code), await repl.run(code)
    assert first.error is None
    assert IMPORTS[code] in first.output
    assert second.error is None
    assert IMPORTS[code] not in second.output  # said once
    assert (await repl.run("await search(1)")).output == "[1]\n"
    await repl.aclose()


@pytest.mark.parametrize("code", REFUSED_IMPORTS)
async def test_other_imports_say_what_is_wrong(code: str, box: Sandbox) -> None:  # noqa: F811
    repl = await box.open(call=answer, functions=TOOLS, limits=ReplLimits(cell_timeout=PATIENCE))
    assert REFUSED_IMPORTS[code] in str((await repl.run(code)).error)
    await repl.aclose()


RUN = {
    "launch": ("asyncio.run(launch_subagent('g'))", "[]\n"),
    "assigned": ("r = asyncio.run(launch_subagent('g'))\nr", "[]\n"),
    "tool": ("print(asyncio.run(search(1)))", "[1]\n"),
    "main": (
        "async def main(): return await search(2)\nif __name__ == '__main__':\n    x = asyncio.run(main())\nx",
        "[2]\n",
    ),
    "imported": ("from asyncio import run\nrun(search(3))", "[3]\n"),
    "gathered": (
        "async def main(): return await asyncio.gather(search(4), search(5))\nasyncio.run(main())",
        "[[4], [5]]\n",
    ),
    "loop": ("asyncio.get_event_loop().run_until_complete(search(6))", "[6]\n"),
    "comprehension": ("[asyncio.run(search(i)) for i in (7, 8)]", "[[7], [8]]\n"),
    "within async": ("async def f(): return asyncio.run(search(9))\nawait f()", "[9]\n"),
}


@pytest.mark.parametrize("name", RUN)
async def test_asyncio_run_works_with_a_hint(name: str, box: Sandbox) -> None:  # noqa: F811
    repl = await box.open(call=answer, functions=TOOLS, limits=ReplLimits(cell_timeout=PATIENCE))
    code, output = RUN[name]
    result = await repl.run("import asyncio\n" + code)
    assert result.error is None, result
    assert result.output.startswith(output)
    assert "was taken as `await " in result.output.removeprefix(output)
    await repl.aclose()


NO_AWAIT = {
    "plain function": ("def f(): return asyncio.run(search(1))\nf()", "an event loop is already running here"),
    "loop": ("loop = asyncio.get_event_loop()", "write `await main()` at the top level of the cell"),
    "returned": ("x = 3\nreturn x", "give the result with `finish(x)`"),
    "magic": ("%matplotlib inline\nx = 1", "no IPython here"),
    "shell": ("!pip install numpy", "no IPython here"),
    "fence": ("x = 1\n```\ny = 2", "A fence of Markdown stands in the code"),
    "text of a call": ("finish(f'It is {launch_subagent(1 and \"g\")}')", "was never awaited; write `await`"),
}


@pytest.mark.parametrize("name", NO_AWAIT)
async def test_what_cannot_be_run_says_what_to_write(name: str, box: Sandbox) -> None:  # noqa: F811
    repl = await box.open(call=answer, functions=TOOLS, limits=ReplLimits(cell_timeout=PATIENCE))
    code, said = NO_AWAIT[name]
    assert said in str((await repl.run(code)).error)
    await repl.aclose()
