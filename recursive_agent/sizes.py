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
_COLLECT_AFTER = 10_000
SMALL_PARTS = 500
"""Values within values up to which a value is small."""
_KINDS = frozenset({str, bytes, int, float, bool, type(None)})


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


def is_small_and_plain(value: Any) -> bool:
    """Whether a value is a few parts of Python's own kinds: to go over it runs no foreign code and is cheaper than a thread."""
    waiting, parts = [value], SMALL_PARTS
    while waiting:
        item = waiting.pop()
        kind = type(item)
        parts -= 1
        if kind is dict:
            if 2 * len(item) + len(waiting) > parts:
                return False
            waiting.extend(item)
            waiting.extend(item.values())
        elif kind is list or kind is tuple:
            if len(item) + len(waiting) > parts:
                return False
            waiting.extend(item)
        elif kind not in _KINDS:
            return False
    return True


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


@contextmanager
def rare_collections() -> Iterator[None]:
    """While a process runs many agents: it collects garbage after 10,000 new lists and dicts instead of Python's 700.

    Each agent makes thousands of them, nearly all of which are freed without a collection. May be nested.
    """
    first, *others = gc.get_threshold()
    if not 0 < first < _COLLECT_AFTER:  # 0: somebody has turned collections off
        yield
        return
    gc.set_threshold(_COLLECT_AFTER, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)


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
