"""The grammar of goals, and the answer to each of them from the facts of any part of a transcript.

    How many casts of Ember by Mara are there?                                     a whole number
    What is the total damage of hits on wolf?                                      a whole number
    How many rolls are there for each skill?                                       a dict of name to count
    Which character has the most rolls of 20?                                      a name (`fewest`: of those that have any)
    Are casts of Ember more common than casts of Frost, less common, or of the same frequency?   one of these three phrases
    Which episodes have hits on wolf?                                              a list
    How many episodes have hits on wolf?                                           a whole number
    What is the first episode with casts of Ember?                                 a whole number, 0 for none (or `last`)

Strict on purpose: one line, spelled as `str(question)` spells it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from .facts import SUBJECT, Dimension, Fact, Filter, Kind

Form: TypeAlias = Literal["count", "damage", "tally", "most", "fewest", "compare", "names", "episodes", "first", "last"]
PHRASES = ("more common", "less common", "same frequency")
NONE = "none"
"""The answer to `Which … has the most …?` where there are none."""
PLURAL: Mapping[Dimension, str] = MappingProxyType(
    {
        "spell": "spells",
        "skill": "skills",
        "creature": "creatures",
        "character": "characters",
        "episode": "episodes",
    }
)
_SINGULAR: Mapping[str, Dimension] = {plural: dimension for dimension, plural in PLURAL.items()}
MOST_CHARS = 300
"""Characters of the longest goal."""


@dataclass(frozen=True, slots=True)
class Gold:
    """The right answer. `accepted`: for a name, all that tie for it."""

    form: Form
    value: int | str | list[str | int] | dict[str | int, int]
    accepted: frozenset[str | int] = frozenset()


@dataclass(frozen=True, slots=True)
class Question:
    """One goal. `by` is the dimension that it asks along, `other` what the facts of `about` are compared with."""

    form: Form
    about: Filter
    by: Dimension | None = None
    other: Filter | None = None

    def __str__(self) -> str:
        about = self.about
        match self.form:
            case "count":
                return f"How many {about} are there?"
            case "damage":
                return f"What is the total damage of {about}?"
            case "tally":
                return f"How many {about} are there for each {self.by}?"
            case "most" | "fewest":
                return f"Which {self.by} has the {self.form} {about}?"
            case "compare":
                return f"Are {about} more common than {self.other}, less common, or of the same frequency?"
            case "names":
                assert self.by is not None
                return f"Which {PLURAL[self.by]} have {about}?"
            case "episodes":
                return f"How many episodes have {about}?"
            case _:
                return f"What is the {self.form} episode with {about}?"

    def answer(self, facts: Iterable[Fact]) -> Gold:
        """The right answer from these facts."""
        if self.form == "compare":
            assert self.by is not None
            assert self.other is not None
            rest = Counter(fact.along(self.by) for fact in self.about.without(self.by).of(facts))
            here, there = rest[self.about.at(self.by) or ""], rest[self.other.at(self.by) or ""]
            return Gold(self.form, PHRASES[0 if here > there else 1 if here < there else 2])
        mine = list(self.about.of(facts))
        match self.form:
            case "count":
                return Gold(self.form, len(mine))
            case "damage":
                return Gold(self.form, sum(fact.value for fact in mine))
            case "episodes":
                return Gold(self.form, len({fact.episode for fact in mine}))
            case "first":
                return Gold(self.form, min((fact.episode for fact in mine), default=0))
            case "last":
                return Gold(self.form, max((fact.episode for fact in mine), default=0))
        assert self.by is not None
        counts = Counter(fact.along(self.by) for fact in mine)
        if self.form == "tally":
            return Gold(self.form, dict(counts))
        if self.form == "names":
            return Gold(self.form, sorted(counts, key=str))
        if not counts:
            return Gold(self.form, NONE, frozenset({NONE}))
        best = (max if self.form == "most" else min)(counts.values())
        tied = frozenset(name for name, count in counts.items() if count == best)
        return Gold(self.form, min(tied, key=str), tied)


_FILTER = (
    r"(casts)(?: of ([A-Z][a-z]+))?(?: by ([A-Z][a-z]+))?"
    r"|(rolls)(?: of ([1-9][0-9]?))?(?: for ([A-Z][a-z]+))?(?: by ([A-Z][a-z]+))?"
    r"|(hits)(?: on ([a-z]+))?(?: by ([A-Z][a-z]+))?"
)
_ABOUT = "[a-zA-Z0-9 ]+"
_FORMS: tuple[tuple[re.Pattern[str], Form | None], ...] = (
    (re.compile(rf"How many episodes have (?P<about>{_ABOUT})\?"), "episodes"),
    (re.compile(rf"How many (?P<about>{_ABOUT}) are there\?"), "count"),
    (re.compile(rf"How many (?P<about>{_ABOUT}) are there for each (?P<by>[a-z]+)\?"), "tally"),
    (re.compile(rf"What is the total damage of (?P<about>{_ABOUT})\?"), "damage"),
    (re.compile(rf"What is the (?P<form>first|last) episode with (?P<about>{_ABOUT})\?"), None),
    (re.compile(rf"Which (?P<by>[a-z]+) has the (?P<form>most|fewest) (?P<about>{_ABOUT})\?"), None),
    (re.compile(rf"Which (?P<plural>[a-z]+) have (?P<about>{_ABOUT})\?"), "names"),
    (
        re.compile(
            rf"Are (?P<about>{_ABOUT}) more common than (?P<other>{_ABOUT}), less common, or of the same frequency\?"
        ),
        "compare",
    ),
)
_FILTER_PATTERN = re.compile(_FILTER)


def parse_goal(goal: str) -> Question | None:
    """The question of a goal; None where it breaks the grammar."""
    if len(goal) > MOST_CHARS:
        return None
    for pattern, form in _FORMS:
        match = pattern.fullmatch(goal)
        if match is not None:
            question = _question(match.groupdict(), form)
            return question if question is not None and str(question) == goal else None
    return None


def _question(parts: Mapping[str, str | None], form: Form | None) -> Question | None:
    about = _filter(parts["about"] or "")
    if about is None:
        return None
    form = form or _named_form(parts["form"] or "")
    if form == "compare":
        other = _filter(parts["other"] or "")
        by = None if other is None else _difference(about, other)
        return None if by is None else Question("compare", about, by, other)
    if form == "damage" and about.kind != "hits":
        return None
    by = _SINGULAR.get(parts.get("plural") or PLURAL.get(parts.get("by") or "", ""))  # type: ignore[call-overload]
    if "by" in parts or "plural" in parts:
        return Question(form, about, by) if by in about.open else None
    return Question(form, about)


def _named_form(word: str) -> Form:
    forms: dict[str, Form] = {"first": "first", "last": "last", "most": "most", "fewest": "fewest"}
    return forms[word]


def _filter(text: str) -> Filter | None:
    match = _FILTER_PATTERN.fullmatch(text)
    if match is None:
        return None
    if match[1]:
        return Filter("casts", match[2], match[3])
    if match[4]:
        return Filter("rolls", match[6], match[7], int(match[5]) if match[5] else None)
    return Filter("hits", match[9], match[10])


def _difference(one: Filter, other: Filter) -> Dimension | None:
    """The only dimension along which two filters name different things."""
    kind: Kind = one.kind
    if other.kind != kind or one.value != other.value:
        return None
    dimensions: tuple[Dimension, Dimension] = (SUBJECT[kind], "character")
    differ = [dimension for dimension in dimensions if one.at(dimension) != other.at(dimension)]
    if len(differ) != 1 or one.at(differ[0]) is None or other.at(differ[0]) is None:
        return None
    return differ[0]
