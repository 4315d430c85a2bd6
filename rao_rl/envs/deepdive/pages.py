"""The pages of a graph: one for each entity, in short prose that names others, and some that only look alike.

The facts of an entity stand on its own page alone, in the direction of their relation: who wrote a work stands on the page of
the work, and which works a person wrote must be searched for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from functools import cache

from .graph import RELATIONS, Graph, Kind
from .search import Page

_NAME = r"[A-Z][a-z]+(?: [A-Z][a-z]+)*"
_SENTENCES: Mapping[str, tuple[str, ...]] = {
    "author": ("{s} was written by {o}.", "The author of {s} is {o}.", "{o} is credited as the author of {s}."),
    "publisher": ("{s} was published by {o}.", "The publisher of {s} is {o}.", "{s} first came out with {o}."),
    "setting": ("{s} is set in {o}.", "The setting of {s} is {o}.", "All of {s} takes place in {o}."),
    "birthplace": ("{s} was born in {o}.", "The birthplace of {s} is {o}.", "{s} came into the world in {o}."),
    "employer": ("{s} works for {o}.", "The employer of {s} is {o}.", "{s} has long been employed by {o}."),
    "teacher": ("{s} was taught by {o}.", "The teacher of {s} was {o}.", "{s} learnt the trade from {o}."),
    "spouse": ("{s} is married to {o}.", "The spouse of {s} is {o}.", "{s} shares a home with a spouse, {o}."),
    "founder": ("{s} was founded by {o}.", "The founder of {s} was {o}.", "{s} was started by {o} in a rented room."),
    "headquarters": (
        "{s} has its headquarters in {o}.",
        "The headquarters of {s} are in {o}.",
        "{s} is run from offices in {o}.",
    ),
    "owner": ("{s} is owned by {o}.", "The owner of {s} is {o}.", "{s} belongs to {o}."),
    "venue": ("{s} was held in {o}.", "The venue of {s} was {o}.", "{s} took place in {o}."),
    "organiser": ("{s} was organised by {o}.", "The organiser of {s} was {o}.", "{s} was put together by {o}."),
    "winner": ("{s} was won by {o}.", "The winner of {s} was {o}.", "{s} ended with the first prize for {o}."),
    "guest": ("Guests of {s} were {o}.", "{s} welcomed as guests {o}.", "{s} had these guests: {o}."),
    "mayor": ("The mayor of {s} is {o}.", "{s} is governed by its mayor, {o}.", "{s} elected {o} as its mayor."),
    "twin town": ("{s} is twinned with {o}.", "The twin town of {s} is {o}.", "{s} has a twin town, {o}."),
}
_OPENINGS: Mapping[Kind, tuple[str, ...]] = {
    "person": ("{s} is a person of some local fame.", "{s} is a person who rarely gives interviews."),
    "place": ("{s} is a place on the river.", "{s} is a place of some nine thousand souls."),
    "organisation": ("{s} is an organisation with a long history.", "{s} is an organisation of modest size."),
    "work": ("{s} is a work in three parts.", "{s} is a work that critics still argue about."),
    "event": ("{s} was an event that drew large crowds.", "{s} was an event remembered for its rain."),
}
_FILLER = (
    "The winters there are long, and the archives are only open in the morning.",
    "Many letters from those years were lost in a flood.",
    "A small exhibition was devoted to the subject some years ago.",
    "Opinions about this have changed more than once.",
    "The only surviving photograph is out of focus.",
    "A commemorative stamp was planned and never printed.",
    "Older sources give other dates, which are now thought to be wrong.",
    "A street sign recalls the occasion.",
    "Little of this was known before the diaries were opened.",
    "Visitors are often surprised by how quiet it is.",
)
_ALIKE = (
    "{s} is the name of a racehorse that never won.",
    "{s} is a sailing boat built from spare parts.",
    "{s} is a variety of apple, sour and late.",
)
_MENTIONS = (
    "A reader writes that {a}, {b} and {c} came up in the same conversation, and asks for more.",
    "This column has room for {a}, {b} and {c}, though not this week.",
)
_MENTIONING = 24
"""Pages that name entities and say nothing of them."""


def pages(graph: Graph) -> Iterator[Page]:
    """All pages, in an order that says nothing of what they are about."""
    rng = random.Random(f"deepdive/pages/{graph.seed}")
    made = [Page(url=_url(name), title=name, text=_text(graph, rng, name)) for name in graph.kinds]
    for _, name in graph.unrelated:
        text = " ".join([rng.choice(_ALIKE).format(s=name), *rng.sample(_FILLER, 3)])
        made.append(Page(url=_url(name), title=name, text=text))
    names = list(graph.kinds)
    for number in range(1, _MENTIONING + 1):
        title = f"Letters to the editor, no. {number}"
        a, b, c = rng.sample(names, 3)
        text = " ".join([rng.choice(_MENTIONS).format(a=a, b=b, c=c), *rng.sample(_FILLER, 2)])
        made.append(Page(url=_url(title), title=title, text=text))
    rng.shuffle(made)
    yield from made


def read_page(text: str, title: str, relation: str) -> tuple[str, ...]:
    """What the page of `title` says in this relation, as a reader finds it; () where it says nothing."""
    for pattern in _patterns(relation):
        for match in pattern.finditer(text):
            if match["s"] == title:
                return tuple(re.split(", | and ", match["o"]))
    return ()


@cache
def _patterns(relation: str) -> list[re.Pattern[str]]:
    listed = f"{_NAME}(?:(?:, | and ){_NAME})*"
    return [
        re.compile(re.escape(text).replace(r"\{s\}", f"(?P<s>{_NAME})").replace(r"\{o\}", f"(?P<o>{listed})"))
        for text in _SENTENCES[relation]
    ]


def _text(graph: Graph, rng: random.Random, name: str) -> str:
    kind = graph.kinds[name]
    facts = []
    for relation in RELATIONS:
        objects = sorted(graph.facts.get((name, relation.name), ()))
        if relation.subject == kind and objects:
            rng.shuffle(objects)
            listed = " and ".join(filter(None, [", ".join(objects[:-1]), objects[-1]]))
            facts.append(rng.choice(_SENTENCES[relation.name]).format(s=name, o=listed))
    rest = facts + rng.sample(_FILLER, 4)
    rng.shuffle(rest)
    return " ".join([rng.choice(_OPENINGS[kind]).format(s=name), *rest])


def _url(title: str) -> str:
    return "https://pages.example/" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
