"""A worker that no longer keeps its own limits is stopped from outside; machines that are short of something recover."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import psutil
import pytest

from recursive_agent.errors import SandboxError
from recursive_agent.repl import HostFunction, ProcessSandbox, ReplLimits, zygote
from recursive_agent.repl.base import MemoryPool
from recursive_agent.repl.worker_repl import WorkerRepl
from tests.waiting import PATIENCE, until

from .conftest import answer

UNSTOPPABLE = """\
import resource, signal
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_CPU, 2 * resource.getrlimit(resource.RLIMIT_CPU)[1:])
"""


@pytest.mark.anyio
async def test_a_pending_call_gives_no_free_cpu() -> None:
    """The wall clock of a cell stands still while a call is pending; its CPU clock does not."""
    code = UNSTOPPABLE + "import asyncio\nt = asyncio.create_task(hang())\nawait asyncio.sleep(0)\nwhile True: pass"
    limits = ReplLimits(cell_timeout=0.5)
    async with ProcessSandbox(spares=0, policy=False) as sandbox:
        repl = await sandbox.open(call=answer, functions=[HostFunction("hang")], limits=limits)
        with anyio.fail_after(PATIENCE):
            result = await repl.run(code)
        assert result.status == "killed"
        assert "of CPU" in str(result.error)
        await repl.aclose()


@pytest.mark.anyio
async def test_a_worker_that_runs_between_cells_is_killed() -> None:
    code = UNSTOPPABLE + (
        "def spin(*_):\n    while True: pass\n"
        "signal.signal(signal.SIGALRM, spin)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "signal.setitimer = lambda *_: None"  # the worker's own code would disarm it
    )
    async with ProcessSandbox(spares=0, policy=False) as sandbox:
        repl = await sandbox.open(call=answer)
        assert isinstance(repl, WorkerRepl)
        await repl.run(code)
        worker = repl._worker
        assert worker is not None
        await until(lambda: worker.gone)
        assert "between cells" in str(worker.reason)
        assert "between cells" in (await repl.run("1")).output
        await repl.aclose()


@pytest.mark.anyio
async def test_interpreters_of_one_run_share_a_limit_of_memory_and_the_largest_is_stopped() -> None:
    pool = MemoryPool(100)
    limits = ReplLimits(memory_mb=256, pool=pool, cell_timeout=PATIENCE)
    async with ProcessSandbox(spares=0) as sandbox:
        small = await sandbox.open(call=answer, limits=limits)
        large = await sandbox.open(call=answer, limits=limits)
        other = await sandbox.open(call=answer, limits=ReplLimits(memory_mb=256))
        assert (await other.run("x = b'x' * 150_000_000")).status == "ok"  # in no pool
        assert (await small.run("x = b'x' * 30_000_000\nlen(x)")).output == "30000000\n"
        result = await large.run("x = b'x' * 90_000_000\nwhile True: await asyncio.sleep(0.01)")
        assert result.status == "killed"
        assert "more than the 100 MiB" in str(result.error)
        assert (await small.run("len(x)")).output == "30000000\n"
        assert (await other.run("len(x)")).output == "150000000\n"
        for repl in (small, large, other):
            await repl.aclose()


REFUSING = """\
import os
real, made = os.fork, 0
def fork():
    global made
    made += 1
    if {after} < made <= {after} + {times}:
        raise BlockingIOError(11, "refused")
    return real()
os.fork = fork
main(int"""


def refuse_forks(monkeypatch: pytest.MonkeyPatch, after: int, times: int) -> None:
    """The zygote's forks are refused so many times, after so many that are not."""
    code = REFUSING.format(after=after, times=times)
    monkeypatch.setattr(zygote, "BOOT", zygote.BOOT.replace("main(int", code))


@pytest.mark.anyio
async def test_a_refused_fork_costs_a_pause_and_no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_forks(monkeypatch, after=2, times=3)
    async with ProcessSandbox(spares=0) as sandbox:
        before = await sandbox.open(call=answer)
        await before.run("x = 41")
        with anyio.fail_after(PATIENCE):
            repls = [await sandbox.open(call=answer) for _ in range(3)]
            assert (await before.run("x + 1")).output == "42\n"
            for repl in (*repls, before):
                assert (await repl.run("1")).output == "1\n"
                await repl.aclose()


@pytest.mark.anyio
async def test_forks_that_stay_refused_are_said_and_end_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_forks(monkeypatch, after=2, times=10**9)
    monkeypatch.setattr("recursive_agent.repl.host._PATIENCE", 0.3)
    async with ProcessSandbox(spares=0) as sandbox:
        before = await sandbox.open(call=answer)
        spare = await sandbox.open(call=answer)
        with anyio.fail_after(PATIENCE):
            with pytest.raises(SandboxError, match="no process can be started"):
                await sandbox.open(call=answer)
        assert (await before.run("1")).output == "1\n"
        await before.aclose()
        await spare.aclose()


NO_DESCRIPTORS = """
import anyio, os, resource
from recursive_agent.repl import ProcessSandbox
from recursive_agent.errors import SandboxError
async def answer(request): return None
async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    async with ProcessSandbox(spares=0) as sandbox:
        before = await sandbox.open(call=answer)
        held = []
        try:
            while True: held.append(os.dup(0))
        except OSError: pass
        async with anyio.create_task_group() as group:
            opened = []
            async def open_one(): opened.append(await sandbox.open(call=answer))
            group.start_soon(open_one)
            await anyio.sleep(0.5)
            assert not opened
            assert (await before.run("1")).output == "1\\n"
            for fd in held: os.close(fd)
        assert (await opened[0].run("6 * 7")).output == "42\\n"
        print("recovered")
anyio.run(main)
"""


def test_a_moment_without_descriptors_is_survived() -> None:
    done = _python(NO_DESCRIPTORS)
    assert done.stdout == "recovered\n", done.stderr


FORKED = """
import anyio, os, signal, sys, time
from recursive_agent.errors import SandboxError
from recursive_agent.repl import ProcessSandbox
async def answer(request): return None
async def main():
    async with ProcessSandbox(spares=1) as sandbox:
        repl = await sandbox.open(call=answer)
        async with anyio.create_task_group() as group:
            group.start_soon(repl.run, "while True: pass")
            await anyio.sleep(0.2)
            pid = os.fork()
            if pid == 0:
                signal.pause()
            print(pid, flush=True)
            await anyio.sleep_forever()
anyio.run(main)
"""


def test_a_host_that_has_forked_leaves_no_orphans() -> None:
    process = subprocess.Popen([sys.executable, "-c", FORKED], stdout=subprocess.PIPE, text=True, env=_environment())
    assert process.stdout is not None
    forked = int(process.stdout.readline())
    try:
        family = [child for child in psutil.Process(process.pid).children(recursive=True) if child.pid != forked]
        assert len(family) >= 2
        process.kill()
        process.wait()
        gone, alive = psutil.wait_procs(family, timeout=PATIENCE)
        assert not alive
        assert len(gone) == len(family)
    finally:
        process.stdout.close()
        os.kill(forked, signal.SIGKILL)


IN_A_FORK = """
import anyio, os, threading
from recursive_agent.errors import SandboxError
from recursive_agent.repl import ProcessSandbox
async def answer(request): return None
async def main():
    async with ProcessSandbox(spares=1) as sandbox:
        pid = os.fork()
        if pid == 0:
            def attempt():
                try:
                    anyio.run(lambda: sandbox.open(call=answer))
                except SandboxError as error:
                    os.write(1, str(error).encode())
                finally:
                    os._exit(0)
            threading.Thread(target=attempt).start()
            threading.Event().wait()
        os.waitpid(pid, 0)
        repl = await sandbox.open(call=answer)
        os.write(1, (await repl.run("' and works here'")).output.encode())
anyio.run(main)
"""


def test_a_sandbox_is_not_used_by_a_fork_of_its_process() -> None:
    said = _python(IN_A_FORK).stdout
    assert "before the process forked" in said
    assert "works here" in said


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": ":".join([str(Path(__file__).parents[2]), *filter(None, sys.path)])}


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=_environment(), timeout=PATIENCE, check=False
    )
