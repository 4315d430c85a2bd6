"""Questions: controlled walks over the graph, written as chains of unnamed entities with exactly one answer."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .goals import Chain, Of, Step, Whose
from .graph import BY_NAME, RELATIONS, Graph

_DESCRIBED = 0.4
"""Probability that a step goes against a relation, to an entity described by two facts, where both ways are open."""
_TRIES = 10_000


def questions(graph: Graph, rng: random.Random, hops: int) -> Iterator[Chain]:
    """Different chains of `hops` steps, without end as far as the graph has them.

    Every step leads to exactly one entity, and no walk comes back to an entity or names one that it passes.
    """
    names = list(graph.kinds)
    seen: set[Chain] = set()
    for _ in range(_TRIES):
        chain = _walk(graph, rng, rng.choice(names), hops)
        if chain is not None and chain not in seen:
            seen.add(chain)
            yield chain


def _walk(graph: Graph, rng: random.Random, start: str, hops: int) -> Chain | None:
    steps: list[Step] = []
    here, used = start, {start}
    for _ in range(hops):
        forward, described = _forward(graph, here, used), _described(graph, here, used)
        choices = described if described and (not forward or rng.random() < _DESCRIBED) else forward
        if not choices:
            return None
        step, here = rng.choice(choices)
        steps.append(step)
        used.add(here)
        if isinstance(step, Whose):
            used.add(step.name)
    return Chain(start, tuple(steps))


def _forward(graph: Graph, here: str, used: set[str]) -> list[tuple[Step, str]]:
    found: list[tuple[Step, str]] = []
    for relation in RELATIONS:
        if relation.functional and (there := graph.only(here, relation.name)) is not None and there not in used:
            found.append((Of(relation.name), there))
    return found


def _described(graph: Graph, here: str, used: set[str]) -> list[tuple[Step, str]]:
    """Steps to an entity that has `here` as its object: several may have, so a second fact says which one."""
    found: list[tuple[Step, str]] = []
    for relation in RELATIONS:
        if relation.symmetric or relation.object != graph.kinds[here]:
            continue
        subjects = graph.related([here], relation.inverse)
        for there in sorted(subjects - used):
            for other in RELATIONS:
                value = graph.only(there, other.name)
                if other.subject != relation.subject or other == relation or value is None or value in used:
                    continue
                if subjects & graph.related([value], BY_NAME[other.name].inverse) == {there} and len(subjects) > 1:
                    found.append((Whose(relation.subject, relation.name, other.name, value), there))
    return found
