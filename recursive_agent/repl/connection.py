"""One REPL as the host sees it: a worker at the other end of a socket, and the calls it has made of the host."""

from __future__ import annotations

import array
import contextlib
import math
import os
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.abc

from ..errors import SandboxError
from .base import CellResult, CellStatus, HostCall, HostCallError, HostFunction, HostRequest, ReplLimits
from .files import Files
from .protocol import CHUNK, SHARED_STRING, FrameReader, NotPlainData, ProtocolError, pack, unpack

KILL_GRACE = 1.0
"""Seconds after its limit at which a cell that could not be interrupted is killed."""
_MOST_CALLS = 2048
_ATTEMPTS = 3
_READY_BYTES = 64 * 1024
_LOST = "All variables are lost; the next cell starts in a fresh interpreter."
_RESTARTED = "[The interpreter was restarted: the variables of earlier cells are lost.]\n"
_buffer = memoryview(bytearray(CHUNK))


class WorkerGone(Exception):
    """The worker has ended, or speaks nonsense; the message says which."""


class Worker:
    """A worker process: its socket, its pidfd. Sending never waits; what the socket does not take is sent later."""

    def __init__(self, sock: socket.socket, pidfd: int | None, pid: int) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.pid = pid
        self.gone = False
        self._pidfd = pidfd
        self._reader = FrameReader(_READY_BYTES)
        self._bodies: deque[bytes] = deque()
        self._unsent: deque[memoryview] = deque()
        self._layers: list[str] | None = None

    async def ready(self) -> list[str]:
        """The layers that hold for this worker, once it is locked. Raises SandboxError when it failed."""
        if self._layers is None:
            try:
                kind, told = unpack(await self.receive())
            except (WorkerGone, ProtocolError, ValueError) as error:
                raise SandboxError(f"a worker ended before it was ready ({error})") from error
            if kind != "ready":
                raise SandboxError(f"a worker could not be locked: {told}")
            self._layers = [str(layer) for layer in told]
        return self._layers

    def allow(self, message_bytes: int) -> None:
        """From here on it may send messages up to this size."""
        self._reader.limit = message_bytes

    async def receive(self) -> bytes:
        """The next message. Raises WorkerGone, ProtocolError."""
        while not self._bodies:
            try:
                size = self.sock.recv_into(_buffer)
            except BlockingIOError:
                await self._wait()
                continue
            except OSError as error:
                raise WorkerGone("it was killed or crashed") from error
            if size == 0:
                raise WorkerGone("it was killed or crashed")
            self._bodies.extend(self._reader.feed(_buffer[:size]))
        return self._bodies.popleft()

    async def _wait(self) -> None:
        try:
            await anyio.wait_readable(self.sock)
        except (OSError, anyio.ClosedResourceError) as error:
            raise WorkerGone("it was closed") from error

    def ended(self) -> bool:
        """Whether the worker has ended while nobody was looking."""
        if self.gone:
            return True
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def send(self, frame: bytes, tasks: anyio.abc.TaskGroup, fds: Sequence[int] = ()) -> None:
        """Send a frame (with descriptors). One for a worker that is gone is dropped: `receive` tells."""
        if self.gone:
            return
        sent = 0
        if not self._unsent:
            try:
                if fds:
                    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    sent = self.sock.sendmsg([frame], passed)
                else:
                    sent = self.sock.send(frame)
            except BlockingIOError:
                pass
            except OSError:
                return
        if sent < len(frame):
            self._unsent.append(memoryview(frame)[sent:])
            if len(self._unsent) == 1:
                tasks.start_soon(self._send_rest)

    async def _send_rest(self) -> None:
        try:
            while self._unsent and not self.gone:
                await anyio.wait_writable(self.sock)
                with contextlib.suppress(BlockingIOError):
                    rest = self._unsent[0]
                    rest = rest[self.sock.send(rest) :]
                    if rest:
                        self._unsent[0] = rest
                    else:
                        self._unsent.popleft()
        except (OSError, anyio.ClosedResourceError):
            self._unsent.clear()

    def kill(self) -> None:
        """SIGKILL, and close the descriptors."""
        if self.gone:
            return
        self.gone = True
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
        with contextlib.suppress(Exception):  # outside an event loop there is nobody to tell
            anyio.notify_closing(self.sock)
        self.sock.close()


class _Clock:
    """The wall deadline of a cell, which stands still while host calls are pending."""

    def __init__(self, seconds: float) -> None:
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        self._left: float | None = None

    def pause(self) -> None:
        if self._left is None:
            self._left = self.scope.deadline - anyio.current_time()
            self.scope.deadline = math.inf

    def go_on(self) -> None:
        if self._left is not None:
            self.scope.deadline = anyio.current_time() + self._left
            self._left = None


class WorkerRepl:
    """A REPL in a worker; implements `Repl`."""

    def __init__(
        self,
        take_worker: Callable[[], Awaitable[Worker]],
        tasks: anyio.abc.TaskGroup,
        files: Files,
        *,
        call: HostCall,
        functions: Sequence[HostFunction],
        context: Any,
        launcher: bool,
        limits: ReplLimits,
        on_close: Callable[[WorkerRepl], None],
    ) -> None:
        self._take_worker = take_worker
        self._tasks = tasks
        self._files = files
        self._call = call
        self._limits = limits
        self._on_close = on_close
        self._settings = {
            "cell_timeout": limits.cell_timeout,
            "memory_mb": limits.memory_mb,
            "output_chars": limits.output_chars,
            "message_bytes": limits.message_bytes,
            "functions": [[function.name, function.doc] for function in functions],
            "launcher": launcher,
        }
        encoded, self._texts = files.encode(context)
        try:
            self._opening = pack(["open", self._settings, encoded])
        except NotPlainData as error:
            files.release(self._texts)
            raise SandboxError(f"context must be plain data: {error}") from error
        self._worker: Worker | None = None
        self._calls: dict[int, anyio.CancelScope] = {}
        self._answering = 0
        self._idle = anyio.Event()
        self._clock: _Clock | None = None
        self._running = self._closed = False
        self._lost = False

    @property
    def pid(self) -> int | None:
        """Process id of the worker, for observation; None where there is none."""
        return None if self._worker is None else self._worker.pid

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take a worker and set it up. Raises SandboxError."""
        problem = ""
        for _ in range(_ATTEMPTS):  # a spare may have been killed while it waited
            worker = self._worker = await self._take_worker()
            worker.allow(self._limits.message_bytes + 4096)
            worker.send(self._opening, self._tasks, self._files.descriptors(self._texts))
            try:
                kind, *told = unpack(await worker.receive())
            except (WorkerGone, ProtocolError) as error:
                problem = str(error)
            else:
                if kind == "opened":
                    return
                problem = str(told)
            self._drop_worker()
        raise SandboxError(f"the REPL could not be set up: {problem}")

    def _drop_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
        calls, self._calls = self._calls, {}
        for scope in calls.values():
            scope.cancel()

    async def aclose(self) -> None:
        """Kill the worker, cancel its calls and wait for their end, release everything."""
        if not self._closed:
            self._closed = True
            self._files.release(self._texts)
            self._on_close(self)
        self._drop_worker()
        with anyio.CancelScope(shield=True):
            while self._answering:
                self._idle = anyio.Event()
                await self._idle.wait()

    # -- cells -------------------------------------------------------------------------------------------------------

    async def run(self, code: str) -> CellResult:
        """Run one cell; see `Repl.run`. Cancelling it kills the worker."""
        if self._closed or self._running:
            raise SandboxError("the REPL is closed" if self._closed else "a cell is already running in this REPL")
        self._running = True
        try:
            note = ""
            if self._worker is not None and self._worker.ended():
                self._drop_worker()
            if self._worker is None:
                await self.start()
                note = _RESTARTED
            assert self._worker is not None
            return await self._run(self._worker, code, note)
        except BaseException:
            self._drop_worker()
            raise
        finally:
            self._running = False

    async def _run(self, worker: Worker, code: str, note: str) -> CellResult:
        started = anyio.current_time()
        finished: list[Any] = []
        clock = self._clock = _Clock(self._limits.cell_timeout + KILL_GRACE)
        if self._calls:
            clock.pause()
        worker.send(pack(["run", code]), self._tasks)
        why = f"the cell did not stop at its limit of {self._limits.cell_timeout:g} seconds"
        with clock.scope:
            try:
                while True:
                    kind, *fields = unpack(await worker.receive(), self._shared_text)
                    if kind == "done":
                        return self._result(fields[0], finished, note)
                    if kind == "finish":
                        finished[:] = [fields[0]]
                    elif kind == "call":
                        self._begin(worker, *fields)
                    elif kind == "cancel":
                        self._cancel(fields[0])
                    else:
                        raise ProtocolError(f"unknown message {kind!r}")
            except WorkerGone as error:
                why = str(error)
            except (ProtocolError, LookupError, TypeError, ValueError, OverflowError) as error:
                why = f"it broke the protocol ({error})"
        self._drop_worker()
        wall = anyio.current_time() - started
        if finished:
            return CellResult(status=CellStatus.FINISHED, value=finished[0], output=note, wall=wall)
        text = f"The interpreter was killed: {why}. {_LOST}"
        return CellResult(status=CellStatus.KILLED, output=note, error=text, wall=wall)

    def _shared_text(self, code: int, data: bytes) -> str:
        if code != SHARED_STRING:
            raise ProtocolError(f"unknown extension {code}")
        return self._texts[int.from_bytes(data, "little")]

    def _result(self, fields: dict[str, Any], finished: list[Any], note: str) -> CellResult:
        status = CellStatus(fields["status"])
        if status is CellStatus.KILLED or (status is CellStatus.FINISHED) != bool(finished):
            raise ProtocolError("a status that does not fit")
        most = self._limits.output_chars + 1000
        error = fields["error"]
        return CellResult(
            status=status,
            output=note + str(fields["output"])[:most],
            error=None if error is None else str(error)[:most],
            value=finished[0] if finished else None,
            unawaited=tuple(str(name) for name in fields["unawaited"]),
            running=tuple(str(name) for name in fields["running"]),
            wall=float(fields["wall"]),
            cpu=float(fields["cpu"]),
        )

    # -- calls of the host -------------------------------------------------------------------------------------------

    def _begin(
        self, worker: Worker, number: int, name: str, args: list[Any], kwargs: dict[str, Any], cell: int
    ) -> None:
        if not (isinstance(number, int) and isinstance(name, str) and isinstance(args, list) and isinstance(cell, int)):
            raise ProtocolError("a malformed call")
        if number in self._calls or not (isinstance(kwargs, dict) and all(isinstance(key, str) for key in kwargs)):
            raise ProtocolError("a malformed call")
        if len(self._calls) >= _MOST_CALLS:
            raise ProtocolError("more calls at once than allowed")
        request = HostRequest(id=number, name=name, args=tuple(args), kwargs=kwargs, cell=cell)
        scope = self._calls[number] = anyio.CancelScope()
        if self._clock is not None:
            self._clock.pause()
        # Called here and awaited there: tasks start in any order, but launches must be numbered as they were made.
        try:
            answer: Awaitable[Any] | Exception = self._call(request)
        except Exception as error:  # told to the agent as any other failure of a call is
            answer = error
        self._answering += 1
        self._tasks.start_soon(self._answer, worker, self._calls, scope, request, answer)

    def _cancel(self, number: Any) -> None:
        scope = self._calls.pop(number, None)
        if scope is not None:
            scope.cancel()
            self._settled()

    def _settled(self) -> None:
        if not self._calls and self._clock is not None:
            self._clock.go_on()

    async def _answer(
        self,
        worker: Worker,
        calls: dict[int, anyio.CancelScope],
        scope: anyio.CancelScope,
        request: HostRequest,
        answer: Awaitable[Any] | Exception,
    ) -> None:
        try:
            with scope:
                frame = await self._ask(request, answer)
                if calls.pop(request.id, None) is not None:
                    worker.send(frame, self._tasks)
                    self._settled()
        finally:
            calls.pop(request.id, None)
            self._answering -= 1
            if not self._answering:
                self._idle.set()

    async def _ask(self, request: HostRequest, answer: Awaitable[Any] | Exception) -> bytes:
        try:
            if isinstance(answer, Exception):
                raise answer
            return pack(["reply", request.id, True, await answer])
        except HostCallError as error:
            kind, message, data = error.kind, error.message, error.data
        except NotPlainData as error:
            kind, message, data = "ToolError", f"{request.name} gave no plain data: {error}", {}
        except Exception as error:
            kind, message, data = "ToolError", f"{request.name} failed: {type(error).__name__}: {error}", {}
        try:
            return pack(["reply", request.id, False, {"kind": kind, "message": message, "data": data}])
        except NotPlainData:
            return pack(["reply", request.id, False, {"kind": kind, "message": message, "data": {}}])
