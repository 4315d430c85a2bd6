"""The grammar of goals: `Find: the founder of the publisher of Amber Ledger`.

    goal    Find: <entity>
    entity  the <relation> of <thing>
            the <kind> whose <relation> is <thing> and whose <relation> is <name>
    thing   <name> or <entity>

`author`, `publisher` and the others of `graph.RELATIONS` (and their inverses, such as `book` and `title`) are relations;
`person`, `place`, `organisation`, `work` and `event` are kinds. A name is written as the pages write it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias, cast

from .graph import BY_NAME, DIRECTIONS, KINDS, Graph, Kind

PREFIX = "Find: "
EXAMPLE = PREFIX + "the founder of the publisher of the work whose author is Tolan Verrick and whose setting is Osmere"
_MOST_STEPS = 64
_DIRECTION = "|".join(sorted(DIRECTIONS, key=lambda name: (-len(name), name)))
_RELATION = "|".join(sorted(BY_NAME, key=lambda name: (-len(name), name)))
_NAME = r"[A-Z][a-z]+(?: [A-Z][a-z]+){0,3}"
_OF = re.compile(rf"the ({_DIRECTION}) of ")
_WHOSE = re.compile(rf"the ({'|'.join(KINDS)}) whose ({_RELATION}) is ")
_START = re.compile(_NAME)
_AND_WHOSE = re.compile(rf" and whose ({_RELATION}) is ({_NAME})")


@dataclass(frozen=True, slots=True)
class Of:
    """`the <relation> of …`."""

    relation: str

    def format(self, thing: str) -> str:
        """The entity that this step leads to from `thing`, in words."""
        return f"the {self.relation} of {thing}"

    def follow(self, graph: Graph, things: frozenset[str]) -> frozenset[str]:
        """The entities that this step leads to."""
        return graph.related(things, self.relation)


@dataclass(frozen=True, slots=True)
class Whose:
    """`the <kind> whose <relation> is … and whose <other> is <name>`."""

    kind: Kind
    relation: str
    other: str
    name: str

    def format(self, thing: str) -> str:
        """The entity that this step leads to from `thing`, in words."""
        return f"the {self.kind} whose {self.relation} is {thing} and whose {self.other} is {self.name}"

    def follow(self, graph: Graph, things: frozenset[str]) -> frozenset[str]:
        """The entities that this step leads to."""
        first, second = BY_NAME[self.relation], BY_NAME[self.other]
        if not first.subject == second.subject == self.kind:
            return frozenset()
        return graph.related(things, first.inverse) & graph.related([self.name], second.inverse)


Step: TypeAlias = Of | Whose


@dataclass(frozen=True, slots=True)
class Chain:
    """A goal: a named entity, and the steps from it to what is to be found, the first one first."""

    start: str
    steps: tuple[Step, ...]

    def names(self) -> tuple[str, ...]:
        """Every name in the goal."""
        return (self.start, *(step.name for step in self.steps if isinstance(step, Whose)))


def format_goal(chain: Chain) -> str:
    """The goal in words."""
    thing = chain.start
    for step in chain.steps:
        thing = step.format(thing)
    return PREFIX + thing


def parse_goal(goal: str) -> Chain | None:
    """The chain that a goal names, None where it breaks the grammar.

    Strict on purpose: spaces, capitals and words as `format_goal` writes them. Whether the names exist is another question.
    """
    if not goal.startswith(PREFIX):
        return None
    place = len(PREFIX)
    # The last step stands first; each `whose` is completed after what it encloses.
    outer: list[Of | tuple[Kind, str]] = []
    while len(outer) <= _MOST_STEPS:
        if match := _OF.match(goal, place):
            outer.append(Of(match[1]))
        elif match := _WHOSE.match(goal, place):
            outer.append((cast(Kind, match[1]), match[2]))
        else:
            break
        place = match.end()
    start = _START.match(goal, place)
    if start is None or not outer:
        return None
    place = start.end()
    steps: list[Step] = []
    for step in reversed(outer):
        if isinstance(step, tuple):
            match = _AND_WHOSE.match(goal, place)
            if match is None:
                return None
            place = match.end()
            steps.append(Whose(*step, match[1], match[2]))
        else:
            steps.append(step)
    return Chain(start[0], tuple(steps)) if place == len(goal) else None


def answers(graph: Graph, chain: Chain) -> frozenset[str]:
    """All entities that the chain leads to; none where a name does not exist or a relation does not apply."""
    things = frozenset([chain.start])
    for step in chain.steps:
        things = step.follow(graph, things)
    return things
