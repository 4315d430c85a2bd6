"""How things are put into words on a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from itertools import islice
from typing import Any

from rich.text import Text

from recursive_agent import written

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MOST_MARKS = 3
"""Combining marks on one character; further ones would run into the lines above and below."""
_ASCII = str.maketrans(
    {"├": "|", "└": "`", "│": "|", "…": "~", "·": "-", "→": ">", "✓": "+", "✗": "x", "⊘": "-", "●": "*", "○": "o"}
)
"""What is drawn in place of signs that are not ASCII; the marks are those of `status.LABELS`."""


def clean(text: str) -> str:
    """Text from agents and files, safe to show: control characters (escape sequences!) become visible."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def one_line(value: Any, width: int = 400) -> str:
    """A value in one line of at most `width` characters, safe to show. Costs no more for a large value."""
    text = value if isinstance(value, str) else as_json(_beginning(value, _Room(width)))
    text = " ".join(clean(_visible(text[: 4 * width])).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _visible(text: str) -> str:
    """Without the signs that are not seen and change how many columns a line has: joiners, directions, variants, heaps of
    combining marks. Directions that reorder a line are left for `clean` to show."""
    if text.isascii():
        return text
    kept: list[str] = []
    marks = 0
    for sign in text:
        kind = unicodedata.category(sign)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        unseen = (kind == "Cf" and not _CONTROLS.match(sign)) or "\ufe00" <= sign <= "\ufe0f"
        if not unseen and marks <= _MOST_MARKS:
            kept.append(sign)
    return "".join(kept)


def ascii_only(text: Text) -> Text:
    """The same text in ASCII, sign for sign, for terminals that have nothing else."""
    drawn = text.copy()
    drawn.plain = text.plain.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return drawn


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
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", written.as_json(value, indent=indent))


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
