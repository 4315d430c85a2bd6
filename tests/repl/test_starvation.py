"""A busy machine does not end a cell: the time in which its worker waits for a CPU does not count, up to a point."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.repl import CellResult, ProcessSandbox, ReplLimits, zygote
from recursive_agent.repl.starvation import MOST, counted, starved_of
from recursive_agent.repl.worker_repl import WorkerRepl
from tests.waiting import PATIENCE

from .conftest import answer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        starved_of(os.getpid()) == 0.0, reason="this kernel does not count how long a process waits for a CPU"
    ),
]
RIVALS = 4
UNTIL = "import time\nbegan = time.monotonic()\nwhile time.monotonic() < began + {seconds}: pass\n'done'"
"""Runs for so long on the wall clock, and uses the CPU that the machine gives it meanwhile: here a fifth of it at most."""


@contextmanager
def rivals_of(repl: object) -> Iterator[None]:
    """As long as this lasts, a worker shares its only CPU with processes that never rest."""
    assert isinstance(repl, WorkerRepl)
    assert repl.pid is not None
    cpu = {min(os.sched_getaffinity(0))}
    code = f"import os\nos.sched_setaffinity(0, {cpu})\nprint(flush=True)\nwhile True: pass"
    rivals = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
        for _ in range(RIVALS)
    ]
    try:
        for rival in rivals:
            assert rival.stdout is not None
            rival.stdout.readline()  # it has begun
        os.sched_setaffinity(repl.pid, cpu)
        yield
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()
            assert rival.stdout is not None
            rival.stdout.close()


async def starved(code: str, limits: ReplLimits, *, policy: bool = True, first: str = "1") -> CellResult:
    async with ProcessSandbox(spares=0, policy=policy) as sandbox:
        repl = await sandbox.open(call=answer, limits=limits)
        await repl.run(first)
        with rivals_of(repl), anyio.fail_after(PATIENCE):
            result = await repl.run(code)
        await repl.aclose()
    return result


async def test_an_innocent_cell_ends_by_itself_where_its_worker_gets_little_cpu() -> None:
    result = await starved(UNTIL.format(seconds=1.5), ReplLimits(cell_timeout=1.0))
    assert (result.status, result.output) == ("ok", "'done'\n"), result
    assert result.wall > 1.0 > result.cpu


async def test_nor_does_the_host_kill_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """This worker does not stop its cells itself."""
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", 0.1)
    first = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)"
    result = await starved(UNTIL.format(seconds=1.8), ReplLimits(cell_timeout=1.0), policy=False, first=first)
    assert (result.status, result.output) == ("ok", "'done'\n"), result


async def test_where_nobody_counts_that_time_the_wall_clock_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    uncounted = "from rao_repl import starvation\nstarvation.open_own = lambda: None\nmain(int"
    monkeypatch.setattr(zygote, "BOOT", zygote.BOOT.replace("main(int", uncounted))
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", PATIENCE)
    result = await starved(UNTIL.format(seconds=1.5), ReplLimits(cell_timeout=1.0))
    assert result.status == "timeout", result


ENDLESS = {
    "busy": "while True: pass",
    "sleeping": "import time\ntime.sleep(60)",
    "waiting": "await asyncio.sleep(60)",
    "both": "while True:\n    await asyncio.sleep(0.001)\n    for _ in range(10_000): pass",
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_cell_that_does_not_end_is_stopped_all_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", PATIENCE)  # it is interrupted, not killed
    result = await starved(ENDLESS[name], ReplLimits(cell_timeout=0.3))
    assert result.status == "timeout", result
    assert result.cpu < 0.6  # its limit, and what it takes to stop


async def test_a_worker_that_does_not_stop_is_killed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", 0.1)
    first = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)"
    result = await starved("while True: pass", ReplLimits(cell_timeout=0.3), policy=False, first=first)
    assert result.status == "killed", result
    assert "did not stop at its limit" in str(result.error)


@given(wall=st.floats(0, 1e6), starved=st.floats(0, 1e6))
def test_starvation_buys_a_cell_at_most_so_many_times_its_limit(wall: float, starved: float) -> None:
    assert wall / MOST <= counted(wall, starved) <= wall
    assert counted(wall, 0.0) == wall
    assert counted(wall, starved) in (wall - starved, wall / MOST)
