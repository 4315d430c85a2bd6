"""What becomes of the agent's values when they leave the worker: plain data, or a refusal that says why."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
from typing import Any

from .calls import HostCall
from .protocol import pack_default


def plain(value: Any) -> Any:
    """Plain data in the place of what msgpack does not know."""
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, fractions.Fraction)):
        return str(value)
    if isinstance(value, HostCall):
        raise TypeError(f"{value!r} is a call, not its result: await it")
    if isinstance(value, (range, type({}.keys()), type({}.values()), type({}.items()))) or hasattr(value, "popleft"):
        return list(value)
    if hasattr(type(value), "__await__"):
        raise TypeError(f"a {type(value).__name__} is not its result: await it")
    if isinstance(value, int):
        return pack_default(value)
    raise TypeError(f"cannot send a {type(value).__name__}: only plain data (text, numbers, lists, dicts) can leave")
