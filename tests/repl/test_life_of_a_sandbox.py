"""The life of a sandbox: workers and helpers that are killed are replaced, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, cast

import anyio
import psutil
import pytest

from recursive_agent.errors import SandboxError
from recursive_agent.repl import HostFunction, HostRequest, ProcessSandbox, make_sandbox
from recursive_agent.repl.inprocess import _ThreadLimiter
from recursive_agent.repl.link import Worker
from tests.waiting import PATIENCE, until

from .conftest import answer


@pytest.mark.anyio
async def test_a_killed_worker_is_replaced_and_the_result_says_what_was_lost(sandbox: ProcessSandbox) -> None:
    async def kill(request: HostRequest) -> None:
        os.kill(repl.pid, signal.SIGKILL)  # type: ignore[attr-defined]

    repl = await sandbox.open(call=kill, functions=[HostFunction("kill")], context=[1, 2])
    other = await sandbox.open(call=answer)
    await other.run("x = 1")
    result = await repl.run("x = 1\nawait kill()\nwhile True: pass")
    assert result.status == "killed"
    assert "variables are lost" in str(result.error)
    result = await repl.run("context")
    assert result.status == "ok"
    assert result.output == "[The interpreter was restarted: the variables of earlier cells are lost.]\n[1, 2]\n"
    worker = psutil.Process(repl.pid)  # type: ignore[attr-defined]
    worker.kill()
    await anyio.to_thread.run_sync(worker.wait, PATIENCE)
    assert "restarted" in (await repl.run("1")).output  # between cells, too
    assert (await other.run("x")).output == "1\n"
    await repl.aclose()
    await other.aclose()


@pytest.mark.anyio
async def test_a_helper_that_is_launched_early_is_the_one_that_is_used_and_ends_in_any_case() -> None:
    sandbox = ProcessSandbox()
    sandbox.launch()
    helper = sandbox._zygote
    async with sandbox:
        assert sandbox._zygote is helper
        repl = await sandbox.open(call=answer)
        assert (await repl.run("1")).output == "1\n"
    never_entered = ProcessSandbox()
    never_entered.launch()
    await never_entered.__aexit__(None, None, None)
    for each in (sandbox, never_entered):
        assert each._zygote is not None
        assert each._zygote.poll() is not None


@pytest.mark.anyio
async def test_a_spare_that_was_killed_is_passed_over() -> None:
    async with ProcessSandbox(spares=1) as sandbox:
        spares = list(sandbox._spares)
        assert spares
        for spare in spares:
            await spare.ready()
            os.kill(spare.pid, signal.SIGKILL)
        await until(lambda: all(spare.ended() for spare in spares))
        repl = await sandbox.open(call=answer)
        assert (await repl.run("1")).output == "1\n"
        await repl.aclose()


class _Doomed(ProcessSandbox):
    """Some of its workers look alive when they are taken, and are dead a moment later, as when all are killed at once."""

    doomed: frozenset[int] = frozenset()

    async def worker(self, dead: Worker | None = None) -> Worker:
        worker = await super().worker(dead)
        if worker.pid in self.doomed:
            os.kill(worker.pid, signal.SIGKILL)
        return worker

    @property
    def born(self) -> frozenset[int]:
        assert self._zygote is not None
        return frozenset(child.pid for child in psutil.Process(self._zygote.pid).children())


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["waiting", "under way"])
async def test_however_many_spares_are_killed_at_once_an_interpreter_comes(where: str) -> None:
    async with _Doomed(spares=6) as sandbox:
        await until(lambda: len(sandbox._spares) == 6 and not sandbox._coming)
        if where == "under way":
            old = sandbox.born
            while sandbox._spares:
                sandbox._spares.pop().kill()
            sandbox._order()
            end = time.monotonic() + PATIENCE
            while len(sandbox.born - old) < sandbox._coming:  # not awaited: what comes must not be received yet
                assert time.monotonic() < end
                time.sleep(0.01)
            sandbox.doomed = sandbox.born
        else:
            sandbox.doomed = frozenset(spare.pid for spare in sandbox._spares)
        with anyio.fail_after(PATIENCE):
            repls = [await sandbox.open(call=answer) for _ in range(3)]
            for repl in repls:
                assert (await repl.run("6 * 7")).output == "42\n"
        assert sandbox._generation == 1  # the others knew that the spares were new
        for repl in repls:
            await repl.aclose()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _helpers() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if _lives(process) and "rao_repl" in " ".join(process.cmdline()):
                found.append(process)
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def _kill_helpers() -> None:
    helpers = _helpers()
    for process in helpers:
        with suppress(psutil.NoSuchProcess):  # a worker dies with the zygote
            process.kill()
    await until(lambda: not any(map(_lives, helpers)))


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
    gc.collect()  # what other tests let go of is not to be counted
    before = _descriptors()
    assert not _helpers()
    for seconds in (0.0, 0.02, 0.1, 0.3, 0.6):
        with anyio.move_on_after(seconds):
            await use("x" * 2_000_000)
        assert not _helpers()
    assert _descriptors() == before


@pytest.mark.anyio
async def test_cancelling_a_cell_kills_its_worker(sandbox: ProcessSandbox) -> None:
    repl = await sandbox.open(call=answer)
    worker = psutil.Process(repl.pid)  # type: ignore[attr-defined]
    with anyio.move_on_after(0.1):
        await repl.run("while True: pass")
    await anyio.to_thread.run_sync(worker.wait, PATIENCE)
    assert "restarted" in (await repl.run("1")).output
    await repl.aclose()


@pytest.mark.anyio
async def test_a_killed_zygote_is_replaced() -> None:
    async with ProcessSandbox(spares=2) as sandbox:
        before = await sandbox.open(call=answer)
        for _ in range(3):
            await _kill_helpers()
            with anyio.fail_after(PATIENCE):
                first = await before.run("1")  # its worker died with the zygote, which may be seen only now
                assert "restarted" in first.output or "fresh interpreter" in str(first.error)
                assert (await before.run("2")).output.endswith("2\n")
                after = await sandbox.open(call=answer)
                assert (await after.run("6 * 7")).output == "42\n"
                await after.aclose()
    assert not _helpers()


class _Unlucky(ProcessSandbox):
    """Its next zygotes are killed before they can give a worker."""

    deaths = 0

    def _start(self) -> None:
        super()._start()
        if self.deaths:
            self.deaths -= 1
            assert self._zygote is not None
            self._zygote.kill()


@pytest.mark.anyio
async def test_a_zygote_that_is_killed_before_it_gave_a_worker_is_replaced_too() -> None:
    async with _Unlucky(spares=2) as sandbox:
        repls = [await sandbox.open(call=answer) for _ in range(3)]
        sandbox.deaths = 2
        await _kill_helpers()
        with anyio.fail_after(PATIENCE):
            for repl in repls:
                await repl.run("1")  # its worker died with the zygote, which may be seen only now
                assert (await repl.run("6 * 7")).output.endswith("42\n")
                await repl.aclose()
        assert sandbox.deaths == 0


@pytest.mark.anyio
async def test_zygotes_that_are_always_killed_are_given_up() -> None:
    async with _Unlucky(spares=0) as sandbox:
        sandbox.deaths = 1000
        await _kill_helpers()
        with anyio.fail_after(PATIENCE):
            with pytest.raises(SandboxError, match="zygote"):
                await sandbox.open(call=answer)
        assert sandbox.deaths >= 990


@pytest.mark.anyio
async def test_a_zygote_that_never_gave_a_worker_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from recursive_agent.repl import zygote

    async with ProcessSandbox(spares=0) as sandbox:
        monkeypatch.setattr(zygote, "BOOT", "raise SystemExit(1)")
        await _kill_helpers()
        with anyio.fail_after(PATIENCE):
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
    process.wait(timeout=PATIENCE)
    anyio.run(until, lambda: not any(map(_lives, family)))


@pytest.mark.anyio
async def test_requiring_the_kernel_refuses_where_a_layer_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_sandbox("process", require="kernel") as sandbox:
        assert {"seccomp", "landlock", "rlimits", "no_new_privs", "process", "policy"} <= sandbox.enforced
    from recursive_agent.repl import zygote

    crippled = zygote.BOOT.replace(
        "main(int", "from rao_repl import kernel\nkernel.landlock = lambda m: False\nmain(int"
    )
    monkeypatch.setattr(zygote, "BOOT", crippled)
    for refusing in (make_sandbox("process", require="kernel"), make_sandbox("process")):
        with pytest.raises(SandboxError, match="landlock"):
            async with refusing:
                pass
    async with make_sandbox("process", require=None) as weaker:
        assert "landlock" not in weaker.enforced


def test_unknown_sandboxes_are_refused() -> None:
    with pytest.raises(ValueError, match="monty"):
        make_sandbox("monty")
    with pytest.raises(ValueError, match="isolates nothing"):
        make_sandbox("inprocess", require="kernel")


def test_an_overdue_cell_in_a_thread_is_looked_at_less_and_less_often() -> None:
    class Over:
        """The event that ends the watch: it notes the waits instead of waiting."""

        waits: ClassVar[list[float]] = []

        def wait(self, seconds: float) -> bool:
            self.waits.append(seconds)
            return len(self.waits) > 9

        def is_set(self) -> bool:
            return False

    class Late:
        finished = False
        overdue = False

        def remaining(self) -> float:
            return -1.0

    limiter = _ThreadLimiter()
    late: Any = Late()
    limiter.cell = late
    limiter._watch(cast(threading.Event, Over()), 10.0)
    assert Over.waits == pytest.approx([10.0, 0.04, 0.08, 0.16, 0.32, 0.64, 0.64, 0.64, 0.64, 0.64])
    assert late.overdue
