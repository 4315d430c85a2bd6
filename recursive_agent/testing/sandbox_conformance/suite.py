"""What all tests of a sandbox stand on: the sandbox under test, a host that answers, and claims."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from ...repl.base import CellStatus, HostCallError, HostFunction, HostRequest, Repl, ReplLimits, Sandbox

CLAIMS = frozenset({"isolation", "memory", "interrupt", "killed"})
"""What a sandbox may promise beyond the behaviour of a REPL.

`isolation`: cells see no file, no variable of the environment, no network and no process of the host. `memory`: a cell that
takes more than `ReplLimits.memory_mb` ends, and the sandbox lives on. `interrupt`: a cell that never ends, and does not
wait, is stopped at its limit. `killed`: a worker that was killed from outside is replaced (`kill_worker` must be written).
"""
SECRET = "canary-7c1e55"
PATIENCE = 60.0
"""Seconds after which what should happen has not happened; a busy machine is slow, a broken sandbox for ever."""


class Host:
    """The host of the tests: answers calls, and keeps them."""

    def __init__(self) -> None:
        self.requests: list[HostRequest] = []
        self.cancelled = 0
        self.opened = anyio.Event()
        """Set it, and calls of `gate` return."""
        self._news = anyio.Event()

    def names(self) -> list[str]:
        """The functions that were called, in order."""
        return [request.name for request in self.requests]

    async def until(self, *, calls: int = 0, cancelled: int = 0) -> None:
        """Wait for so many calls, and for so many that were cancelled."""
        with anyio.fail_after(PATIENCE):
            while len(self.requests) < calls or self.cancelled < cancelled:
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def __call__(self, request: HostRequest) -> Awaitable[Any]:
        """A `HostCall`."""
        self.requests.append(request)
        self._tell()
        return self._answer(request)

    async def _answer(self, request: HostRequest) -> Any:
        match request.name:
            case "echo":
                return [list(request.args), dict(request.kwargs)]
            case "gate":
                try:
                    await self.opened.wait()
                except BaseException:
                    self.cancelled += 1
                    self._tell()
                    raise
                return "open"
            case "broken":
                raise KeyError("the drawer is empty")
            case "odd":
                return object()
            case "child_failed":
                raise HostCallError("SubagentError", "it gave up", status="step_limit", partial=[1, 2])
            case "launch_subagent":
                if request.kwargs["goal"] == "too much":
                    raise HostCallError("LaunchRefused", "no agent is left")
                return "done: " + request.kwargs["goal"]
        return None


FUNCTIONS = [HostFunction(name, f"The function {name}.") for name in ("echo", "gate", "broken", "odd", "child_failed")]
Open = Callable[..., AbstractAsyncContextManager[Repl]]


class Suite:
    """The sandbox under test, and the fixtures."""

    claims: ClassVar[frozenset[str]] = CLAIMS
    """What the sandbox promises, of `CLAIMS`."""
    pytestmark: ClassVar[Sequence[pytest.MarkDecorator]] = [pytest.mark.anyio]

    def make_sandbox(self) -> Sandbox:
        """The sandbox under test, not yet entered."""
        raise NotImplementedError("write make_sandbox: it returns the sandbox under test")

    async def kill_worker(self, repl: Repl) -> None:
        """Kill what runs the cells of `repl`, as the kernel's out-of-memory killer would."""
        raise NotImplementedError('write kill_worker, or leave "killed" out of `claims`')

    def promises(self, claim: str) -> None:
        """Skip the test where the sandbox does not promise this."""
        if claim not in self.claims:
            pytest.skip(f"this sandbox does not promise {claim!r}")

    @pytest.fixture
    def host(self) -> Host:
        """What answers the calls of cells."""
        return Host()

    @pytest.fixture
    async def sandbox(self) -> AsyncIterator[Sandbox]:
        """The sandbox under test, entered."""
        async with self.make_sandbox() as sandbox:
            yield sandbox

    @pytest.fixture
    def opened(self, sandbox: Sandbox, host: Host) -> Open:
        """Opens a REPL, and closes it."""

        @asynccontextmanager
        async def opened(**settings: Any) -> AsyncIterator[Repl]:
            settings.setdefault("limits", ReplLimits(cell_timeout=PATIENCE))
            with anyio.fail_after(PATIENCE):
                repl = await sandbox.open(**{"call": host, "functions": FUNCTIONS, **settings})
            try:
                yield repl
            finally:
                with anyio.fail_after(PATIENCE, shield=True):
                    await repl.aclose()

        return opened

    @pytest.fixture
    def canaries(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, socket.socket]]:
        """A file with a secret that anybody may change, and a listener that nobody should reach."""
        monkeypatch.setenv("RAO_CONFORMANCE", SECRET)
        with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as listener:
            file = Path(name) / "secret"
            file.parent.chmod(0o777)  # nothing but the sandbox stands between
            file.write_text(SECRET)
            file.chmod(0o666)
            listener.setblocking(False)
            yield file, listener
            assert [(item.name, item.read_text()) for item in file.parent.iterdir()] == [("secret", SECRET)]
            with pytest.raises(BlockingIOError):
                listener.accept()


async def ok(repl: Repl, code: str) -> str:
    """The output of a cell that runs to its end."""
    result = await repl.run(code)
    assert result.status == CellStatus.OK, result
    return result.output


async def again(repl: Repl, code: str) -> str:
    """The last line of a cell's output, where the cells before it may have cost the worker.

    A machine that is busy may take longer than a short limit for a first cell in a fresh worker; then it is run again.
    """
    for _ in range(20):
        result = await repl.run(code)
        if result.status == CellStatus.OK:
            return result.output.splitlines()[-1]
    raise AssertionError(f"the REPL did not go on: {result}")
