"""A knowledge graph of made-up people, places, organisations, works and events, drawn from a seed."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from .names import deal

Kind: TypeAlias = Literal["person", "place", "organisation", "work", "event"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Relation:
    """`name` leads from a subject to its objects, `inverse` back. Functional: every subject has at most one object."""

    name: str
    subject: Kind
    object: Kind
    inverse: str
    functional: bool = True

    @property
    def symmetric(self) -> bool:
        """Whether both directions are the same (a spouse)."""
        return self.name == self.inverse


RELATIONS: tuple[Relation, ...] = (
    Relation("author", "work", "person", "book"),
    Relation("publisher", "work", "organisation", "title"),
    Relation("setting", "work", "place", "story"),
    Relation("birthplace", "person", "place", "native"),
    Relation("employer", "person", "organisation", "employee"),
    Relation("teacher", "person", "person", "student"),
    Relation("spouse", "person", "person", "spouse"),
    Relation("founder", "organisation", "person", "foundation"),
    Relation("headquarters", "organisation", "place", "resident firm"),
    Relation("owner", "organisation", "organisation", "subsidiary"),
    Relation("venue", "event", "place", "gathering"),
    Relation("organiser", "event", "organisation", "meeting"),
    Relation("winner", "event", "person", "victory"),
    Relation("guest", "event", "person", "appearance", functional=False),
    Relation("mayor", "place", "person", "town governed"),
    Relation("twin town", "place", "place", "twin town"),
)
BY_NAME: Mapping[str, Relation] = MappingProxyType({relation.name: relation for relation in RELATIONS})
DIRECTIONS: frozenset[str] = frozenset(name for relation in RELATIONS for name in (relation.name, relation.inverse))
"""Every name by which a goal can go from one entity to others."""

_SIZES: Mapping[Kind, int] = {"person": 36, "place": 14, "organisation": 14, "work": 36, "event": 14}
_GUESTS = (2, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Entities by name, and what each is related to."""

    seed: int
    kinds: Mapping[str, Kind]
    facts: Mapping[tuple[str, str], frozenset[str]]
    """(entity, name of a relation or of its inverse) to entities."""
    unrelated: tuple[tuple[Kind, str], ...]
    """Names like those of a kind that belong to none of the entities."""

    def related(self, entities: Iterable[str], direction: str) -> frozenset[str]:
        """What any of `entities` is related to in this direction."""
        return frozenset().union(*(self.facts.get((entity, direction), frozenset()) for entity in entities))

    def only(self, entity: str, direction: str) -> str | None:
        """The one entity in this direction; None where there is none, or more than one."""
        found = self.facts.get((entity, direction), frozenset())
        return next(iter(found)) if len(found) == 1 else None


def make_graph(seed: int) -> Graph:
    """The graph of `seed`: 114 entities of five kinds. Takes about a millisecond."""
    rng = random.Random(f"deepdive/graph/{seed}")
    dealt: dict[Kind, list[str]] = {kind: deal(rng, kind, size + 3) for kind, size in _SIZES.items()}
    names = {kind: dealt[kind][:size] for kind, size in _SIZES.items()}
    facts: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def state(relation: Relation, subject: str, object: str) -> None:
        facts[subject, relation.name].add(object)
        facts[object, relation.inverse].add(subject)

    for relation in RELATIONS:
        subjects, objects = names[relation.subject], names[relation.object]
        if relation.symmetric:
            shuffled = rng.sample(subjects, len(subjects))
            for one, other in zip(shuffled[::2], shuffled[1::2], strict=False):
                state(relation, one, other)
        elif relation.name == "mayor":  # one town each
            for subject, object in zip(subjects, rng.sample(objects, len(subjects)), strict=True):
                state(relation, subject, object)
        elif relation.subject == relation.object:  # of an earlier one, so that no chain comes back
            order = rng.sample(subjects, len(subjects))
            for place, subject in enumerate(order[2:], start=2):
                state(relation, subject, rng.choice(order[:place]))
        else:
            for subject in subjects:
                count = 1 if relation.functional else rng.choice(_GUESTS)
                for object in rng.sample(objects, count):
                    state(relation, subject, object)
    return Graph(
        seed,
        MappingProxyType({name: kind for kind in KINDS for name in names[kind]}),
        MappingProxyType({key: frozenset(found) for key, found in facts.items()}),
        tuple((kind, name) for kind, size in _SIZES.items() for name in dealt[kind][size:]),
    )
