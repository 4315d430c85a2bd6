"""Texts that a server wrote, made fit for a prompt: bounded, without what steers a terminal or a model."""

from __future__ import annotations

import unicodedata

_LINE_ENDS = ("Zl", "Zp")


def words(text: object, most: int) -> str:
    """A text as one line of at most `most` characters."""
    line = " ".join(_harmless(text, most).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def lines(text: object, most: int, most_lines: int) -> str:
    """A text as at most `most_lines` lines and `most` characters; empty lines are left out."""
    kept: list[str] = []
    room = most
    for line in _harmless(text, most).splitlines():
        line = line.strip()
        if not line:
            continue
        if len(kept) == most_lines or room <= 0:
            kept[-1] += " …"
            break
        kept.append(line if len(line) <= room else line[: room - 1] + "…")
        room -= len(line)
    return "\n".join(kept)


def _harmless(text: object, most: int) -> str:
    if not isinstance(text, str):
        return ""
    shown = "".join(map(_character, text[: 4 * most + 4]))
    # Markers of chat templates and fences of code mean something to models.
    return shown.replace("<|", "< |").replace("```", "'''")


def _character(each: str) -> str:
    kind = unicodedata.category(each)
    if each == "\n" or kind in _LINE_ENDS:
        return "\n"
    return " " if kind.startswith("C") else each
