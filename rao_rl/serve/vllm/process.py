"""Stock vLLM as a child process: started, waited for, stopped, and never left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

import anyio

from recursive_agent.concurrency import race
from recursive_agent.errors import ConfigurationError

from ...errors import VllmEnded
from .command import VllmCommand

if TYPE_CHECKING:
    import httpx2

REMEMBERED = 30
"""Lines of the log that are kept, to be shown where vLLM ends by itself."""
_POLL = 0.25
_GRACE = 20.0
"""Seconds between asking vLLM to end and killing it."""
_LINES = re.compile(rb"[\r\n]+")
_GUARD = """
import os, signal, sys, time
group = int(sys.stdin.readline() or 0)
sys.stdin.read()  # until whoever started this has ended, however that came
def tell(number):
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        sys.exit()
if group:
    tell(signal.SIGTERM)
    for _ in range(100):
        time.sleep(0.1)
        tell(0)
    tell(signal.SIGKILL)
"""


class VllmServer:
    """A running vLLM (see `vllm_running`). `ended` is set once it is gone, and whatever it started has been killed."""

    def __init__(self, command: VllmCommand, process: subprocess.Popen[bytes]) -> None:
        self.command = command
        self.ended = anyio.Event()
        self.lines: deque[str] = deque(maxlen=REMEMBERED)
        """The last lines of its log."""
        self.signals: list[int] = []
        """Signals that this process got and passed on to it."""
        self._process = process
        self._heeding = anyio.CancelScope()

    @property
    def status(self) -> int:
        """Exit status, 128 + n for a process that signal n killed. Only once it has `ended`."""
        code = self._process.returncode
        assert code is not None
        return code if code >= 0 else 128 - code

    def send_signal(self, number: int) -> None:
        """Send a signal to vLLM's main process, which tells the others."""
        if self._process.returncode is None:  # until then its number is nobody else's
            os.kill(self._process.pid, number)

    def heed_no_more(self) -> None:
        """Pass on no more signals: somebody else answers to them from now on."""
        self._heeding.cancel()

    async def _pass_on(self, numbers: Sequence[signal.Signals]) -> None:
        with self._heeding, anyio.open_signal_receiver(*numbers) as signals:
            async for number in signals:
                self.signals.append(number)
                self.send_signal(number)

    async def ready(self) -> None:
        """Wait until it answers. Raises VllmEnded where it ends instead, ConfigurationError where it serves another name."""
        await race(self._until_it_answers, self.ended.wait)
        if self.ended.is_set():
            raise VllmEnded(self.status, list(self.lines))

    async def _until_it_answers(self) -> None:
        import httpx2

        command = self.command
        keys = {"authorization": f"Bearer {command.api_keys[0]}"} if command.api_keys else {}
        # Whatever names a certificate holds, this is the very process that was started.
        async with httpx2.AsyncClient(headers=keys, timeout=5.0, trust_env=False, verify=False) as client:
            while (offered := await _offered(client, command.url)) is None:  # noqa: ASYNC110 - another process's news
                await anyio.sleep(_POLL)
        if (name := command.served.name) not in offered:
            raise ConfigurationError(f"vLLM serves {', '.join(offered) or 'nothing'} and not {name}.")


async def _offered(client: httpx2.AsyncClient, url: str) -> list[str] | None:
    """The models of a server that is ready; None for one that is not."""
    import httpx2

    try:
        health = await client.get(url.removesuffix("/v1") + "/health")
        if health.status_code != 200:
            return None
        return [str(card["id"]) for card in (await client.get(f"{url}/models")).json()["data"]]
    except (httpx2.HTTPError, ValueError, LookupError, TypeError):
        return None


@asynccontextmanager
async def vllm_running(
    command: VllmCommand,
    *,
    signals: Sequence[signal.Signals] = (),
    on_line: Callable[[str], object] = lambda line: None,
) -> AsyncIterator[VllmServer]:
    """Run vLLM while the block lasts. `signals` to this process are passed on; `on_line` gets every line of its log.

    In the end it is stopped, and killed if it does not stop. It is in a session of its own, so signals from the terminal
    do not reach it; and it does not outlive this process, even one that was killed. Raises ConfigurationError where it cannot
    be started.
    """
    failure: Exception | None = None
    with _guard() as guard, _start(command) as process:
        assert guard.stdin is not None
        guard.stdin.write(b"%d\n" % process.pid)
        guard.stdin.flush()
        server = VllmServer(command, process)
        async with anyio.create_task_group() as group:
            group.start_soon(_attend, server, process, on_line)
            if signals:
                group.start_soon(server._pass_on, signals)
            try:
                yield server
            except Exception as error:  # out of the group it would come wrapped
                failure = error
            finally:
                with anyio.CancelScope(shield=True):
                    await _stop(server)
                server.heed_no_more()
                guard.kill()  # before it takes the end of its input for the end of this process
    if failure is not None:
        raise failure


async def _stop(server: VllmServer) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        server.send_signal(number)
        with anyio.move_on_after(_GRACE):
            await server.ended.wait()
            return


async def _attend(server: VllmServer, process: subprocess.Popen[bytes], on_line: Callable[[str], object]) -> None:
    """Read the log until vLLM has ended; then end what it may have left behind."""
    assert process.stdout is not None
    with anyio.CancelScope(shield=True):  # until `_stop` has had its way
        async with anyio.create_task_group() as group:
            group.start_soon(_read, process.stdout.fileno(), server, on_line)
            handle = os.pidfd_open(process.pid)
            try:
                await anyio.wait_readable(handle)
            finally:
                os.close(handle)
            # While its main process is not waited for, the number of its group can be nobody else's.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # What it wrote last has been read once nobody is left who could write.
            group.cancel_scope.deadline = anyio.current_time() + 1
        server.ended.set()


async def _read(log: int, server: VllmServer, on_line: Callable[[str], object]) -> None:
    rest = b""
    while True:
        await anyio.wait_readable(log)
        piece = os.read(log, 1 << 16)
        *lines, rest = _LINES.split(rest + piece) if piece else [rest, b""]
        for line in filter(bytes.strip, lines):
            text = line.decode("utf-8", "replace")
            server.lines.append(text)
            on_line(text)
        if not piece:
            return


def _start(command: VllmCommand) -> subprocess.Popen[bytes]:
    line = command.start()
    try:
        return subprocess.Popen(
            line,
            env=command.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        _cannot_start(line[0], error)


def _guard() -> subprocess.Popen[bytes]:
    """A process that ends vLLM's once this one is gone: the kernel can do so for one process only, and vLLM is several."""
    line = [sys.executable, "-I", "-S", "-c", _GUARD]
    try:
        return subprocess.Popen(line, stdin=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        _cannot_start(line[0], error)


def _cannot_start(program: str, error: OSError) -> NoReturn:
    raise ConfigurationError(f"{program} cannot be started ({error.strerror}).") from None
