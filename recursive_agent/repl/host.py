"""The host's side of the `process` sandbox: owns the zygote, the workers and every descriptor to them."""

from __future__ import annotations

import array
import errno
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from typing import Literal, Self

import anyio

from ..errors import SandboxError
from . import helper, kernel, zygote
from .link import Worker
from .sandbox import WorkerSandbox
from .watchdog import resident_bytes

_log = logging.getLogger("recursive_agent")
_START_SECONDS = 30.0
_PATIENCE = 10.0
"""Seconds to wait for a worker while new ones are refused."""
_LONGEST_PAUSE = 1.0
"""Seconds between attempts to start workers, at most."""
_MOST_REVIVALS = 5
"""Zygotes in a row that may be killed before they give a worker."""
_REQUIRED = {"kernel": kernel.KERNEL_LAYERS}


class ProcessSandbox(WorkerSandbox):
    """An isolated process for each REPL, forked from a helper process (zygote) that shares nothing with this process.

    `spares` workers are started in advance. `policy=False` turns the restricted Python off, so that only the kernel
    isolates the code (meant for tests). If a layer of the kernel is not available, entering the sandbox raises
    SandboxError; `require=None` allows it.
    """

    def __init__(self, *, require: Literal["kernel"] | None = "kernel", spares: int = 8, policy: bool = True) -> None:
        super().__init__()
        self._required = _REQUIRED[require] if require is not None else frozenset()
        self._spare_target = spares
        self._restricted = policy
        self._owner = 0
        self._zygote: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._spares: deque[Worker] = deque()
        self._coming = 0
        self._waiting: deque[_Waiter] = deque()
        self._failure: str | None = None
        self._lost = False
        """Whether the failure is that the zygote ended by itself."""
        self._revivals = 0
        """How often a lost zygote is replaced before the next worker comes; never before the first worker."""
        self._generation = 0
        """Counts how often all spares were thrown away."""
        self._stale = 0
        """Workers under way from the zygote that were forked before the spares were thrown away."""
        self._revival = anyio.Lock()
        self._refusal: _Refusal | None = None
        """Why no worker could be started lately."""

    # -- life --------------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Start the helper process now, so that other work can be done while it starts; entering waits for it.

        For `async with`, which leaves the sandbox in any case. Raises SandboxError.
        """
        if self._zygote is None:
            self._start()

    async def __aenter__(self) -> Self:
        self.launch()
        try:
            tasks = await self._begin()
            tasks.start_soon(self._receive_workers, self._socket)
            with anyio.fail_after(_START_SECONDS):
                first = await self._take()
                self._spares.appendleft(first)  # so that it is released whatever comes
                self.enforced = self._holding(await first.ready())
            self._watchdog.fresh_bytes = resident_bytes(first.pid)
            missing = self._required - self.enforced
            if missing:
                raise SandboxError(kernel.refusal(missing))
            if missing := kernel.KERNEL_LAYERS - self.enforced:
                _log.warning("%s", kernel.warning(missing))
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            if isinstance(error, TimeoutError):
                raise SandboxError("the sandbox's zygote did not start") from error
            raise
        return self

    def _command(self, arguments: list[str]) -> list[str]:
        """The program that starts the zygote: Python with these arguments."""
        return [sys.executable, *arguments]

    def _pid(self, pidfd: int, reported: int) -> int:
        """Process id of a worker as this process sees it; `reported` is the id as the zygote sees it."""
        return reported

    def _start(self) -> None:
        """Start a zygote. Raises SandboxError."""
        if problem := kernel.why_root_cannot_start():
            raise SandboxError(problem)
        self._owner = os.getpid()
        self._zygote, self._socket = helper.start(self._command, restricted=self._restricted)

    async def __aexit__(self, *exc: object) -> None:
        self._fail("the sandbox is closed")
        try:
            await self._end()
        finally:
            while self._spares:
                self._spares.popleft().kill()
            self._hang_up()
            if self._zygote is not None:
                with anyio.CancelScope(shield=True):
                    await helper.wait(self._zygote)
            self._files.close()

    def _hang_up(self) -> None:
        if self._socket is not None:
            with suppress(Exception):  # outside an event loop nobody waits for it
                anyio.notify_closing(self._socket)
            self._socket.close()
            self._socket = None

    def _holding(self, layers: frozenset[str]) -> frozenset[str]:
        return layers | {"process"} | ({"policy"} if self._restricted else set())

    # -- workers -----------------------------------------------------------------------------------------------------

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        while self._waiting:
            self._waiting.popleft().event.set()

    def _order(self) -> None:
        """Ask the zygote for as many workers as are waited for, and the spares."""
        count = len(self._waiting) + self._spare_target - len(self._spares) - self._coming
        if self._refusal is not None and self._refusal.resting:
            return
        if count > 0 and self._socket is not None and self._failure is None:
            try:
                self._socket.send(zygote.REQUEST.pack(min(count, 0xFFFF)))
            except BlockingIOError:
                pass  # the zygote has orders enough; the next worker that comes brings us here again
            except OSError as error:
                self._lose(f"the sandbox's zygote is gone ({error.strerror})")
            else:
                self._coming += count

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or self._failure is None  # it is noticed at both ends of the socket
        self._fail(reason)

    async def _revive(self) -> None:
        """Start another zygote where one that worked was killed (by the kernel's out-of-memory killer, say).

        Its workers died with it. A new one may be killed as well before it gives a worker, so it is tried a few times. One
        that ends by itself before that would not do better a second time. Raises SandboxError.
        """
        async with self._revival:
            if not self._can_revive or self._tasks is None or self._zygote is None:
                return
            await helper.wait(self._zygote)
            while self._spares:
                self._spares.popleft().kill()
            self._hang_up()
            gave_a_worker = self._revivals == _MOST_REVIVALS
            if not gave_a_worker and self._zygote.returncode >= 0:
                self._revivals = 0
                return
            self._start()  # where it fails, everything stands as it was: the next one to ask tries again
            self._coming = self._stale = 0
            self._failure, self._lost = None, False
            self._revivals -= 1
            self._tasks.start_soon(self._receive_workers, self._socket)

    @property
    def _can_revive(self) -> bool:
        """Whether the zygote is lost and may be replaced."""
        return self._lost and self._revivals > 0

    async def _receive_workers(self, zygote_socket: socket.socket | None) -> None:
        """Take in what one zygote gives. It may be lost, and replaced, before this begins."""
        if zygote_socket is None or zygote_socket is not self._socket:
            return
        room = socket.CMSG_SPACE(2 * array.array("i").itemsize)
        while True:
            try:
                await anyio.wait_readable(zygote_socket)
                data, ancillary, _, _ = zygote_socket.recvmsg(zygote.BORN.size, room, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                continue
            except (OSError, anyio.ClosedResourceError):
                data, ancillary = b"", []
            fds = array.array("i")
            for _, _, part in ancillary:
                fds.frombytes(part[: len(part) - len(part) % fds.itemsize])
            if zygote_socket is not self._socket:  # another zygote has taken its place
                for fd in fds:
                    os.close(fd)
                return
            if not data:
                self._lose("the sandbox's zygote has ended")
                return
            self._coming -= 1
            stale = self._stale > 0
            self._stale = max(0, self._stale - 1)
            (pid,) = zygote.BORN.unpack(data)
            if pid <= 0 or len(fds) != 2:  # a worker whose descriptors got lost sees its socket closed, and ends
                for fd in fds:
                    os.close(fd)
                self._refused(-pid if pid <= 0 else errno.EMFILE)
                continue
            self._revivals = _MOST_REVIVALS
            self._refusal = None
            worker = Worker(socket.socket(fileno=fds[0]), fds[1], self._pid(fds[1], pid), generation=self._generation)
            if stale:
                worker.kill()
            else:
                self._put_back(worker)
            self._order()

    def _refused(self, number: int) -> None:
        """No worker could be started for want of processes, memory or descriptors: try again a little later."""
        refusal = self._refusal = self._refusal or _Refusal()
        refusal.reason = (
            "no descriptors are left for another interpreter: raise RLIMIT_NOFILE (ulimit -n)"
            if number in (errno.EMFILE, errno.ENFILE)
            else f"no process can be started for another interpreter ({os.strerror(number)})"
        )
        if not refusal.resting and self._tasks is not None:
            refusal.resting = True
            self._tasks.start_soon(self._try_again, refusal)

    async def _try_again(self, refusal: _Refusal) -> None:
        await anyio.sleep(refusal.pause)
        refusal.pause = min(refusal.pause * 2, _LONGEST_PAUSE)
        refusal.resting = False
        if self._refusal is refusal:
            self._order()

    def _put_back(self, worker: Worker) -> None:
        """Give a worker to whoever has waited longest, or keep it."""
        if self._failure is not None:  # nobody will look at the spares again
            worker.kill()
        elif self._waiting:
            waiter = self._waiting.popleft()
            waiter.worker = worker
            waiter.event.set()
        elif len(self._spares) < self._spare_target:
            self._spares.append(worker)
        else:  # it was ordered for one who has gone
            worker.kill()

    def _throw_spares_away(self) -> None:
        """A worker was killed, and whoever did that may have killed all of them: one that is still to die looks alive.

        From here on only workers count that are forked after this. The zygote gives them in the order of their birth, so
        the next ones to come are older.
        """
        self._generation += 1
        self._stale = self._coming
        while self._spares:
            self._spares.popleft().kill()

    async def _take(self) -> Worker:
        if self._owner != os.getpid():
            raise SandboxError("this sandbox was opened before the process forked; open another one after the fork")
        if self._lost:
            await self._revive()
        if self._failure is not None:
            raise SandboxError(self._failure)
        while self._spares:
            worker = self._spares.popleft()
            if worker.ended():
                worker.kill()
                continue
            self._order()
            if not self._lost:
                return worker
            worker.kill()  # the zygote turns out to be dead, so it is dying too
            return await self._take()
        waiter = _Waiter()
        self._waiting.append(waiter)
        self._order()
        try:
            while not waiter.event.is_set():
                with anyio.move_on_after(_PATIENCE):
                    await waiter.event.wait()
                if not waiter.event.is_set() and self._refusal is not None:
                    raise SandboxError(self._refusal.reason)
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.worker is not None:
                self._put_back(waiter.worker)
            raise
        if waiter.worker is None:
            raise SandboxError(self._failure or "no worker")
        return waiter.worker

    async def worker(self, dead: Worker | None = None) -> Worker:
        """A locked worker that nobody uses yet; see `WorkerSandbox.worker`. Raises SandboxError."""
        if dead is not None and dead.generation == self._generation:
            self._throw_spares_away()
        problem = ""
        for _ in range(self._spare_target + 3):  # all spares may have died at once
            try:
                worker = await self._take()
            except SandboxError as error:
                if self._can_revive:
                    problem = str(error)
                    continue
                raise
            try:
                holding = self._holding(await worker.ready())
            except SandboxError as error:  # a spare that died while it waited
                problem = str(error)
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
        raise SandboxError(f"workers die before they can be used: {problem}")

    def _unusable(self) -> str | None:
        if self._tasks is None:
            return "enter the sandbox first: `async with ProcessSandbox() as sandbox:`"
        return None if self._can_revive else self._failure


class _Refusal:
    """New workers were refused: why, and how long until the next attempt."""

    def __init__(self) -> None:
        self.reason = ""
        self.pause = 0.05
        self.resting = False


class _Waiter:
    __slots__ = ("event", "worker")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.worker: Worker | None = None
