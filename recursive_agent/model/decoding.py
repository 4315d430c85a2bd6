"""Compressed bodies, decoded within bounds: a few bytes may stand for gigabytes."""

from __future__ import annotations

import zlib

_KNOWN = ("gzip", "x-gzip", "deflate")
_MOST_LAYERS = 3
_MOST_MEMBERS = 64
"""Of a gzip body. Each costs a copy of the rest, so that many empty ones would take minutes to read."""


class TooLarge(ValueError):
    """What was sent is larger than allowed, once decoded."""


class Undecodable(ValueError):
    """What was sent is not in the encoding it claims, or in one that is not known (see `UnknownEncoding`)."""


class UnknownEncoding(Undecodable):
    """What was sent claims an encoding that is not read here."""


def decoded(data: bytes, encoding: str, largest: int) -> bytes:
    """`data` without its `content-encoding` (gzip, deflate, also one in the other).

    Raises TooLarge, Undecodable or UnknownEncoding.
    """
    names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    for name in names:
        if name not in _KNOWN:
            raise UnknownEncoding(f"it is encoded as {name[:40]!r}, which was not asked for")
    if len(names) > _MOST_LAYERS:
        raise UnknownEncoding(f"it is encoded {len(names)} times over")
    for name in reversed(names if data else ()):  # what is empty was not encoded at all
        data = _inflated(data, name, largest)
    return data


def _inflated(data: bytes, name: str, largest: int) -> bytes:
    # 47: a header of gzip or zlib, whichever there is; half of the world sends deflate with neither.
    for wbits in (47, -zlib.MAX_WBITS) if name == "deflate" else (47,):
        try:
            return _members(data, wbits, name, largest)
        except zlib.error:
            continue
    raise Undecodable(f"it is not {name} data")


def _members(data: bytes, wbits: int, name: str, largest: int) -> bytes:
    """All of `data`: a body of gzip may have several members, one after the other."""
    whole, read = b"", 0
    while True:
        inflater = zlib.decompressobj(wbits)
        whole += inflater.decompress(data, largest + 1 - len(whole))
        if len(whole) > largest:
            raise TooLarge
        if not inflater.eof:
            raise Undecodable(f"its {name} data end before their end")
        data, read = inflater.unused_data, read + 1
        if not data:
            return whole
        if read == _MOST_MEMBERS:
            raise Undecodable(f"its {name} data have more than {_MOST_MEMBERS} parts")
