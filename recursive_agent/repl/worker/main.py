"""The worker: a forked, locked process (or, for trusted code, a thread) in which one agent's cells run."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import socket
import sys
import warnings

from .. import kernel
from ..protocol import FILE_STRING, pack, read_file, unpack
from .cell import Limiter
from .cell_loop import CellLoop
from .errors import Disconnected
from .incoming import Connection, Lost, is_reply
from .interpreter import Interpreter
from .limits import CellSelector, ProcessLimiter

DIGITS = 250_000
"""Decimal digits that a whole number may be spelt with or read from: about a second of work, within the cell's clock."""


def serve(connection: Connection, loop: CellLoop, limiter: Limiter, *, restricted: bool, process: bool = True) -> None:
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
    interpreter = Interpreter(loop, connection.send, limiter, restricted=restricted)
    cell, calls = interpreter.cell, interpreter.calls
    if not process:  # the host's threads use the same clock
        cell.cpu_clock = float  # always 0.0
    interpreter.open(settings, context, [strings[index] for index in sorted(strings)])
    limiter.cell = cell
    limiter.allow(settings["memory_mb"] * 1024 * 1024, settings.get("cpu_seconds"))
    connection.frames.memory = limiter

    def readable() -> None:  # in a cell, for the loop runs only then
        connection.poll()
        while connection.holds_more:
            calls.take_in(connection.receive())

    def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        cell.output.write(f"{category.__name__}: {message}\n")

    selector: CellSelector = loop.selector
    selector.cell, selector.calls = cell, calls
    loop.add_reader(connection.sock, readable)
    if process:
        warnings.showwarning = show_warning
    connection.send(pack(["opened"]))
    while True:
        body = connection.receive()
        if isinstance(body, Lost) or is_reply(body):
            calls.arrived.append(body)
            continue
        _, source = unpack(body)
        if connection.holds_more:  # replies that came together with it
            loop.call_soon(readable)
        connection.send(pack(["done", *interpreter.run_cell(source)]))


def make_loop() -> CellLoop:
    """The event loop of a worker, whose selector keeps the cell's clock."""
    return CellLoop(CellSelector())


def main(sock: socket.socket, parent: int, *, restricted: bool) -> None:
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
        serve(connection, loop, limiter, restricted=restricted)
    except (Disconnected, ConnectionResetError):
        os._exit(0)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            sock.sendall(pack(["failed", f"{type(error).__name__}: {error}"]))
        os._exit(1)
