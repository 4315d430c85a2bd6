"""Canaries that attacks go for, and a sandbox shared by the attacks of one module."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from recursive_agent.repl import CellResult, HostFunction, HostRequest, ProcessSandbox, Repl, ReplLimits, Sandbox
from tests.waiting import PATIENCE

SECRET = "canary-5f0c9a"


@dataclass
class Canaries:
    """What must stay untouched: a file, a variable of the environment, a TCP listener, a process."""

    file: Path
    listener: socket.socket
    victim: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def check(self, said: str) -> None:
        assert SECRET not in said
        assert self.file.read_text() == SECRET
        assert sorted(path.name for path in self.file.parent.iterdir()) == ["secret"]
        assert self.victim.poll() is None
        with pytest.raises(BlockingIOError):
            self.listener.accept()


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which others may not enter
        Path(folder).chmod(0o777)  # nothing but the sandbox stands between the worker and the file
        yield from _canaries(Path(folder) / "secret")


def _canaries(file: Path) -> Iterator[Canaries]:
    file.write_text(SECRET)
    file.chmod(0o666)
    os.environ["RAO_TEST_CANARY"] = SECRET
    victim = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        try:
            yield Canaries(file, listener, victim)
        finally:
            del os.environ["RAO_TEST_CANARY"]
            assert victim.stdin is not None
            victim.stdin.close()
            victim.kill()
            victim.wait()


PATIENT = ReplLimits(cell_timeout=PATIENCE)
Attack = Callable[..., CellResult]


async def answer(request: HostRequest) -> object:
    """The only tool there is: gives its arguments back, or fails when asked to. A call of `hang` is never answered."""
    if request.name == "hang":
        await anyio.sleep_forever()
    if request.kwargs.get("boom"):
        raise ValueError("boom")
    return [list(request.args), dict(request.kwargs)]


@contextmanager
def attacks_on(make: Callable[[], Sandbox]) -> Iterator[Attack]:
    """A function that runs code in a fresh REPL of one shared sandbox."""
    with start_blocking_portal() as portal:
        sandbox = portal.call(make)  # its events belong to the portal's loop
        with portal.wrap_async_context_manager(sandbox):

            async def run(code: str, limits: ReplLimits) -> CellResult:
                repl = await sandbox.open(call=answer, functions=[HostFunction("tool")], limits=limits)
                try:
                    return await repl.run(code)
                finally:
                    await repl.aclose()

            def attack(code: str, limits: ReplLimits = PATIENT) -> CellResult:
                return portal.call(run, code, limits)

            yield attack


async def in_time(repl: Repl, code: str) -> CellResult:
    """The result of a cell that takes no time and may be run twice, where cells have little.

    On a busy machine it may reach its limit all the same; then it is run again. A clock that is wrong stays wrong.
    """
    for _ in range(20):
        result = await repl.run(code)
        if result.status != "timeout":
            break
    return result


@pytest.fixture
async def sandbox() -> AsyncIterator[ProcessSandbox]:
    async with ProcessSandbox(spares=2) as sandbox:
        yield sandbox
