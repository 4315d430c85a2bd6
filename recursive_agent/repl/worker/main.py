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
from array import array

from .. import kernel
from ..protocol import FILE_STRING, pack, read_file, unpack
from .cell import Limiter
from .cell_loop import CellLoop
from .errors import Disconnected
from .incoming import Connection, Lost, is_run
from .interpreter import Interpreter
from .limits import CellSelector, ProcessLimiter
from .turns import Turns

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
    if process:
        random.seed(settings.get("seed"))
    else:  # the host's threads use the same clock
        cell.cpu_clock = float  # always 0.0
    cell.starved_clock = limiter.starved
    interpreter.open(settings, context, [strings[index] for index in sorted(strings)])
    limiter.cell = cell
    limiter.allow(settings["memory_mb"] * 1024 * 1024, settings.get("cpu_seconds"))
    connection.frames.memory = limiter

    def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        cell.output.write(f"{category.__name__}: {message}\n")

    selector: CellSelector = loop.selector
    turns = Turns(connection, loop, cell, calls, interpreter.clock)
    selector.cell, selector.turns = cell, turns
    interpreter.take_in_arrived = turns.take_in_arrived
    loop.add_reader(connection.sock, _nothing)  # the selector takes in what comes
    if process:
        warnings.showwarning = show_warning
    connection.send(pack(["opened"]))
    while True:
        body = connection.receive()
        if isinstance(body, Lost) or not is_run(body):
            turns.keep(body)
            continue
        _, source, *replay = unpack(body)
        del body
        if replay:
            report = interpreter.run_cell(source, array("d", replay[0]), complete=replay[1])
            del replay
        else:
            report = interpreter.run_cell(source)
        calls.send(pack(["done", *report]))


def _nothing() -> None: ...


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
