"""How things are put into words on a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """Text from agents and files made safe to show: control characters (escape sequences!) become visible."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def one_line(value: Any, width: int = 400) -> str:
    """A value in one line of at most `width` characters, made safe to show."""
    text = value if isinstance(value, str) else as_json(value)
    text = " ".join(clean(text[: 4 * width]).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def as_json(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON; what JSON lacks is written as text."""
    try:
        return json.dumps(_keyed(value), ensure_ascii=False, indent=indent, default=_other)
    except (ValueError, RecursionError):
        return json.dumps(repr(value), ensure_ascii=False)


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


def _keyed(value: Any) -> Any:
    """`value` with every key of every mapping a string, for JSON knows no other."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _keyed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_keyed(item) for item in value]
    return value
