"""How large a value is; whether it is large is decided by looking at few of its parts, so that it costs the same for any."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

LARGE_PARTS = 2_000
"""Values within values from which a value is large: handling so many takes about a millisecond."""
LARGE_CHARS = 256 * 1024
"""Characters or bytes from which it is."""


def is_large(value: Any, parts: int = LARGE_PARTS, chars: int = LARGE_CHARS) -> bool:
    """Whether work that goes over the whole of a value belongs in a thread rather than in the event loop."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        parts -= 1
        if isinstance(item, (str, bytes, bytearray, memoryview)):
            chars -= len(item)
        elif isinstance(item, int):
            chars -= item.bit_length() // 8
        elif isinstance(item, (list, tuple, set, frozenset)):
            if len(item) > parts:
                return True
            waiting.extend(item)
        elif item is not None and not isinstance(item, float) and isinstance(item, Mapping):  # the last takes longest
            if 2 * len(item) > parts:
                return True
            waiting.extend(item)
            waiting.extend(item.values())
        if parts < 0 or chars < 0:
            return True
    return False


@contextmanager
def no_collection() -> Iterator[None]:
    """While a large value is made: each 700 lists and dicts would set off a collection of garbage, and some of these
    stop all threads for as long as it takes to go over every object of the process.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def least_bytes(value: Any) -> int:
    """The fewest bytes that plain data can take where each text is written as often as it stands in it."""
    return sum(1 + (len(item) if isinstance(item, (str, bytes)) else 0) for item in _parts(value))


def held_bytes(value: Any) -> int:
    """The bytes of memory that plain data takes, about: those of a text count as often as it stands in it."""
    return sum(map(sys.getsizeof, _parts(value)))


def _parts(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, Mapping):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
