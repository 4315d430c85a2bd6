"""The wire between host and worker: length-prefixed msgpack frames, never pickle, and sealed memory files for large strings.

A frame is four bytes of little-endian length and a msgpack array `[kind, ...]`.

    host → worker   open, run, reply
    worker → host   ready, opened, call, cancel, done

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

BIG_INT, FILE_STRING, SHARED_STRING = 1, 2, 3
_BIG_INT_BYTES = 1024 * 1024
_ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ProtocolError(Exception):
    """The other side sent something that is no frame of this protocol."""


class NotPlainData(TypeError):
    """A value that cannot travel; the message says which and why."""


def _pack_default(value: Any) -> Any:
    if isinstance(value, int):
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


def unpack(body: bytes | bytearray | memoryview, extension: Callable[[int, bytes], Any] | None = None) -> list[Any]:
    """The message of a frame's body, `[kind, ...]`. Raises ProtocolError for anything malformed.

    `extension(code, data)` answers for the string references, whose meaning differs by side.
    """

    def hook(code: int, data: bytes) -> Any:
        if code == BIG_INT and len(data) <= _BIG_INT_BYTES:
            return int.from_bytes(data, "little", signed=True)
        if extension is None:
            raise ProtocolError(f"unknown extension {code}")
        return extension(code, data)

    read = functools.partial(msgpack.unpackb, body, ext_hook=hook, strict_map_key=False, unicode_errors="surrogatepass")
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


def _as_key(key: Any) -> Any:
    return tuple(_as_key(part) for part in key) if isinstance(key, list) else key


class FrameReader:
    """Cuts a stream of bytes into frame bodies. Raises ProtocolError before a body above `limit` bytes is taken in."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._need = HEADER.size

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take in `data`; give the bodies that are complete."""
        buffer = self._buffer
        buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(buffer) - start >= HEADER.size:
            (size,) = HEADER.unpack_from(buffer, start)
            if size > self.limit:
                raise ProtocolError(f"a message of {size:,} bytes exceeds the limit of {self.limit:,}")
            end = start + HEADER.size + size
            if len(buffer) < end:
                break
            bodies.append(bytes(memoryview(buffer)[start + HEADER.size : end]))
            start = end
        if start:
            del buffer[:start]
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
