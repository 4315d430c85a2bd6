"""The worker: a forked, locked process (or, for trusted code, a thread) in which one agent's cells run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import random
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
import types
import warnings
from typing import Any

from . import kernel
from .calls import CellExit, Disconnected, TimedOut
from .cell_loop import CellLoop
from .incoming import Connection, Lost, is_reply
from .interpreter import Interpreter, Limiter
from .output import CELL_PREFIX
from .protocol import FILE_STRING, pack, read_file, unpack

DIGITS = 250_000
"""Decimal digits that a whole number may be spelt with or read from: about a second of work, within the cell's clock."""
_AGAIN = 0.02
"""Seconds between attempts to interrupt a cell that is over its limit."""
_CPU_GRACE = 2
"""Seconds of CPU after its limit at which the kernel kills a worker that could not be interrupted."""
_HEADROOM = 96 * 1024 * 1024
"""Bytes beyond the memory limit that the worker itself may need, to report that the limit was reached."""
_HERE = os.path.dirname(__file__)  # noqa: PTH120
_LOOP_FILES = ("base_events", "events", "selector_events", "unix_events")
_CRITICAL = (
    *(f"{_HERE}/{n}.py" for n in ("worker", "interpreter", "calls", "cell_loop", "incoming", "output", "protocol")),
    *(f"{os.path.dirname(asyncio.__file__)}/{name}.py" for name in _LOOP_FILES),  # noqa: PTH120
    selectors.__file__,
)
_HARMLESS = (
    CELL_PREFIX,
    *(f"{_HERE}/{name}.py" for name in ("fits", "outgoing", "plain", "policy", "returns")),
    traceback.__file__,
)
"""Cells, and what we do with their values and sources before anything is sent or kept."""


def in_agent_code(frame: types.FrameType | None) -> bool:
    """Whether an exception may be raised here: in a cell or what it calls, not in the loop or the worker itself."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_HARMLESS):
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
    """Interrupts by a timer signal; memory and CPU by the kernel. Between cells no garbage is collected by itself."""

    def __init__(self) -> None:
        self.interpreter: Interpreter | None = None
        self._tight = self._wide = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self._is_tight = False
        self._cpu = resource.RLIM_INFINITY
        self._usage = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # while files can still be opened
        signal.signal(signal.SIGALRM, self._strike)

    def allow(self, memory: int, cpu: float | None = None) -> None:
        """From here on cells may take so many bytes of address space more than is in use now, and `cpu` seconds in all.

        The kernel's hard limits are the ceiling and the CPU of a whole life: code of any kind can lower them, not raise them.
        """
        used = int(os.read(self._usage, 100).split()[0]) * resource.getpagesize()
        os.close(self._usage)
        ceiling = used + memory + _HEADROOM
        self._tight, self._wide = (used + memory, ceiling), (ceiling, ceiling)
        resource.setrlimit(resource.RLIMIT_AS, self._wide)
        if cpu is not None:
            self._cpu = int(time.process_time()) + 1 + int(cpu)
        self._allow_cpu(0)

    def _allow_cpu(self, seconds: float) -> None:
        soft = int(time.process_time() + seconds) + 1 + _CPU_GRACE
        soft = soft if self._cpu == resource.RLIM_INFINITY else min(soft, self._cpu)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, self._cpu))

    def start(self, seconds: float) -> None:
        """Arm the timer and the kernel's limits."""
        self._allow_cpu(seconds)
        self.tighten()
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-4), _AGAIN)
        gc.enable()

    def tighten(self) -> bool:
        """The memory limit of cells; whether it was not in force."""
        loose, self._is_tight = not self._is_tight, True
        resource.setrlimit(resource.RLIMIT_AS, self._tight)
        return loose

    def relax(self) -> None:
        """Back to the ceiling; allocates nothing."""
        resource.setrlimit(resource.RLIMIT_AS, self._wide)
        self._is_tight = False

    def hurry(self) -> None:
        """Interrupt what keeps a cell that has finished."""
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)

    def stop(self) -> None:
        """Disarm. Until the next start the kernel allows no more CPU than it takes to receive what the host sends."""
        gc.disable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.relax()
        self._allow_cpu(0)

    def _strike(self, number: int, frame: types.FrameType | None) -> None:
        interpreter = self.interpreter
        if interpreter is None or not interpreter.in_cell:
            return
        if not interpreter.finished:
            left = interpreter.remaining()
            if left > 0:
                signal.setitimer(signal.ITIMER_REAL, max(left, _AGAIN), _AGAIN)
                return
        if not in_agent_code(frame):
            interpreter.overdue = True
        else:
            raise CellExit if interpreter.finished else TimedOut


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

    assert not isinstance(body, Lost)  # as long as the connection knows no limit, nothing is
    _, settings, context = unpack(body, text_of)
    for fd in fds:
        os.close(fd)
    del body
    interpreter = Interpreter(loop, connection.send, limiter, policy=policy)
    if not process:  # the host's threads use the same clock
        interpreter.cpu_clock = float  # always 0.0
    interpreter.open(settings, context, [strings[index] for index in sorted(strings)])
    limiter.interpreter = interpreter
    limiter.allow(settings["memory_mb"] * 1024 * 1024, settings.get("cpu_seconds"))
    connection.frames.memory = limiter

    def readable() -> None:  # in a cell, for the loop runs only then
        connection.poll()
        while connection.holds_more:
            interpreter.take_in(connection.receive())

    loop._selector.interpreter = interpreter  # type: ignore[attr-defined]
    loop.add_reader(connection.sock, readable)
    if process:
        warnings.showwarning = lambda message, category, *_: interpreter.write(f"{category.__name__}: {message}\n")
    connection.send(pack(["opened"]))
    while True:
        body = connection.receive()
        if isinstance(body, Lost) or is_reply(body):
            interpreter.arrived.append(body)
            continue
        _, source = unpack(body)
        if connection.holds_more:  # replies that came together with it
            loop.call_soon(readable)
        connection.send(pack(["done", interpreter.run_cell(source)]))


def make_loop() -> CellLoop:
    """The event loop of a worker, whose selector keeps the cell's clock."""
    return CellLoop(_Selector())


def main(sock: socket.socket, parent: int, *, policy: bool) -> None:
    """Life of a worker after the fork. Does not return."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sock.setblocking(True)
        limiter = ProcessLimiter()
        loop = make_loop()
        random.seed()
        gc.disable()
        sys.set_int_max_str_digits(DIGITS)
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
