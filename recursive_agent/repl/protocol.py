"""The wire between host and worker: length-prefixed msgpack frames, never pickle, and sealed memory files for large strings.

A frame is four bytes of little-endian length and a msgpack array `[kind, ...]`.

    host → worker   open, run, reply, absent
    worker → host   ready, opened, call, cancel, clock, live, diverged, finish, done

This module is imported on both sides, so it imports nothing of the package above it.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import struct
from collections.abc import Callable
from typing import Any

import msgpack

HEADER = struct.Struct("<I")
CHUNK = 64 * 1024
LARGE_STRING = 1024 * 1024
"""Characters from which a string of `context` travels by memory file rather than through the socket."""
MAX_FILES = 200
"""Memory files in one `open`; the kernel passes at most 253 descriptors with a message."""
MAX_DEPTH = 100
"""Nesting of plain data that may be sent."""
MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest message a worker may send, in bytes."""
MESSAGE_OBJECTS = 100_000
"""Most values (numbers, texts, lists, dicts, keys, …) that one message of a worker may hold."""
MESSAGE_TUPLE_KEYS = 1_000
"""Most keys of dicts in one message that are tuples."""

MOST_CLOCK = 100_000
"""Numbers in the log of one cell (see `worker.clock`), at most."""

BIG_INT, FILE_STRING, SHARED_STRING = 1, 2, 3
BIG_INT_BYTES = 128 * 1024
"""Largest whole number that travels, in bytes."""
_ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ProtocolError(Exception):
    """The other side sent something that is no frame of this protocol."""


class TooLarge(ProtocolError):
    """A message holds more values, or nests deeper, than allowed; the sentence says which."""


class NotPlainData(TypeError):
    """A value that cannot travel; the message says which and why."""


def _pack_default(value: Any) -> Any:
    if isinstance(value, int):
        if value.bit_length() >= BIG_INT_BYTES * 8:
            raise TypeError(f"a whole number of {value.bit_length():,} bits is too large to send")
        return msgpack.ExtType(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    raise TypeError(f"cannot send a {type(value).__name__}")


def pack(message: Any, default: Callable[[Any], Any] = _pack_default, *, errors: str = "surrogatepass") -> bytes:
    """A frame. Raises NotPlainData where the message holds anything but plain data."""
    try:
        body: bytes = msgpack.packb(message, default=default, unicode_errors=errors)
    except UnicodeEncodeError as error:
        raise NotPlainData(f"a string is not valid text: {error.reason}") from None
    except (ValueError, RecursionError) as error:
        raise NotPlainData(f"nested too deeply, or contains itself ({error})") from None
    except (TypeError, OverflowError) as error:
        raise NotPlainData(str(error)) from None
    if len(body) > 0xFFFFFFFF:
        raise NotPlainData("larger than 4 GiB")
    return HEADER.pack(len(body)) + body


pack_default = _pack_default


def unpack(
    body: bytes | bytearray | memoryview,
    extension: Callable[[int, bytes], Any] | None = None,
    *,
    errors: str = "surrogatepass",
) -> list[Any]:
    """The message of a frame's body, `[kind, ...]`. Raises ProtocolError for anything malformed.

    `extension(code, data)` answers for the string references, whose meaning differs by side. `errors` is how text that
    is no UTF-8 is taken; `strict` costs no more than the text is long.
    """

    def hook(code: int, data: bytes) -> Any:
        if code == BIG_INT and len(data) <= BIG_INT_BYTES:
            return int.from_bytes(data, "little", signed=True)
        if extension is None:
            raise ProtocolError(f"unknown extension {code}")
        return extension(code, data)

    read = functools.partial(msgpack.unpackb, body, ext_hook=hook, strict_map_key=False, unicode_errors=errors)
    try:
        try:
            message = read()
        except TypeError:  # a dict with tuples for keys, which travel as arrays; too rare to look out for always
            message = read(object_pairs_hook=lambda pairs: {_as_key(key): value for key, value in pairs})
    except ProtocolError:
        raise
    except (
        ValueError,
        TypeError,
        MemoryError,
        RecursionError,
        LookupError,
        OverflowError,
        msgpack.UnpackException,
    ) as e:
        raise ProtocolError(f"malformed message: {type(e).__name__}: {e}") from None
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise ProtocolError("a message is an array that starts with its kind")
    return message


# What each first byte of msgpack stands for, and how many bytes of payload, or of length, follow it.
_LEAF, _SIZED, _EXTENSION, _ITEMS, _PAIRS, _NEVER = range(6)


def _layout(tag: int) -> tuple[int, int]:
    if tag < 0x80 or tag >= 0xE0 or tag in (0xC0, 0xC2, 0xC3):
        return _LEAF, 0
    if tag < 0xA0:
        return (_PAIRS if tag < 0x90 else _ITEMS), -(tag & 0x0F) - 1  # the number of items stands in the tag itself
    if tag < 0xC0:
        return _LEAF, tag & 0x1F
    kinds = {0xC1: (_NEVER, 0), 0xDC: (_ITEMS, 2), 0xDD: (_ITEMS, 4), 0xDE: (_PAIRS, 2), 0xDF: (_PAIRS, 4)}
    kinds |= {first + i: (_SIZED, 1 << i) for first in (0xC4, 0xD9) for i in range(3)}
    kinds |= {0xC7 + i: (_EXTENSION, 1 << i) for i in range(3)} | {0xD4 + i: (_EXTENSION, 0) for i in range(5)}
    kinds |= {0xCA: (_LEAF, 4), 0xCB: (_LEAF, 8)}
    kinds |= {first + i: (_LEAF, 1 << i) for first in (0xCC, 0xD0) for i in range(4)}
    return kinds[tag]


_LAYOUT = tuple(_layout(tag) for tag in range(256))


def measure(body: bytes, most_objects: int = MESSAGE_OBJECTS, most_depth: int = MAX_DEPTH) -> int:
    """The number of values in a msgpack body, from its headers alone: nothing is built.

    Raises TooLarge for a limit, ProtocolError for what is no single value; see `counted`.
    """
    return counted(body, most_objects, most_depth)[0]


def counted(body: bytes, most_objects: int, most_depth: int) -> tuple[int, int]:
    """The number of values in a msgpack body and how many of them are lists and dicts, from its headers alone.

    Stops at the first header that leads past a limit. Keys of a map must be plain, or arrays (tuples) of which there may
    be few: anything else could be chosen so that all keys have one hash, and building the dict would take minutes.
    Raises TooLarge for a limit, ProtocolError for what is no single value.
    """
    layout, end = _LAYOUT, len(body)
    position = tuples = containers = 0
    objects = 1
    """Values that the headers so far announce."""
    left, pairs = 1, False
    outer: list[tuple[int, bool]] = []
    try:
        while True:
            while not left:
                if not outer:
                    if position != end:
                        raise ProtocolError("malformed message: its length does not fit its contents")
                    return objects, containers
                left, pairs = outer.pop()
            left -= 1
            tag = body[position]
            kind, size = layout[tag]
            position += 1
            if kind == _LEAF:
                position += size
            elif kind == _SIZED:
                position += size + int.from_bytes(body[position : position + size], "big")
            elif kind == _NEVER:
                raise ProtocolError("malformed message: a byte that msgpack does not use")
            else:
                if pairs and left & 1:
                    tuples += 1
                    if kind != _ITEMS or tuples > MESSAGE_TUPLE_KEYS:
                        raise TooLarge(
                            f"more than {MESSAGE_TUPLE_KEYS:,} keys of dicts that are no text or small numbers"
                        )
                if kind == _EXTENSION:
                    length = int.from_bytes(body[position : position + size], "big") if size else 1 << (tag - 0xD4)
                    if body[position + size] > 0x7F:  # msgpack's own types, its timestamps
                        raise ProtocolError("malformed message: an extension that is none of ours")
                    position += size + 1 + length
                    continue
                if size < 0:
                    count = -size - 1
                else:
                    count = int.from_bytes(body[position : position + size], "big")
                    position += size
                containers += 1
                outer.append((left, pairs))
                pairs = kind == _PAIRS
                left = count * 2 if pairs else count
                objects += left
                if objects > most_objects:
                    raise TooLarge(f"more than {most_objects:,} values in one message")
                if len(outer) > most_depth:
                    raise TooLarge(f"nested deeper than {most_depth} levels")
            if position > end:
                raise ProtocolError("malformed message: it ends too early")
    except IndexError:
        raise ProtocolError("malformed message: it ends too early") from None


_SMALL = 4 * 1024
_ASCII = bytes(range(0x80))


def is_harmless(body: bytes, most_objects: int, most_depth: int) -> bool:
    """Whether a small body keeps every limit of `counted` whatever is in it; False says nothing about it.

    A value takes a byte at least. A list, a dict or an extension begins with a byte above 0x7F, so where few bytes are,
    there are few of them, and few keys that are none of plain values. The number of msgpack's own extension is 0xFF.
    """
    size = len(body)
    if size > _SMALL or size > most_objects or 0xFF in body:
        return False
    return size <= most_depth or len(body.translate(None, _ASCII)) <= most_depth


def _as_key(key: Any) -> Any:
    return tuple(_as_key(part) for part in key) if isinstance(key, list) else key


class FrameReader:
    """Cuts a stream of bytes into frame bodies, one at a time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._start = 0

    def add(self, data: bytes | memoryview) -> None:
        """Take in `data`. The bodies returned before are released first."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next(self) -> bytes | None:
        """The next body that is complete. Raises ProtocolError as soon as one above `limit` bytes is announced."""
        buffer, start = self._buffer, self._start
        if len(buffer) - start < HEADER.size:
            return None
        (size,) = HEADER.unpack_from(buffer, start)
        if size > self.limit:
            raise ProtocolError(f"a message of {size:,} bytes exceeds the limit of {self.limit:,}")
        end = start + HEADER.size + size
        if len(buffer) < end:
            return None
        self._start = end
        with memoryview(buffer) as view:
            return bytes(view[start + HEADER.size : end])

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take in `data`; give the bodies that are complete."""
        self.add(data)
        bodies = []
        while (body := self.next()) is not None:
            bodies.append(body)
        return bodies


def sealed_file(text: str) -> tuple[int, int]:
    """`(descriptor, bytes)` of a memory file holding `text` in UTF-8 that nobody can change any more."""
    data = text.encode("utf-8", "surrogatepass")
    fd = os.memfd_create("text", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd, len(data)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_PROT_READ, _MAP_SHARED, _MAP_POPULATE = 1, 1, 0x8000


def read_file(fd: int, size: int) -> str:
    """The text of a sealed memory file. Mapped by hand: Python's mmap asks for fstat, which the worker may not call."""
    if size == 0:
        return ""
    address = _libc.mmap(None, size, _PROT_READ, _MAP_SHARED | _MAP_POPULATE, fd, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "cannot map a shared string")
    try:
        return str(memoryview((ctypes.c_char * size).from_address(address)).cast("B"), "utf-8", "surrogatepass")
    finally:
        _libc.munmap(address, size)
