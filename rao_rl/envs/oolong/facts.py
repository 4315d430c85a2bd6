"""What a transcript reports: spells cast, dice rolled, hits landed; and a question's view of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["casts", "rolls", "hits"]
Dimension: TypeAlias = Literal["spell", "skill", "creature", "character", "episode"]
SUBJECT: Mapping[Kind, Dimension] = MappingProxyType({"casts": "spell", "rolls": "skill", "hits": "creature"})
"""What `Fact.what` names for each kind."""


class Fact(NamedTuple):
    """One thing that happened."""

    kind: Kind
    episode: int
    number: int
    """The number of its line in the episode."""
    who: str
    """The character who did it."""
    what: str
    """The spell, the skill that was rolled for, or the creature that was hit."""
    value: int
    """The number rolled, or the damage; 0 for a spell."""

    def along(self, dimension: Dimension) -> str | int:
        """The fact's value of a dimension: the name of the spell, skill, creature or character; the number of the episode."""
        if dimension == "episode":
            return self.episode
        return self.who if dimension == "character" else self.what


@dataclass(frozen=True, slots=True)
class Filter:
    """Which facts a question is about: `casts of Ember by Mara`, `rolls of 20 for Stealth`, `hits on wolf`."""

    kind: Kind
    what: str | None = None
    who: str | None = None
    value: int | None = None
    """The number rolled; of rolls only."""

    def __str__(self) -> str:
        words: list[str] = [self.kind]
        if self.value is not None:
            words += ["of", str(self.value)]
        if self.what is not None:
            words += [{"casts": "of", "rolls": "for", "hits": "on"}[self.kind], self.what]
        if self.who is not None:
            words += ["by", self.who]
        return " ".join(words)

    def matches(self, fact: Fact) -> bool:
        """Whether the question is about this fact."""
        return (
            fact.kind == self.kind
            and (self.what is None or fact.what == self.what)
            and (self.who is None or fact.who == self.who)
            and (self.value is None or fact.value == self.value)
        )

    def of(self, facts: Iterable[Fact]) -> Iterator[Fact]:
        """Those of `facts` that the question is about, in order."""
        return filter(self.matches, facts)

    @property
    def open(self) -> tuple[Dimension, ...]:
        """The dimensions along which its facts may differ."""
        subject: tuple[Dimension, ...] = () if self.what is not None else (SUBJECT[self.kind],)
        character: tuple[Dimension, ...] = () if self.who is not None else ("character",)
        return (*subject, *character, "episode")

    def without(self, dimension: Dimension) -> Filter:
        """The same with any spell, skill or creature, or any character."""
        return replace(self, who=None) if dimension == "character" else replace(self, what=None)

    def at(self, dimension: Dimension) -> str | None:
        """The name that it asks for along a dimension."""
        return self.who if dimension == "character" else self.what
