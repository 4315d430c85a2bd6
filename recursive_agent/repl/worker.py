"""The worker: a forked, locked process (or, for trusted code, a thread) in which one agent's cells run."""

from __future__ import annotations

import array
import asyncio
import contextlib
import functools
import os
import random
import resource
import selectors
import signal
import socket
import time
import types
import warnings
from collections import deque
from typing import Any

from . import kernel
from .calls import CellExit, Disconnected, TimedOut
from .interpreter import CellLoop, Interpreter, Limiter
from .output import CELL_PREFIX
from .protocol import CHUNK, FILE_STRING, MAX_FILES, FrameReader, pack, read_file, unpack

HOST_MESSAGE_BYTES = 0xFFFFFFFF
_AGAIN = 0.02
"""Seconds between attempts to interrupt a cell that is over its limit."""
_CPU_GRACE = 2
"""Seconds of CPU after its limit at which the kernel kills a worker that could not be interrupted."""
_HEADROOM = 96 * 1024 * 1024
"""Bytes beyond the memory limit that the worker itself may need, to report that the limit was reached."""
_HERE = os.path.dirname(__file__)  # noqa: PTH120
_LOOP = ("base_events", "events", "selector_events", "unix_events")
_CRITICAL = (
    *(f"{_HERE}/{name}.py" for name in ("worker", "interpreter", "calls", "output", "protocol")),
    *(f"{os.path.dirname(asyncio.__file__)}/{name}.py" for name in _LOOP),  # noqa: PTH120
    selectors.__file__,
)


def in_agent_code(frame: types.FrameType | None) -> bool:
    """Whether an exception may be raised here: in a cell or what it calls, not in the loop or the worker itself."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(CELL_PREFIX):
            return True
        if file.startswith(_CRITICAL):
            return False
        frame = frame.f_back
    return False


class _Selector(selectors.DefaultSelector):
    """Stops the cell's clock while the loop only waits for the host, and ends an idle cell at its limit."""

    interpreter: Interpreter | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        interpreter = self.interpreter
        if interpreter is None or not interpreter.in_cell:
            return super().select(timeout)
        if interpreter.overdue:  # noticed where nothing could be raised
            interpreter.overdue = False
            raise CellExit if interpreter.finished else TimedOut
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        if interpreter.waits_for_host:
            found: list[tuple[selectors.SelectorKey, int]] = interpreter.wait(
                functools.partial(super().select, timeout)
            )
            return found
        left = interpreter.remaining()
        if left <= 0:
            raise TimedOut
        found = super().select(left if timeout is None else min(timeout, left))
        if not found and interpreter.remaining() <= 0:
            raise TimedOut
        return found


class ProcessLimiter(Limiter):
    """Interrupts by a timer signal; memory and CPU by the kernel."""

    def __init__(self) -> None:
        self.interpreter: Interpreter | None = None
        self._tight = self._wide = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self._usage = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # while files can still be opened
        signal.signal(signal.SIGALRM, self._strike)

    def allow(self, memory: int) -> None:
        """From here on cells may take so many bytes of address space more than is in use now."""
        used = int(os.read(self._usage, 100).split()[0]) * resource.getpagesize()
        os.close(self._usage)
        ceiling = used + memory + _HEADROOM
        self._tight, self._wide = (used + memory, ceiling), (ceiling, ceiling)
        resource.setrlimit(resource.RLIMIT_AS, self._wide)

    def start(self, seconds: float) -> None:
        """Arm the timer and the kernel's limits."""
        used = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 1 + _CPU_GRACE, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_AS, self._tight)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-4), _AGAIN)

    def relax(self) -> None:
        """Back to the ceiling; allocates nothing."""
        resource.setrlimit(resource.RLIMIT_AS, self._wide)

    def hurry(self) -> None:
        """Interrupt what keeps a cell that has finished."""
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)

    def stop(self) -> None:
        """Disarm."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.relax()
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def _strike(self, number: int, frame: types.FrameType | None) -> None:
        interpreter = self.interpreter
        if interpreter is None or not interpreter.in_cell:
            return
        if not interpreter.finished:
            left = interpreter.remaining()
            if left > 0:
                signal.setitimer(signal.ITIMER_REAL, left, _AGAIN)
                return
        if not in_agent_code(frame):
            interpreter.overdue = True
        else:
            raise CellExit if interpreter.finished else TimedOut


class Connection:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reader = FrameReader(HOST_MESSAGE_BYTES)
        self._buffer = memoryview(bytearray(CHUNK))  # allocated before memory can run out
        self._bodies: deque[bytes] = deque()

    def send(self, frame: bytes) -> None:
        """Send a frame, however long the host takes to read it."""
        try:
            self.sock.sendall(frame)
        except (BrokenPipeError, ConnectionResetError):
            raise Disconnected from None

    def receive(self) -> bytes:
        """The next body; waits for it."""
        while not self._bodies:
            self._take(self.sock.recv_into(self._buffer))
        return self._bodies.popleft()

    def receive_first(self) -> tuple[bytes, list[int]]:
        """The first body and the descriptors that came with it."""
        fds = array.array("i")
        room = socket.CMSG_SPACE(MAX_FILES * fds.itemsize)
        size, ancillary, _, _ = self.sock.recvmsg_into([self._buffer], room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        self._take(size)
        return self.receive(), list(fds)

    def _take(self, size: int) -> None:
        if size == 0:
            raise Disconnected
        self._bodies.extend(self._reader.feed(self._buffer[:size]))

    @property
    def holds_more(self) -> bool:
        """Whether bodies were received that nobody has taken yet."""
        return bool(self._bodies)

    def poll(self) -> list[bytes]:
        """Bodies that are there already; never waits."""
        try:
            self._take(self.sock.recv_into(self._buffer, 0, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        except ConnectionResetError:
            raise Disconnected from None
        bodies = list(self._bodies)
        self._bodies.clear()
        return bodies


def serve(connection: Connection, loop: CellLoop, limiter: Any, *, policy: bool, process: bool = True) -> None:
    """Set one REPL up and run its cells until the host closes the connection (Disconnected)."""
    body, fds = connection.receive_first()
    strings: dict[int, str] = {}

    def text_of(code: int, data: bytes) -> str:
        if code != FILE_STRING:
            raise ValueError(f"unknown extension {code}")
        index, size = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:], "little")
        if index not in strings:
            strings[index] = read_file(fds[index], size)
        return strings[index]

    _, settings, context = unpack(body, text_of)
    for fd in fds:
        os.close(fd)
    del body
    interpreter = Interpreter(loop, connection.send, limiter, policy=policy)
    interpreter.open(settings, context, [strings[index] for index in sorted(strings)])
    limiter.interpreter = interpreter
    limiter.allow(settings["memory_mb"] * 1024 * 1024)

    def take(body: bytes) -> None:
        kind, *fields = unpack(body)
        if kind == "reply":
            interpreter.deliver(*fields)
        elif kind == "run":
            if connection.holds_more:  # replies that came together with it
                loop.call_soon(readable)
            connection.send(pack(["done", interpreter.run_cell(fields[0])]))

    def readable() -> None:
        for body in connection.poll():
            take(body)

    loop._selector.interpreter = interpreter  # type: ignore[attr-defined]
    loop.add_reader(connection.sock, readable)
    if process:
        warnings.showwarning = lambda message, category, *_: interpreter.write(f"{category.__name__}: {message}\n")
    connection.send(pack(["opened"]))
    while True:
        take(connection.receive())


def make_loop() -> CellLoop:
    """The event loop of a worker, whose selector keeps the cell's clock."""
    loop = CellLoop(_Selector())
    loop.set_exception_handler(lambda *_: None)
    return loop


def main(sock: socket.socket, parent: int, *, policy: bool) -> None:
    """Life of a worker after the fork. Does not return."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sock.setblocking(True)
        limiter = ProcessLimiter()
        loop = make_loop()
        random.seed()
        layers = kernel.lock_down(parent)
        connection = Connection(sock)
        connection.send(pack(["ready", layers]))
        serve(connection, loop, limiter, policy=policy)
    except (Disconnected, ConnectionResetError):
        os._exit(0)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            sock.sendall(pack(["failed", f"{type(error).__name__}: {error}"]))
        os._exit(1)
