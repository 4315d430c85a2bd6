"""Texts and values of a trace as a page holds them: bounded, with the size of whatever is left out, and always valid JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..trace.values import pack, to_json
from ..written import as_json

WHOLE = 100_000
"""Characters up to which a text of a trace (a message, an answer, code, output, a result) is in the page as a whole."""
_HEAD = WHOLE * 3 // 4
"""Characters of the beginning of a longer one; the rest up to `WHOLE` are of its end."""
SHORT = 2_000
"""The same for a context, the arguments of a call, and what a call returned, which stand in many agents."""
_EXACT = 2**53
"""Whole numbers up to here are exact in a browser."""


def bounded(text: str, most: int = WHOLE) -> str:
    """A text as a whole; of one that is too long its beginning and its end, with how much is left out between them."""
    if len(text) <= most:
        return text
    head = most * _HEAD // WHOLE
    return f"{text[:head]}\n[… {len(text) - most:,} of {len(text):,} characters are left out …]\n{text[head - most :]}"


def spelled(value: Any, most: int = WHOLE) -> str:
    """A value as text: text itself, anything else as JSON. Takes no longer for a large value than for what is shown."""
    return bounded(value, most) if isinstance(value, str) else bounded(as_json(brief(value, most)), 2 * most)


def seconds(value: float) -> float | None:
    """A number of seconds to the microsecond; None for what is no number."""
    return round(value, 6) if math.isfinite(value) else None


def plain(value: Any, most: int = WHOLE) -> Any:
    """A value as JSON that every browser reads: what it lacks is text, and so are whole numbers that it would round."""
    return _plain(brief(value, most))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name if isinstance(name, str) else as_json(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else as_json(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return as_json(value)


def brief(value: Any, most: int) -> Any:
    """A value of which about `most` characters are left; what is left out is named with its size, where it stood.

    Sets and tuples become lists, sets in an order that is always the same.
    """
    return _Brief(most).of(value)


class _Brief:
    """One shortening: it counts the characters that there is room for."""

    def __init__(self, room: int) -> None:
        self._room = room

    def of(self, value: Any) -> Any:
        if isinstance(value, str | bytes):
            return self._text(value)
        self._room -= 2
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list | tuple | set | frozenset):
            items: list[Any] = []
            for item in sorted(value, key=_order) if isinstance(value, set | frozenset) else value:
                if self._room <= 0:
                    return [*items, f"… [{len(value):,} items in all]"]
                items.append(self.of(item))
            return items
        if isinstance(value, int) and value.bit_length() > 4 * max(16, self._room):
            self._room = 0
            return f"… [a whole number of {value.bit_length():,} bits]"
        self._room -= 4
        return value

    def _text(self, value: str | bytes) -> Any:
        kept = max(0, self._room)
        self._room -= len(value) + 2
        if isinstance(value, bytes):
            shown = value[:kept].decode("utf-8", "backslashreplace")
            return shown if len(value) <= kept else f"{shown}… [{len(value):,} bytes in all]"
        return value if len(value) <= kept else f"{value[:kept]}… [{len(value):,} characters in all]"

    def _mapping(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key, item in value.items():
            if self._room <= 0:
                return {**shown, "…": f"[{len(value):,} keys in all]"}
            name = self.of(key)
            name = name if isinstance(name, str) else as_json(name)
            while name in shown:  # 1 and "1", say
                name += "'"
            shown[name] = self.of(item)
        return shown


def _order(value: Any) -> bytes:
    return to_json(pack(value, lambda text: text, lambda data: data))
