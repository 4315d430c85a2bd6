"""Which nodes a node is compared with: those whose mean reward is its baseline (see `baselines.py`), for explanations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Literal

from .baselines import Baseline, Group, asked, family
from .rewards import Earned

LISTED = 12
"""Rewards that are listed of those that a node is compared with."""
Pool = Literal["roots", "depth", "goal", "siblings"]


@dataclass(frozen=True, slots=True)
class Compared:
    """What a baseline is the mean of."""

    pool: Pool
    """The other roots of the group, or the nodes at the same depth, with the same goal, or of the same family."""
    count: int
    values: tuple[Fraction, ...]
    """Their rewards (with `root_success` their s̃): the first `LISTED`."""


def compared_with(group: Group, kind: Baseline) -> list[list[Compared]]:
    """For every node of every rollout of a group of at least two, what it is compared with; the shape is that of `baselines`.

    For baselines of other forms, it is what they fall back on: the other roots.
    """
    pools: defaultdict[Hashable, list[tuple[int, Fraction]]] = defaultdict(list)
    families: defaultdict[Hashable, list[tuple[int, Fraction]]] = defaultdict(list)
    keys = [[list(_keys(earned, kind)) for earned in rollout] for rollout in group]
    for number, rollout in enumerate(group):
        root = rollout[0].success if kind == "root_success" else rollout[0].reward
        pools["roots", None].append((number, Fraction(0) if root is None else root))
        for place, earned in enumerate(rollout):
            for key in keys[number][place]:
                pools[key].append((number, earned.reward))
            if kind == "siblings":
                families[number, family(earned.node)].append((place, earned.reward))
    known: dict[tuple[int, Hashable], Compared | None] = {}

    def of(number: int, place: int) -> Compared:
        earned = group[number][place]
        if kind == "siblings" and len(own := families[number, family(earned.node)]) > 1:
            return _compared("siblings", (value for other, value in own if other != place), len(own) - 1)
        for key in (*keys[number][place], ("roots", None)):
            if (number, key) not in known:
                others = [value for other, value in pools[key] if other != number]
                known[number, key] = _compared(key[0], iter(others), len(others)) if others else None
            if (found := known[number, key]) is not None:
                return found
        raise ValueError("a baseline needs the roots of two rollouts at least")

    return [[of(number, place) for place in range(len(rollout))] for number, rollout in enumerate(group)]


def _keys(earned: Earned, kind: Baseline) -> Iterator[tuple[Pool, Hashable]]:
    """The pools that a node may be compared in, the closest first."""
    if kind == "goal":
        yield "goal", asked(earned.node)
    if kind in ("goal", "depth"):
        yield "depth", earned.node.depth


def _compared(pool: Pool, values: Iterator[Fraction], count: int) -> Compared:
    return Compared(pool, count, tuple(islice(values, LISTED)))
