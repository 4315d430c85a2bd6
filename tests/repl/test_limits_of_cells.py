# ruff: noqa: E501 (the code of a cell stands on one line)
"""Bombs: whatever a cell does with time, memory, output or messages, the host and the other REPLs go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
import pytest

from recursive_agent.errors import SandboxError
from recursive_agent.repl import HostFunction, HostRequest, ProcessSandbox, ReplLimits, Sandbox, make_sandbox

from .conftest import Attack, answer, attacks_on

TIGHT = ReplLimits(cell_timeout=0.4, memory_mb=64, output_chars=1000, message_bytes=1_000_000)
LONGEST = 0.4 + 1.0 + 1.5  # the limit, the grace before the kill, and a slow machine

BOMBS: dict[str, tuple[str, set[str]]] = {
    "busy_loop": ("while True: pass", {"timeout"}),
    "busy_loop_swallowing": ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", {"timeout"}),
    "busy_loop_finally": (
        "while True:\n    try:\n        while True: pass\n    finally: continue",
        {"timeout", "killed"},
    ),
    "busy_exit_method": (
        "class C:\n    def __enter__(self): pass\n    def __exit__(self, *a): return True\nwhile True:\n    with C():\n        while True: pass",
        {"timeout", "killed"},
    ),
    "busy_generator": ("def g():\n    while True: yield 1\nsum(g())", {"timeout"}),
    "busy_c_iterator": ("import itertools\nsum(itertools.repeat(1))", {"timeout", "killed"}),
    "busy_max_repeat": ("import itertools\nmax(itertools.count())", {"timeout", "killed"}),
    "blocking_sleep": ("import time\ntime.sleep(60)", {"timeout"}),
    "async_sleep": ("import asyncio\nawait asyncio.sleep(60)", {"timeout"}),
    "never_ready": ("import asyncio\nawait asyncio.Event().wait()", {"timeout"}),
    "busy_tasks": ("import asyncio\nasync def f():\n    while True: await asyncio.sleep(0)\nawait asyncio.gather(f(), f())", {"timeout"}),
    "regex": ("import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')", {"timeout", "killed"}),
    "power": ("x = 10 ** 10 ** 8", {"timeout", "killed", "memory"}),
    "factorial": ("import math\nmath.factorial(10 ** 9)", {"timeout", "killed", "memory"}),
    "int_to_str": ("x = str(2 ** 10_000_000)", {"error", "timeout", "killed"}),
    "sorting_compare": ("class A:\n    def __lt__(self, o): return sum(range(10 ** 9)) < 0\nsorted([A(), A()])", {"timeout", "killed"}),
    "memory_string": ("x = 'a' * (1 << 40)", {"memory"}),
    "memory_bytes": ("x = bytes(1 << 30)", {"memory"}),
    "memory_list": ("x = []\nwhile True: x.append('a' * 1_000_000)", {"memory"}),
    "memory_small_objects": ("x = []\nwhile True: x.append([x])", {"memory", "timeout"}),
    "memory_doubling": ("x = [1]\nwhile True: x += x", {"memory"}),
    "memory_dict": ("x = {i: str(i) for i in range(10 ** 9)}", {"memory", "timeout"}),
    "memory_swallowed": ("x = []\nwhile True:\n    try: x.append(bytearray(1 << 20))\n    except MemoryError: pass", {"timeout", "killed"}),
    "memory_range_list": ("x = list(range(10 ** 9))", {"memory", "killed"}),
    "memory_pad": ("x = f'{1:>999999999}'", {"memory"}),
    "memory_in_repr": ("'a' * 50_000_000", {"ok", "memory"}),
    "output_flood": ("while True: print('x' * 1000)", {"timeout"}),
    "call_flood": ("while True: tool(1)", {"error"}),
    "queue_flood": (
        "import asyncio\nq = asyncio.Queue()\nwhile True:\n    q.put_nowait(1)\n    q.get_nowait()",
        {"timeout"},
    ),
    "output_one_line": ("print('x' * 20_000_000)", {"ok", "memory"}),
    "recursion": ("def f(): return f()\nf()", {"error"}),
    "recursion_swallowed": ("def f():\n    try: return f()\n    except RecursionError: return f()\nf()", {"error", "timeout", "killed"}),
    "recursion_repr": ("x = []\nfor _ in range(100_000): x = [x]\nrepr(x)", {"error", "killed"}),
    "recursion_source": ("x = " + "(" * 5000 + ")" * 5000, {"error"}),
    "recursion_operators": ("x = " + "-" * 20_000 + "1", {"error", "killed"}),
    "recursion_attributes": ("x = a" + ".b" * 20_000, {"error", "killed"}),
    "huge_finish": ("finish('x' * 2_000_000)", {"error"}),
    "huge_argument": ("await tool('x' * 2_000_000)", {"error"}),
    "many_calls": ("import asyncio\nr = await asyncio.gather(*[tool(i) for i in range(3000)])\nprint(len(r))", {"ok", "timeout"}),
    "many_tasks": ("import asyncio\nt = [asyncio.create_task(asyncio.sleep(60)) for _ in range(20_000)]", {"ok", "timeout", "memory"}),
    "del_bomb": ("class A:\n    def __init__(self): self.a = self\nwhile True: A()", {"timeout", "memory"}),
    "exception_str": ("class E(Exception):\n    def __str__(self): return 'x' * 50_000_000\nraise E", {"error", "memory"}),
    "exception_str_loop": ("class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E", {"error", "timeout", "killed"}),
    "finish_then_loop": ("try: finish(1)\nfinally:\n    while True: pass", {"finished"}),
}  # fmt: skip

RAW_BOMBS = {
    "fork": "import os\nwhile True:\n    try: os.fork()\n    except OSError: break\nprint('refused')",
    "threads": "import _thread\ntry:\n    while True: _thread.start_new_thread(print, ())\nexcept RuntimeError: print('refused')",
    "descriptors": "import os\ntry:\n    while True: os.dup(3)\nexcept OSError: print('refused')",
    "no_alarm": "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
    "garbage_to_host": "import os\nos.write(3, b'\\xff' * 100)\nwhile True: pass",
    "huge_header": "import os\nos.write(3, b'\\xff\\xff\\xff\\x7f')\nwhile True: pass",
    "forged_done": "import os, msgpack\nb = msgpack.packb(['done', {'status': 'finished'}])\nos.write(3, len(b).to_bytes(4, 'little') + b)",
    "forged_extension": "import os, msgpack\nb = msgpack.packb(['finish', msgpack.ExtType(3, b'\\xff\\xff')])\nos.write(3, len(b).to_bytes(4, 'little') + b)",
    "nested_arrays": "import os\nb = b'\\x91' * 100000\nos.write(3, len(b).to_bytes(4, 'little') + b)\nwhile True: pass",
    "claimed_arrays": "import os\nb = b'\\x92\\xa4done' + b'\\xdd\\x00\\x0f\\xff\\xff' * 1000\nos.write(3, len(b).to_bytes(4, 'little') + b)\nwhile True: pass",
    "duplicate_calls": "import os, msgpack\nb = msgpack.packb(['call', 1, 'tool', [], {}, 1])\nos.write(3, (len(b).to_bytes(4, 'little') + b) * 2)\nwhile True: pass",
    "call_flood": "import os, msgpack\nfor i in range(10000):\n    b = msgpack.packb(['call', i, 'hang', [], {}, 1])\n    os.write(3, len(b).to_bytes(4, 'little') + b)\nwhile True: pass",
    "close_socket": "import os\nos.close(3)",
    "crash": "import ctypes\nctypes.string_at(0)",
    "exit": "import os\nos._exit(3)",
}  # fmt: skip


@pytest.fixture(scope="module")
def policed() -> Iterator[Attack]:
    with attacks_on(ProcessSandbox) as attack:
        yield attack


@pytest.fixture(scope="module")
def raw() -> Iterator[Attack]:
    with attacks_on(lambda: ProcessSandbox(policy=False)) as attack:
        yield attack


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_stopped_in_time(name: str, policed: Attack) -> None:
    code, expected = BOMBS[name]
    start = time.monotonic()
    result = policed(code, TIGHT)
    assert result.status in expected, result
    assert time.monotonic() - start < LONGEST
    assert len(result.output) + len(result.error or "") < 5000
    if result.status == "killed":
        assert "fresh interpreter" in str(result.error)
    if result.status == "finished":
        assert result.value == 1


@pytest.mark.parametrize("name", RAW_BOMBS)
def test_a_worker_gone_bad_harms_nobody(name: str, raw: Attack) -> None:
    start = time.monotonic()
    result = raw(RAW_BOMBS[name], TIGHT)
    # On a busy machine a flood may reach the cell's time limit before it is seen to be one.
    slow = name == "call_flood" and result.status == "timeout"
    assert slow or result.status == "killed" or result.output == "refused\n", result
    assert time.monotonic() - start < LONGEST


@pytest.mark.anyio
async def test_after_the_memory_limit_the_repl_goes_on(sandbox: ProcessSandbox) -> None:
    repl = await sandbox.open(call=answer, limits=TIGHT)
    for _ in range(3):
        assert (await repl.run("x = []\nwhile True: x.append('a' * 1_000_000)")).status == "memory"
        result = await repl.run("y = len(x)\nx = None\ny")
        assert 20 < int(result.output) < 68
    await repl.aclose()


@pytest.mark.anyio
async def test_a_killed_worker_is_replaced_and_the_result_says_what_was_lost(sandbox: ProcessSandbox) -> None:
    repl = await sandbox.open(call=answer, limits=TIGHT, context=[1, 2])
    other = await sandbox.open(call=answer, limits=TIGHT)
    await other.run("x = 1")
    async with anyio.create_task_group() as group:

        async def kill() -> None:
            await anyio.sleep(0.05)
            os.kill(repl.pid, signal.SIGKILL)  # type: ignore[attr-defined]

        group.start_soon(kill)
        result = await repl.run("x = 1\nwhile True: pass")
    assert result.status == "killed"
    assert "variables are lost" in str(result.error)
    result = await repl.run("context")
    assert result.status == "ok"
    assert result.output == "[The interpreter was restarted: the variables of earlier cells are lost.]\n[1, 2]\n"
    worker = psutil.Process(repl.pid)  # type: ignore[attr-defined]
    worker.kill()
    await anyio.to_thread.run_sync(worker.wait, 5)
    assert "restarted" in (await repl.run("1")).output  # between cells, too
    assert (await other.run("x")).output == "1\n"
    await repl.aclose()
    await other.aclose()


@pytest.mark.anyio
async def test_a_spare_that_was_killed_is_passed_over() -> None:
    async with ProcessSandbox(spares=1) as sandbox:
        spares = list(sandbox._spares)
        assert spares
        for spare in spares:
            await spare.ready()
            os.kill(spare.pid, signal.SIGKILL)
        while not all(spare.ended() for spare in spares):
            await anyio.sleep(0.001)
        repl = await sandbox.open(call=answer)
        assert (await repl.run("1")).output == "1\n"
        await repl.aclose()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _helpers() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if process.status() != psutil.STATUS_ZOMBIE and "rao_repl" in " ".join(process.cmdline()):
                found.append(process)
    return found


def _kill_helpers() -> None:
    for process in _helpers():
        with suppress(psutil.NoSuchProcess):  # a worker dies with the zygote
            process.kill()


@pytest.mark.anyio
async def test_nothing_is_left_behind_however_it_ends() -> None:
    async def hang(request: HostRequest) -> None:
        await anyio.sleep_forever()

    async def use(document: str) -> None:
        async with ProcessSandbox(spares=2) as sandbox:
            repl = await sandbox.open(call=hang, functions=[HostFunction("tool")], context=document)
            closed = await sandbox.open(call=hang, context=document)
            await closed.aclose()
            await repl.run("import asyncio\nt = asyncio.create_task(tool())")
            await repl.run("while True: pass")

    await anyio.sleep(0)
    before, helpers = _descriptors(), len(_helpers())
    for seconds in (0.0, 0.02, 0.1, 0.3, 0.6):
        with anyio.move_on_after(seconds):
            await use("x" * 2_000_000)
        assert len(_helpers()) == helpers
    assert _descriptors() == before


@pytest.mark.anyio
async def test_cancelling_a_cell_kills_its_worker(sandbox: ProcessSandbox) -> None:
    repl = await sandbox.open(call=answer)
    worker = psutil.Process(repl.pid)  # type: ignore[attr-defined]
    with anyio.move_on_after(0.1):
        await repl.run("while True: pass")
    await anyio.to_thread.run_sync(worker.wait, 5)
    assert "restarted" in (await repl.run("1")).output
    await repl.aclose()


@pytest.mark.anyio
async def test_a_killed_zygote_is_replaced() -> None:
    async with ProcessSandbox(spares=2) as sandbox:
        before = await sandbox.open(call=answer)
        for _ in range(3):
            _kill_helpers()
            with anyio.fail_after(20):
                first = await before.run("1")  # its worker died with the zygote, which may be seen only now
                assert "restarted" in first.output or "fresh interpreter" in str(first.error)
                assert (await before.run("2")).output.endswith("2\n")
                after = await sandbox.open(call=answer)
                assert (await after.run("6 * 7")).output == "42\n"
                await after.aclose()
    assert not _helpers()


@pytest.mark.anyio
async def test_a_zygote_that_never_gave_a_worker_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from recursive_agent.repl import zygote

    async with ProcessSandbox(spares=0) as sandbox:
        monkeypatch.setattr(zygote, "BOOT", "raise SystemExit(1)")
        _kill_helpers()
        with anyio.fail_after(20):
            with pytest.raises(SandboxError, match="zygote"):
                await sandbox.open(call=answer)


HOST = """
import anyio, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
from recursive_agent.repl import ProcessSandbox
async def main():
    async def call(request): return None
    async with ProcessSandbox() as sandbox:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                repl = await sandbox.open(call=call)
                group.start_soon(repl.run, "while True: pass")
            await anyio.sleep(0.2)
            print("spinning", flush=True)
try: anyio.run(main)
except KeyboardInterrupt: sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_no_signal_to_a_host_of_spinning_children_leaves_anybody_alive(number: signal.Signals) -> None:
    path = ":".join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", HOST], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PYTHONPATH": path}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"spinning\n"
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 5
    process.send_signal(number)
    process.stdout.close()
    process.wait(timeout=20)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.anyio
async def test_requiring_the_kernel_refuses_where_a_layer_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_sandbox("process", require="kernel") as sandbox:
        assert {"seccomp", "landlock", "rlimits", "no_new_privs", "process", "policy"} <= sandbox.enforced
    from recursive_agent.repl import zygote

    crippled = zygote.BOOT.replace(
        "main(int", "from rao_repl import kernel\nkernel.landlock = lambda m: False\nmain(int"
    )
    monkeypatch.setattr(zygote, "BOOT", crippled)
    with pytest.raises(SandboxError, match="landlock"):
        async with make_sandbox("process", require="kernel"):
            pass
    async with make_sandbox("process") as weaker:
        assert "landlock" not in weaker.enforced


def test_unknown_sandboxes_are_refused() -> None:
    with pytest.raises(ValueError, match="monty"):
        make_sandbox("monty")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="isolates nothing"):
        make_sandbox("inprocess", require="kernel")


_: type[Sandbox] = ProcessSandbox
