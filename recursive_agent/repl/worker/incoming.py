"""The worker's end of the socket: frames are cut out of the stream even where there is no memory for their contents.

A reply that the memory limit has no room for is read to its end and thrown away; what is left of it is `Lost`, with its
number and size, so that the call it answers can fail with a reason and the connection stays in step.
"""

from __future__ import annotations

import array
import socket
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from ..protocol import CHUNK, HEADER, MAX_FILES, pack
from .errors import Disconnected

START = 16
"""Bytes of a body that hold the kind of a message and the number of the call that it answers."""
_RESERVE = 8 * 1024 * 1024
"""Bytes that a large reply must leave free, for the next cell to start in."""
_REPLY = pack(["reply", 0, True, None])[HEADER.size : HEADER.size + 7]
_RUN = pack(["run", ""])[HEADER.size + 1 : HEADER.size + 5]
_NUMBERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}


class Memory(Protocol):
    """The limit of memory, as far as receiving depends on it."""

    def tighten(self) -> bool:
        """Put the limit of cells into force; whether it was out of force."""

    def relax(self) -> None:
        """Give the worker room."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A reply that there was no memory for: the number of its call and its bytes."""

    number: int
    size: int


def is_reply(body: bytes | bytearray) -> bool:
    """Whether a body (or its start) is that of a reply."""
    return body[: len(_REPLY)] == _REPLY


def is_run(body: bytes | bytearray) -> bool:
    """Whether a body is the order to run a cell."""
    return body[1 : len(_RUN) + 1] == _RUN


def number_of(start: bytes | bytearray) -> int:
    """The number of the call that a reply answers, from the start of its body."""
    tag = start[len(_REPLY)]
    if tag < 0x80:
        return tag
    begin = len(_REPLY) + 1
    return int.from_bytes(start[begin : begin + _NUMBERS.get(tag, 0)], "big")


class _Partial:
    """A frame of which only the beginning has arrived."""

    __slots__ = ("body", "filled", "head", "size")

    def __init__(self) -> None:
        self.head = bytearray()  # the length, then the first bytes of the body
        self.size = -1
        self.body: bytearray | None = None  # none yet, or none at all
        self.filled = 0


class Frames:
    """Cuts the stream into bodies."""

    def __init__(self) -> None:
        self.memory: Memory | None = None
        """The limit that large bodies must fit into; none before the REPL is opened."""
        self._partial: _Partial | None = None

    def feed(self, data: memoryview, into: deque[bytes | bytearray | Lost]) -> None:
        """Take in `data`; put what is complete into `into`."""
        while data:
            if self._partial is None:
                if len(data) >= HEADER.size:
                    (size,) = HEADER.unpack_from(data)
                    end = HEADER.size + size
                    if len(data) >= end:
                        into.append(self._whole(data[HEADER.size : end]))
                        data = data[end:]
                        continue
                self._partial = _Partial()
            data = self._go_on(self._partial, data, into)

    def _whole(self, data: memoryview) -> bytes:
        try:
            return bytes(data)
        except MemoryError:  # little as it is
            tight = self._relax()
            try:
                return bytes(data)
            finally:
                self._tighten(tight)

    def _go_on(self, partial: _Partial, data: memoryview, into: deque[bytes | bytearray | Lost]) -> memoryview:
        if partial.filled == 0:
            if partial.size < 0:
                data = self._fill_head(partial, data, HEADER.size)
                if len(partial.head) < HEADER.size:
                    return data
                (partial.size,) = HEADER.unpack_from(partial.head)
            start = min(partial.size, START)
            data = self._fill_head(partial, data, HEADER.size + start)
            if len(partial.head) < HEADER.size + start:
                return data
            body = partial.body = self._room(partial.size, partial.head[HEADER.size :])
            if body is not None:
                body[:start] = partial.head[HEADER.size :]
            partial.filled = start
        size = min(len(data), partial.size - partial.filled)
        if partial.body is not None:
            partial.body[partial.filled : partial.filled + size] = data[:size]
        partial.filled += size
        if partial.filled == partial.size:
            self._partial = None
            body = partial.body
            into.append(Lost(number_of(partial.head[HEADER.size :]), partial.size) if body is None else body)
        return data[size:]

    @staticmethod
    def _fill_head(partial: _Partial, data: memoryview, size: int) -> memoryview:
        part = data[: max(0, size - len(partial.head))]
        partial.head += part
        return data[len(part) :]

    def _room(self, size: int, start: bytearray) -> bytearray | None:
        """Room for a body; None for a reply that the limit of memory leaves none for."""
        if size <= CHUNK or self.memory is None or not is_reply(start):
            return self._room_for_us(size)
        loose = self.memory.tighten()
        try:
            bytes(size + _RESERVE)  # only to see whether there is so much; it is never touched
            return bytearray(size)
        except MemoryError:
            return None
        finally:
            if loose:
                self.memory.relax()

    def _room_for_us(self, size: int) -> bytearray:
        try:
            return bytearray(size)
        except MemoryError:
            tight = self._relax()
            try:
                return bytearray(size)
            finally:
                self._tighten(tight)

    def _relax(self) -> bool:
        if self.memory is None:
            return False
        tight = not self.memory.tighten()
        self.memory.relax()
        return tight

    def _tighten(self, tight: bool) -> None:
        if tight and self.memory is not None:
            self.memory.tighten()


class Connection:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.frames = Frames()
        self._buffer = memoryview(bytearray(CHUNK))  # allocated before memory can run out
        self._bodies: deque[bytes | bytearray | Lost] = deque()

    def send(self, frame: bytes) -> None:
        """Send a frame, however long the host takes to read it."""
        try:
            self.sock.sendall(frame)
        except (BrokenPipeError, ConnectionResetError):
            raise Disconnected from None

    def receive(self) -> bytes | bytearray | Lost:
        """The next body; waits for it."""
        while not self._bodies:
            self._take(self.sock.recv_into(self._buffer))
        return self._bodies.popleft()

    def receive_first(self) -> tuple[bytes | bytearray | Lost, list[int]]:
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
        self.frames.feed(self._buffer[:size], self._bodies)

    def poll(self) -> None:
        """Receive what is there already; never waits."""
        try:
            self._take(self.sock.recv_into(self._buffer, 0, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        except ConnectionResetError:
            raise Disconnected from None

    @property
    def holds_more(self) -> bool:
        """Whether bodies were received that nobody has taken yet, so that `receive` would not wait."""
        return bool(self._bodies)
