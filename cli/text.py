"""How things are put into words on a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MOST_DIGITS = 100_000
"""Digits of a whole number that are written out (a moment's work); longer ones are written as `0x…`, which takes none."""
_MOST_BITS = 332_000
"""Bits that such a number can have."""


def clean(text: str) -> str:
    """Text from agents and files, safe to show: control characters (escape sequences!) become visible."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def one_line(value: Any, width: int = 400) -> str:
    """A value in one line of at most `width` characters, safe to show. Costs no more for a large value."""
    text = value if isinstance(value, str) else as_json(_beginning(value, _Room(width)))
    text = " ".join(clean(text[: 4 * width]).split())
    return text if len(text) <= width else text[: width - 1] + "…"


class _Room:
    """Values that may still be shown."""

    def __init__(self, left: int) -> None:
        self.left = left


def _beginning(value: Any, room: _Room) -> Any:
    """As much of a value as a line of so many characters can begin with."""
    room.left -= 1
    if isinstance(value, str | bytes):
        return value[: max(0, room.left) + 1]
    if isinstance(value, Mapping):
        return {
            _beginning(key, room): _beginning(item, room) for key, item in islice(value.items(), max(0, room.left) + 1)
        }
    if isinstance(value, list | tuple):
        return [_beginning(item, room) for item in islice(value, max(0, room.left) + 1)]
    return value


def as_json(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON; what JSON lacks is written as text. Controls of terminals are escaped, as JSON may."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", _as_json(value, indent=indent))


def _as_json(value: Any, *, indent: int | None) -> str:
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(_MOST_DIGITS)
        return json.dumps(_writable(value), ensure_ascii=False, indent=indent, default=_other)
    except (ValueError, RecursionError):
        return json.dumps(_named(value), ensure_ascii=False)
    finally:
        sys.set_int_max_str_digits(before)


def seconds(value: float) -> str:
    """A duration: `0.4 s`, `12 s`, `3:05 min`, `2:00 h`."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 99.5:
        return f"{value:.0f} s"
    minutes = round(value / 60) if value >= 3600 else int(value // 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if value >= 3600 else f"{minutes}:{int(value % 60):02} min"


def count(number: int, noun: str) -> str:
    """`1 agent`, `1,200 agents`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _other(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _writable(value: Any) -> Any:
    """`value` with text for what `json` cannot write: keys that are not strings, whole numbers that go on for pages."""
    if isinstance(value, Mapping):
        return {_key(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    return hex(value) if isinstance(value, int) and value.bit_length() > _MOST_BITS else value


def _key(key: Any) -> str:
    if isinstance(key, tuple):
        return str(tuple(_writable(part) for part in key))
    return key if isinstance(key, str) else str(_writable(key))


def _named(value: Any) -> str:
    """What is said of a value that cannot be written: nested too deep, or with a `repr` that fails as well."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
