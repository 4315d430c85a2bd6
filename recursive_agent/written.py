"""Any value as JSON for people; never raises."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

_MOST_DIGITS = 100_000
"""Digits of a whole number that are written out (a moment's work); longer ones are written as `0x…`, which takes none."""
_MOST_BITS = 332_000
"""Bits that such a number can have."""


def as_json(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON; what JSON lacks is written as text."""
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(_MOST_DIGITS)
        return json.dumps(_writable(value), ensure_ascii=False, indent=indent, default=_other)
    except (ValueError, RecursionError):
        return json.dumps(_named(value), ensure_ascii=False)
    finally:
        sys.set_int_max_str_digits(before)


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
