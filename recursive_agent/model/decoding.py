"""Compressed answers, decoded within bounds: a few bytes may stand for gigabytes."""

from __future__ import annotations

import zlib


class TooLarge(ValueError):
    """What was sent is larger than allowed, once decoded."""


class Undecodable(ValueError):
    """What was sent is not in the encoding it claims, or in one that was not asked for."""


def decoded(data: bytes, encoding: str, largest: int) -> bytes:
    """`data` without its `content-encoding` (gzip, deflate). Raises TooLarge or Undecodable."""
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        if name not in ("gzip", "x-gzip", "deflate"):
            raise Undecodable(f"it is encoded as {name[:40]!r}, which was not asked for")
        data = _inflated(data, name, largest)
    return data


def _inflated(data: bytes, name: str, largest: int) -> bytes:
    # 47: a header of gzip or zlib, whichever there is; some servers send deflate with neither.
    for wbits in (47, -zlib.MAX_WBITS) if name == "deflate" else (47,):
        inflater = zlib.decompressobj(wbits)
        try:
            text = inflater.decompress(data, largest + 1)
        except zlib.error:
            continue
        if len(text) > largest:
            raise TooLarge
        if not inflater.eof:
            raise Undecodable(f"its {name} data end before their end")
        return text
    raise Undecodable(f"it is not {name} data")
