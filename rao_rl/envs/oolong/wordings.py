"""How a transcript words what happened, what did not happen, and everything else that is said at a table.

Lines contain no full stop, bracket, quote or backslash of their own, so a whole line is recognized by its ends:
`[12:7] Mara casts Ember at the wolf.`
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .facts import Fact, Kind

CASTS = (
    "{who} casts {what} at the {creature}",
    "{who} casts {what}",
    "{what} is cast by {who}, and the {creature} staggers",
    "With {value} words {who} casts {what} on {other}",
    "At the {place}, {what} is cast by {who}",
    "Stepping past {other}, {who} casts {what}",
)
ROLLS = (
    "{who} rolls a {value} for {what}",
    "{who} checks {what} and rolls a {value}",
    "A {value} for {what}, rolled by {who}",
    "{other} watches the {place} while {who} rolls a {value} for {what}",
)
HITS = (
    "{who} hits the {what} for {value} damage",
    "The {what} takes {value} damage from {who}",
    "{value} damage to the {what}, dealt by {who}",
    "Leaping over the barrels, {who} hits the {what} for {value} damage",
)
NOTHING = (
    "If {who} casts {spell} now, the {place} will burn, says {other}",
    "Nobody casts {spell} at the {place} today",
    "{who} thinks about casting {spell}, but waits for {other}",
    "{other} remembers the {spell} that {who} cast last year",
    "If {who} rolls a {value} for {skill}, the {place} is ours, says {other}",
    "{who} hopes for a {value} on {skill}",
    "{who} needs a {value} for {skill}, says {other}",
    "If {who} hits the {creature} for {value} damage, it will flee, says {other}",
    "The {creature} hits {who} for {value} damage",
    "{who} misses the {creature} at the {place}",
)
"""Lines that sound like facts: plans, wishes, memories, and what creatures do. None of it counts."""
CHATTER = (
    "{who} buys {value} {things} at the {place}",
    "{who} asks {other} about the {place}",
    "Rain falls on the {place}, and {who} counts {value} {things}",
    "{who} and {other} argue about the way to the {place}",
    "{other} laughs, and {who} orders another round",
    "The door of the {place} stands open, and {who} listens",
    "{who} draws a map of the {place} for {other}",
    "A {creature} howls far away, and {who} shivers",
    "{who} sells {value} {things} to a trader",
    "How far is the {place}, asks {other}, and {who} shrugs",
)
WORDINGS: dict[Kind, tuple[str, ...]] = {"casts": CASTS, "rolls": ROLLS, "hits": HITS}

LINE = re.compile(r"\[(\d+):(\d+)\] ([^.[\]]+)\.")
"""A whole line: episode, number, text."""
NOT_FACTS = ("If ", "Nobody ")
"""Beginnings of lines that never report a fact, though the patterns below may match in them."""
PATTERNS: dict[Kind, tuple[str, ...]] = {
    "casts": (r"(?P<w>\w+) casts (?P<s>\w+)", r"(?P<s>\w+) is cast by (?P<w>\w+)"),
    "rolls": (
        r"(?P<w>\w+) rolls a (?P<v>\d+) for (?P<s>\w+)",
        r"(?P<w>\w+) checks (?P<s>\w+) and rolls a (?P<v>\d+)",
        r"A (?P<v>\d+) for (?P<s>\w+), rolled by (?P<w>\w+)",
    ),
    "hits": (
        r"(?P<w>\w+) hits the (?P<s>\w+) for (?P<v>\d+) damage",
        r"The (?P<s>\w+) takes (?P<v>\d+) damage from (?P<w>\w+)",
        r"(?P<v>\d+) damage to the (?P<s>\w+), dealt by (?P<w>\w+)",
    ),
}
"""How the facts of each kind are read from a line: who (`w`), what (`s`), the value (`v`)."""


def read_facts(text: str, kind: Kind) -> Iterator[Fact]:
    """The facts of one kind that the whole lines of `text` report: what a careful reader sees."""
    for line in LINE.finditer(text):
        if not line[3].startswith(NOT_FACTS):
            for pattern in PATTERNS[kind]:
                for found in re.finditer(pattern, line[3]):
                    value = found.groupdict().get("v") or 0
                    yield Fact(kind, int(line[1]), int(line[2]), found["w"], found["s"], int(value))
