"""Converts the agent's values to plain data when they leave the worker, or refuses them with the reason."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
from typing import Any

from ..protocol import BIG_INT_BYTES, pack_default
from .calls import PendingCall

_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, type(None))


def plain(value: Any) -> Any:
    """Plain data for a value that msgpack does not know. Raises TypeError for a value that has no such form."""
    if isinstance(value, enum.Enum):
        value = value.value
        if isinstance(value, _PLAIN) and (isinstance(value, bool) or not isinstance(value, int)):
            return value
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, fractions.Fraction)):
        return str(value)
    if isinstance(value, PendingCall):
        raise TypeError(f"{value!r} is a call, not its result: await it")
    if isinstance(value, (range, type({}.keys()), type({}.values()), type({}.items()))) or hasattr(value, "popleft"):
        return list(value)
    if hasattr(type(value), "__await__"):
        raise TypeError(f"a {type(value).__name__} is not its result: await it")
    if isinstance(value, int):
        return _whole_number(value)
    raise TypeError(f"cannot send a {type(value).__name__}: only plain data (text, numbers, lists, dicts) can leave")


def _whole_number(value: int) -> Any:
    bits = int.bit_length(value)
    if bits < 64:  # of an enumeration
        return int(value)
    if bits >= 8 * BIG_INT_BYTES:
        raise TypeError(
            f"a whole number of {bits:,} bits is longer than the {8 * BIG_INT_BYTES:,} that can be sent; send it as parts"
        )
    return pack_default(value)
