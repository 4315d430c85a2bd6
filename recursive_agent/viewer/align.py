"""Pairing the members of two sequences. Each function is symmetric: swapped sequences give the same pairs, swapped."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")
Pairing = list[tuple[int, int]]
"""Positions in the left and in the right sequence."""

_MOST_COMPARED = 40_000
"""Pairs of texts that are compared, and cells of the table of an alignment: more would take seconds."""
_ALIKE = 0.5
"""Share of their words that two texts have at least in common, so that one counts as another version of the other."""
_WORD = re.compile(r"[^\W\u3040-\u30ff\u3400-\u9fff]+|[\u3040-\u30ff\u3400-\u9fff]")
"""A word, or one sign of a script that writes no spaces."""


def by_key(left: Sequence[tuple[int, T]], right: Sequence[tuple[int, T]], key: Callable[[T], Hashable]) -> Pairing:
    """Pairs of equal keys, those with the same key in their order. Members come with their positions."""
    waiting: dict[Hashable, list[int]] = defaultdict(list)
    for at, member in right:
        waiting[key(member)].append(at)
    places = {name: iter(found) for name, found in waiting.items()}
    pairs = []
    for at, member in left:
        other = next(places.get(key(member), iter(())), None)
        if other is not None:
            pairs.append((at, other))
    return pairs


def by_words(left: Sequence[tuple[int, str]], right: Sequence[tuple[int, str]]) -> Pairing:
    """Pairs of texts that have most words in common: the most alike first, then those whose positions are nearest.

    Where there are many, only texts near each other are compared.
    """
    if not left or not right:
        return []
    words = [[(at, frozenset(_WORD.findall(text.lower()))) for at, text in side] for side in (left, right)]
    reach = max(8, _MOST_COMPARED // max(len(left), len(right)))
    found = []
    for i, (a, ours) in enumerate(words[0]):
        for j in range(max(0, i - reach), min(len(right), i + reach + 1)):
            b, theirs = words[1][j]
            alike = _alike(ours, theirs)
            if alike >= _ALIKE:
                # Of two candidates with equal ranks each is the mirror of the other, and neither stands in its way.
                found.append((-alike, abs(a - b), a + b, a, b))
    found.sort()
    pairs: Pairing = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for *_, a, b in found:
        if a not in taken[0] and b not in taken[1]:
            taken[0].add(a)
            taken[1].add(b)
            pairs.append((a, b))
    return pairs


def _alike(one: frozenset[str], other: frozenset[str]) -> float:
    """Words in common, as a share of those of either; 0 to 1."""
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 1.0


def in_order(left: Sequence[Sequence[bytes]], right: Sequence[Sequence[bytes]]) -> Pairing:
    """The alignment of two sequences, each member a tuple of keys, that pairs the most equal keys without crossing.

    What stands between two pairs that have keys in common is paired in its order too, so that a member that was replaced
    by another one is paired with it.
    """
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    while end < min(len(left), len(right)) - start and left[-1 - end] == right[-1 - end]:
        end += 1
    pairs = [(i, i) for i in range(start)]
    ours, theirs = left[start : len(left) - end], right[start : len(right) - end]
    # Ties are broken by the order of the arguments, so these are put into an order of their own first.
    swapped = [tuple(member) for member in ours] > [tuple(member) for member in theirs]
    inner = [(j, i) for i, j in _aligned(theirs, ours)] if swapped else _aligned(ours, theirs)
    pairs += [(start + i, start + j) for i, j in inner]
    return pairs + [(len(left) - at, len(right) - at) for at in range(end, 0, -1)]


def _aligned(left: Sequence[Sequence[bytes]], right: Sequence[Sequence[bytes]]) -> Pairing:
    rows, columns = len(left), len(right)
    if rows * columns > _MOST_COMPARED:
        return [(i, i) for i in range(min(rows, columns))]
    # best[i][j]: for what follows i and j, the keys in common and then the number of pairs, as one number.
    scale = min(rows, columns) + 1
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    gain = [[1 + scale * sum(a == b for a, b in zip(one, other, strict=True)) for other in right] for one in left]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            best[i][j] = max(gain[i][j] + best[i + 1][j + 1], best[i + 1][j], best[i][j + 1])
    pairs: Pairing = []
    i = j = 0
    while i < rows and j < columns:
        if best[i][j] == gain[i][j] + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs
