# ruff: noqa: E501 (the code of a cell stands on one line)
"""Bombs: whatever a cell does with time, memory, output or messages, the host and the other REPLs go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from recursive_agent.repl import ProcessSandbox, ReplLimits
from recursive_agent.repl.worker_repl import KILL_GRACE
from tests.waiting import PATIENCE

from ..conftest import Attack, answer, attacks_on

TIGHT = ReplLimits(cell_timeout=0.4, memory_mb=64, output_chars=1000, message_bytes=1_000_000)
ROOMY = replace(TIGHT, cell_timeout=PATIENCE)
"""For what ends without regard to the time: on a busy machine it could reach a tight limit first."""
LONGEST = 10 * (TIGHT.cell_timeout + KILL_GRACE)
"""Seconds after which a bomb has not been stopped, on any machine; most would go on for ever."""

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
    "duplicate_calls": "import os, msgpack\nb = msgpack.packb(['call', 1, 'hang', [], {}, 1])\nos.write(3, (len(b).to_bytes(4, 'little') + b) * 2)\nwhile True: pass",
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
def test_a_bomb_is_stopped_in_time(name: str, policed: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    code, expected = BOMBS[name]
    if "killed" not in expected:  # it is interrupted, however late
        monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", PATIENCE)
    start = time.monotonic()
    result = policed(code, TIGHT if "timeout" in expected else ROOMY)
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
    result = raw(RAW_BOMBS[name], replace(ROOMY, cell_timeout=2.0) if name == "no_alarm" else ROOMY)
    assert result.status == "killed" or result.output == "refused\n", result
    assert time.monotonic() - start < LONGEST


@pytest.mark.anyio
async def test_after_the_memory_limit_the_repl_goes_on(sandbox: ProcessSandbox) -> None:
    repl = await sandbox.open(call=answer, limits=ROOMY)
    for _ in range(3):
        assert (await repl.run("x = []\nwhile True: x.append('a' * 1_000_000)")).status == "memory"
        result = await repl.run("y = len(x)\nx = None\ny")
        assert 20 < int(result.output) < 68
    await repl.aclose()
