"""The host's side of the `process` sandbox: owns the zygote, the workers and every descriptor to them."""

from __future__ import annotations

import array
import importlib.util
import os
import resource
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Literal, Self

import anyio
import anyio.abc

from ..errors import SandboxError
from . import kernel, zygote
from .connection import Worker
from .sandbox import WorkerSandbox

_START_SECONDS = 30.0
_WORKER_PACKAGES = ("msgpack", "RestrictedPython")
_REQUIRED = {"kernel": kernel.KERNEL_LAYERS}


class ProcessSandbox(WorkerSandbox):
    """A locked process for each REPL, forked from a zygote that shares nothing with this process.

    `spares` workers are kept forked and locked ahead of need. `policy=False` leaves the kernel as the only boundary: the
    code is then plain Python (meant for tests of that boundary). `require="kernel"` refuses to start, with SandboxError,
    where a layer of the kernel does not hold.
    """

    def __init__(self, *, require: Literal["kernel"] | None = None, spares: int = 8, policy: bool = True) -> None:
        super().__init__()
        self._required = _REQUIRED[require] if require is not None else frozenset()
        self._spare_target = spares
        self._policy = policy
        self._zygote: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._spares: deque[Worker] = deque()
        self._coming = 0
        self._waiting: deque[_Waiter] = deque()
        self._failure: str | None = None
        self._lost = False
        """Whether the failure is that the zygote ended by itself."""
        self._proven = False
        """Whether the zygote there is has given a worker."""
        self._revival = anyio.Lock()

    # -- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._start()
        try:
            self._tasks = await anyio.create_task_group().__aenter__()
            self._tasks.start_soon(self._receive_workers)
            with anyio.fail_after(_START_SECONDS):
                first = await self._take()
                self._spares.appendleft(first)  # so that it is released whatever comes
                self.enforced = self._holding(await first.ready())
            missing = self._required - self.enforced
            if missing:
                raise SandboxError(
                    f"this machine does not enforce {', '.join(sorted(missing))}, which require= asks for"
                )
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            if isinstance(error, TimeoutError):
                raise SandboxError("the sandbox's zygote did not start") from error
            raise
        return self

    def _start(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:  # two descriptors for each REPL; the usual soft limit of 1,024 would end at 500
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        paths = {str(Path(place).parent) for name in _WORKER_PACKAGES for place in _locations(name)}
        with theirs:
            self._zygote = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-X", "utf8", "-c", zygote.BOOT),
                    *(str(Path(__file__).parent), ":".join(sorted(paths)), str(theirs.fileno())),
                    "policy" if self._policy else "raw",
                ],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._socket = ours

    async def __aexit__(self, *exc: object) -> None:
        self._fail("the sandbox is closed")
        try:
            with anyio.CancelScope(shield=True):
                await self._close_repls()
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
                await self._tasks.__aexit__(None, None, None)
        finally:
            self._tasks = None
            while self._spares:
                self._spares.popleft().kill()
            if self._socket is not None:
                self._socket.close()
            if self._zygote is not None:
                with anyio.CancelScope(shield=True):
                    await _wait(self._zygote)
            self._files.close()

    def _holding(self, layers: list[str]) -> frozenset[str]:
        return frozenset(layers) | {"process"} | ({"policy"} if self._policy else set())

    # -- workers -----------------------------------------------------------------------------------------------------

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        while self._waiting:
            self._waiting.popleft().event.set()

    def _order(self) -> None:
        """Ask the zygote for as many workers as are waited for, and the spares."""
        wanted = len(self._waiting) + self._spare_target - len(self._spares) - self._coming
        if wanted > 0 and self._socket is not None and self._failure is None:
            try:
                self._socket.send(zygote.REQUEST.pack(min(wanted, 0xFFFF)))
            except BlockingIOError:
                pass  # the zygote has orders enough; the next worker that comes brings us here again
            except OSError as error:
                self._lose(f"the sandbox's zygote is gone ({error.strerror})")
            else:
                self._coming += wanted

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or self._failure is None  # it is noticed at both ends of the socket
        self._fail(reason)

    async def _revive(self) -> None:
        """Start another zygote where one that worked was killed (by the kernel's out-of-memory killer, say).

        Its workers died with it. One that never gave a worker would not do better a second time.
        """
        async with self._revival:
            if not (self._lost and self._proven) or self._tasks is None or self._zygote is None:
                return
            await _wait(self._zygote)
            while self._spares:
                self._spares.popleft().kill()
            if self._socket is not None:
                self._socket.close()
            self._coming, self._failure, self._lost, self._proven = 0, None, False, False
            self._start()
            self._tasks.start_soon(self._receive_workers)

    async def _receive_workers(self) -> None:
        zygote_socket = self._socket
        assert zygote_socket is not None
        room = socket.CMSG_SPACE(2 * array.array("i").itemsize)
        while True:
            await anyio.wait_readable(zygote_socket)
            try:
                data, ancillary, _, _ = zygote_socket.recvmsg(zygote.BORN.size, room, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                continue
            except OSError:
                data, ancillary = b"", []
            fds = array.array("i")
            for _, _, part in ancillary:
                fds.frombytes(part)
            if len(fds) != 2:
                for fd in fds:
                    os.close(fd)
                if zygote_socket is not self._socket:
                    return  # another zygote has taken its place, and this end says nothing about that one
                if data:
                    self._fail("no descriptors left for another REPL: raise RLIMIT_NOFILE (ulimit -n)")
                else:
                    self._lose("the sandbox's zygote has ended")
                return
            self._coming -= 1
            self._proven = True
            worker = Worker(socket.socket(fileno=fds[0]), fds[1], zygote.BORN.unpack(data)[0])
            if self._waiting:
                waiter = self._waiting.popleft()
                waiter.worker = worker
                waiter.event.set()
            else:
                self._spares.append(worker)
            self._order()

    def _put_back(self, worker: Worker) -> None:
        if self._failure is None:
            self._spares.append(worker)
        else:  # nobody will look at the spares again
            worker.kill()

    async def _take(self) -> Worker:
        if self._lost:
            await self._revive()
        if self._failure is not None:
            raise SandboxError(self._failure)
        if self._spares:
            worker = self._spares.popleft()
            self._order()
            if not self._lost:
                return worker
            worker.kill()  # the zygote turns out to be dead, so it is dying too
            return await self._take()
        waiter = _Waiter()
        self._waiting.append(waiter)
        self._order()
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.worker is not None:
                self._put_back(waiter.worker)
            raise
        if waiter.worker is None:
            raise SandboxError(self._failure or "no worker")
        return waiter.worker

    async def worker(self) -> Worker:
        """A locked worker that nobody uses yet. Raises SandboxError."""
        for _ in range(3):
            try:
                worker = await self._take()
            except SandboxError:
                if self._lost and self._proven:
                    continue
                raise
            try:
                holding = self._holding(await worker.ready())
            except SandboxError:  # a spare that died while it waited
                worker.kill()
                continue
            except BaseException:
                worker.kill()
                raise
            missing = self.enforced - holding
            if not missing:
                return worker
            worker.kill()
            if missing != {
                "pdeathsig"
            }:  # else the helper was killed as it forked, and the worker has no parent to follow
                raise SandboxError(f"a worker lacks {', '.join(sorted(missing))}")
        raise SandboxError("workers die before they can be used")

    def _unusable(self) -> str | None:
        if self._tasks is None:
            return "enter the sandbox first: `async with ProcessSandbox() as sandbox:`"
        return None if self._lost and self._proven else self._failure


def _locations(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise SandboxError(f"the package {package} is missing: pip install {package}")
    return list(spec.submodule_search_locations)


class _Waiter:
    __slots__ = ("event", "worker")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.worker: Worker | None = None


async def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the zygote, which ends by itself when its socket is closed."""
    fd = os.pidfd_open(process.pid)
    try:
        with anyio.move_on_after(5):
            await anyio.wait_readable(fd)
        if process.poll() is None:
            process.kill()
            await anyio.wait_readable(fd)
        process.wait()
    finally:
        os.close(fd)
