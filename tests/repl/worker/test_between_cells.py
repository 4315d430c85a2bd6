# ruff: noqa: E501 (the code of a cell stands on one line)
"""Between cells nobody runs: no CPU, no output, no call, whatever a cell leaves behind and whatever arrives."""

from __future__ import annotations

import ast
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from recursive_agent.repl import HostFunction, HostRequest, ProcessSandbox, Repl, ReplLimits
from recursive_agent.repl.watchdog import cpu_seconds
from recursive_agent.repl.worker_repl import WorkerRepl
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.anyio
LIMITS = ReplLimits(cell_timeout=PATIENCE, memory_mb=128)


@dataclass
class Host:
    """Answers when its gate is opened; notes when it was called."""

    gate: anyio.Event = field(default_factory=anyio.Event)
    seen: list[tuple[str, float]] = field(default_factory=list)
    waiting: int = 0

    async def __call__(self, request: HostRequest) -> Any:
        self.seen.append((request.name, time.monotonic()))
        if request.name == "note":
            return None
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        return {"x": 1} if request.name == "launch_subagent" else [1, 2]


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def repl(sandbox: ProcessSandbox, host: Host) -> AsyncIterator[WorkerRepl]:
    made = await sandbox.open(call=host, functions=[HostFunction("gated"), HostFunction("note")], limits=LIMITS)
    assert isinstance(made, WorkerRepl)
    yield made
    await made.aclose()


def asleep(repl: WorkerRepl) -> bool:
    """Whether the worker waits for something: then it has taken in whatever was sent to it."""
    return Path(f"/proc/{repl.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


BEGINNING = """
import asyncio, time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
log = []
def hook(*_):
    log.append(time.monotonic())
    for _ in range(3_000_000): pass
    print("printed by the hook")
    log.append(time.monotonic())
    return False
def gen(*_):
    try: yield 1
    finally: hook()
def begun():
    g = gen()
    next(g)
    return g
class Evil:
    def __repr__(self): hook(); return "evil"
    def __str__(self): hook(); return "evil"
    def __eq__(self, other): hook(); return True
    def __lt__(self, other): hook(); return True
    def __hash__(self): return 1
    def __bool__(self): hook(); return True
    def __iter__(self): hook(); return iter([1])
    def __len__(self): hook(); return 1
    def popleft(self): hook()
class Loud(Exception):
    def __str__(self): hook(); return "loud"
"""

CASES: dict[str, tuple[str, str, bool]] = {
    # what a reply sets going
    "post_init": ("@dataclass\nclass D:\n    x: int\n    def __post_init__(self): hook()\nt = asyncio.create_task(launch_subagent('g', returns=D))", "await t", True),
    "post_init_of_one_that_nobody_awaits": ("@dataclass\nclass D:\n    x: int\n    def __post_init__(self): hook()\nh = launch_subagent('g', returns=D)\nu = asyncio.create_task(h)", "h.result", True),
    "init_of_an_enum": ("from enum import Enum\nclass D(Enum):\n    A = 1\n    def __init__(self, v): hook()\n    def __eq__(self, other): hook(); return True\n    def __hash__(self): return 1\nt = asyncio.create_task(launch_subagent('g', returns=dict[str, D]))", "await t", True),
    "building_a_set": ("@dataclass\nclass D:\n    x: int = 0\n    def __hash__(self): hook(); return 1\n    def __eq__(self, other): hook(); return True\nt = asyncio.create_task(launch_subagent('g', returns=D))", "{await t}", True),
    "task_goes_on": ("async def f():\n    await gated()\n    hook()\nt = asyncio.create_task(f())", "await t", True),
    "task_group_in_a_task": ("async def f():\n    async with asyncio.TaskGroup() as g:\n        g.create_task(gated())\n    hook()\nt = asyncio.create_task(f())", "await t", True),
    "done_callback": ("t = asyncio.create_task(gated())\nt.add_done_callback(hook)", "await asyncio.sleep(0.01)", True),
    "gather_callback": ("t = asyncio.gather(gated(), gated())\nt.add_done_callback(hook)", "await asyncio.sleep(0.01)", True),
    "call_after_a_reply": ("async def f():\n    await gated()\n    hook()\n    await note(1)\nt = asyncio.create_task(f())", "await t", True),
    "finish_after_a_reply": ("async def f():\n    await gated()\n    hook()\n    finish(7)\nt = asyncio.create_task(f())", "await t", True),
    # timers
    "sleeping_task": ("async def f():\n    await asyncio.sleep(0.001)\n    hook()\nt = asyncio.create_task(f())", "await t", True),
    "endless_ticks": ("async def f():\n    while True:\n        await asyncio.sleep(0)\n        hook()\nt = asyncio.create_task(f())", "t.cancel()", True),
    "timeout": ("async def f():\n    try:\n        async with asyncio.timeout(0.001): await asyncio.Event().wait()\n    finally: hook()\nt = asyncio.create_task(f())", "await asyncio.wait([t])", True),
    "wait_for": ("async def f():\n    try: await asyncio.wait_for(gated(), 0.001)\n    finally: hook()\nt = asyncio.create_task(f())", "await asyncio.wait([t])", True),
    "condition": ("c = asyncio.Condition()\nasync def f():\n    async with c:\n        await c.wait_for(hook)\nt = asyncio.create_task(f())\nawait asyncio.sleep(0)\nasync with c: c.notify_all()", "t.cancel()", True),
    # what a cell leaves behind
    "frame_of_a_failure": ("def f():\n    g = begun()\n    1 / 0\nf()", "1", True),
    "frames_of_a_cause": ("def f():\n    g = begun()\n    1 / 0\ntry: f()\nexcept ZeroDivisionError as e: raise KeyError() from e", "1", True),
    "cycle": ("def f():\n    g = begun()\n    x = [g]\n    x.append(x)\nf()", "x = [[] for _ in range(100_000)]", False),
    "failure_in_a_cycle": ("def f():\n    g = begun()\n    try: 1 / 0\n    except ZeroDivisionError as e: kept = e\n    raise kept\nf()", "x = [[] for _ in range(100_000)]", False),
    "argument_of_a_call_that_was_not_awaited": ("gated(begun(), x=begun())\nNone", "1", True),
    "goal_of_a_launch_that_was_not_awaited": ("launch_subagent('g', context=begun())\nNone", "1", True),
    "coroutine_left_waiting": ("async def f():\n    try: await asyncio.sleep(9)\n    finally: hook()\nc = f()\nc.send(None)\nc = None", "1", True),
    "task_thrown_away": ("async def f():\n    g = begun()\n    await asyncio.Event().wait()\nasyncio.create_task(f())\nNone", "1", False),
    "async_generator_left": ("async def g():\n    try:\n        yield 1\n        yield 2\n    finally: hook()\nasync for x in g(): break", "await asyncio.sleep(0)", True),
    "async_generator_with_await_in_finally": ("async def g():\n    try: yield 1\n    finally:\n        await asyncio.sleep(0)\n        hook()\nasync for x in g(): break", "await asyncio.sleep(0.01)", True),
    "generator_in_the_last_value": ("begun()", "_ = None\n1", True),
    "local_of_the_ended_cell": ("async def f():\n    g = begun()\n    await asyncio.sleep(0)\n    raise ValueError(1)\nawait f()", "1", True),
    # what our own bookkeeping calls
    "str_of_an_error": ("raise Loud", "1", True),
    "str_of_a_cause": ("raise ValueError() from Loud()", "1", True),
    "note_of_an_error": ("e = ValueError()\ne.add_note('n')\nclass L(list):\n    def __iter__(self): hook(); return iter(['n'])\ne.__notes__.append(Evil())\nraise e", "1", False),
    "repr_of_the_last_value": ("Evil()", "1", True),
    "text_of_a_class_of_its_own": ("class T(str):\n    def __len__(self): hook(); return 3\n    def __getitem__(self, i): hook(); return 'x'\nclass P:\n    def __str__(self): return T('abc')\nprint(P())", "1", False),
    "failure_in_the_background": ("async def f(): raise Loud\nt = asyncio.create_task(f())", "1", True),
    "failure_of_a_reply_in_the_background": ("async def f():\n    await gated()\n    raise Loud\nt = asyncio.create_task(f())", "await asyncio.sleep(0.01)", True),
    "comparing_a_set": ("await_me = 1\ntry: finish({Evil(), Evil()})\nexcept TypeError: pass", "1", True),
    "iterating_a_result": ("try: finish([Evil()])\nexcept TypeError: pass", "1", True),
    "arguments_of_a_call": ("try: await note(Evil())\nexcept TypeError: pass", "1", True),
    "context_managers": ("@contextmanager\ndef c():\n    try: yield\n    finally: hook()\ns = ExitStack()\ns.enter_context(c())\ns = None", "1", True),
    "schema_with_hooks": ("class M(dict):\n    def keys(self): hook(); return ['type']\n    def __iter__(self): hook(); return iter(['type'])\n    def __getitem__(self, k): hook(); return 'object'\nt = asyncio.create_task(launch_subagent('g', returns=M()))", "await t", True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_nothing_runs_between_cells(name: str, repl: WorkerRepl, host: Host) -> None:
    first, second, runs = CASES[name]
    assert (await repl.run(BEGINNING)).status == "ok"
    result = await repl.run(first)
    assert repl.pid is not None
    await until(lambda: host.waiting == len(result.running))
    ended, cpu = time.monotonic(), cpu_seconds(repl.pid)
    calls = len(host.seen)
    host.gate.set()
    await until(lambda: not host.waiting and asleep(repl))
    cpu_after, begins = cpu_seconds(repl.pid), time.monotonic()
    assert cpu is not None
    assert cpu_after is not None
    assert cpu_after - cpu < 0.5
    assert len(host.seen) == calls
    later = await repl.run(second)
    assert later.status in ("ok", "finished"), later
    shown = await repl.run("log")
    stamps = ast.literal_eval(shown.output.splitlines()[0])
    assert not [stamp for stamp in stamps if ended < stamp < begins]
    assert all(when < ended or when > begins for _, when in host.seen)
    assert bool(stamps) >= runs  # the case does what it is there for


async def test_memory_does_not_grow_between_cells(repl: WorkerRepl, host: Host) -> None:
    """Replies wait as they came: what is made of them is made in the next cell, under its limit."""
    await repl.run(
        "import asyncio\nkept = []\nasync def f():\n    await gated()\n    while True: kept.append('x' * 1_000_000)\nt = asyncio.create_task(f())"
    )
    before = int(Path(f"/proc/{repl.pid}/statm").read_text().split()[1])
    host.gate.set()
    await until(lambda: not host.waiting and asleep(repl))
    assert int(Path(f"/proc/{repl.pid}/statm").read_text().split()[1]) - before < 100
    result = await repl.run("try: await t\nexcept MemoryError: kept.clear()")
    assert result.status == "ok", result


async def test_a_background_task_runs_inside_the_clock_of_the_next_cell(sandbox: ProcessSandbox, host: Host) -> None:
    repl = await sandbox.open(call=host, functions=[HostFunction("gated")], limits=ReplLimits(cell_timeout=0.5))
    assert (
        await repl.run(
            "import asyncio\nasync def f():\n    await gated()\n    while True: pass\nt = asyncio.create_task(f())"
        )
    ).status == "ok"
    host.gate.set()
    await until(lambda: not host.waiting)
    result = await repl.run("print('reached')\nawait asyncio.sleep(60)")
    assert result.status == "timeout", result
    assert "in f" in str(result.error)
    await repl.aclose()


async def test_a_task_that_failed_in_the_background_is_shown_once(repl: Repl) -> None:
    result = await repl.run(
        "import asyncio\nasync def work():\n    raise ValueError('disk on fire')\nt = asyncio.create_task(work())\n'shown'"
    )
    assert result.status == "ok"
    assert result.output.startswith("'shown'\nBackground task failed:\nTraceback")
    assert "in work\n    raise ValueError('disk on fire')\nValueError: disk on fire\n" in result.output
    assert (await repl.run("1")).output == "1\n"
    again = await repl.run("await t")
    assert "disk on fire" in str(again.error)


async def test_a_failure_found_later_is_shown_in_the_cell_that_finds_it(repl: Repl, host: Host) -> None:
    code = "import asyncio\nasync def work():\n    await gated()\n    raise ValueError('disk on fire')\nt = asyncio.create_task(work())"
    assert "Background" not in (await repl.run(code)).output
    await until(lambda: host.waiting)
    host.gate.set()
    await until(lambda: not host.waiting)
    shown = [(await repl.run("1")).output for _ in range(3)]
    assert sum("Background task failed:" in output for output in shown) == 1


SEEN = {
    "awaited": "try: await asyncio.create_task(f())\nexcept ValueError: pass",
    "gathered": "r = await asyncio.gather(f(), f(), return_exceptions=True)",
    "gathered_and_raised": "try: await asyncio.gather(f(), f())\nexcept ValueError: pass",
    "group": "try:\n    async with asyncio.TaskGroup() as g: g.create_task(f())\nexcept* ValueError: pass",
    "looked_at": "t = asyncio.create_task(f())\nawait asyncio.wait([t])\nt.exception()\nNone",
    "cancelled": "t = asyncio.create_task(asyncio.sleep(9))\nawait asyncio.sleep(0)\nt.cancel()\nNone",
    "cell_failed_with_it": "await asyncio.create_task(f())",
    "waited_for": "try: await asyncio.wait_for(f(), 9)\nexcept ValueError: pass",
}


@pytest.mark.parametrize("name", SEEN)
async def test_an_exception_that_the_code_has_seen_is_no_news(name: str, repl: Repl) -> None:
    result = await repl.run(f"import asyncio\nasync def f(): raise ValueError('seen')\n{SEEN[name]}")
    assert "Background" not in result.output
    assert "Background" not in (await repl.run("1")).output


async def test_many_failures_are_counted(repl: Repl) -> None:
    result = await repl.run(
        "import asyncio\nasync def f(i): raise ValueError(i)\nt = [asyncio.create_task(f(i)) for i in range(500)]"
    )
    assert result.output.count("Background task failed:") == 10
    assert "… and 490 more background tasks failed." in result.output


async def test_a_task_that_nobody_holds_is_shown_too(repl: Repl) -> None:
    result = await repl.run(
        "import asyncio\nasync def f(): raise ValueError('lost')\nasyncio.create_task(f())\nawait asyncio.sleep(0.01)"
    )
    assert "Background task failed:" in result.output
    assert "ValueError: lost" in result.output


async def test_a_tool_that_fails_in_the_background_is_shown(sandbox: ProcessSandbox) -> None:
    async def broken(request: HostRequest) -> Any:
        raise ValueError("no paper")

    repl = await sandbox.open(call=broken, functions=[HostFunction("printer")], limits=LIMITS)
    output = (await repl.run("import asyncio\nt = asyncio.create_task(printer())")).output
    for _ in range(20):
        if "Background" in output:
            break
        output = (await repl.run("await asyncio.sleep(0.01)")).output
    assert "Background task failed:" in output
    assert "no paper" in output
    await repl.aclose()


CLINGING = {
    "calls": "try: await asyncio.sleep(60)\nfinally: await note('late')",
    "finishes": "try: await asyncio.sleep(60)\nfinally: finish('late')",
    "finishes_twice": "try: finish('first')\nfinally: finish('late')",
    "calls_after_finish": "try: finish('first')\nfinally: await note('late')",
}


@pytest.mark.parametrize("name", CLINGING)
async def test_a_cell_that_is_over_makes_no_calls_and_finishes_once(
    name: str, sandbox: ProcessSandbox, host: Host
) -> None:
    repl = await sandbox.open(call=host, functions=[HostFunction("note")], limits=ReplLimits(cell_timeout=1.0))
    result = await repl.run("import asyncio\n" + CLINGING[name])
    assert not host.seen
    if "first" in CLINGING[name]:
        assert (result.status, result.value) == ("finished", "first")
    else:
        assert result.status in ("timeout", "finished")
    await repl.aclose()
