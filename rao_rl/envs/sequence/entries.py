"""The sequence itself, the questions about a stretch of its pages, and their answers."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, TypeAlias, get_args

Entry: TypeAlias = tuple[str, int]
"""Who, and by how much the balance changes."""
Kind: TypeAlias = Literal["balance", "count", "last", "peak"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PAGE = 60
"""Entries on a page: some 400 tokens as Python writes them."""
MOST_AMOUNT = 20
NAMES = ("amy", "ben", "cat", "dan", "eli", "fay", "gus", "hal", "ida", "jan", "kim", "lea", "max", "ned", "ora", "pam")
NAMES_IN_USE = 8
"""Names that occur in one sequence."""
_GOAL = re.compile(rf"({'|'.join(KINDS)}) of ([a-z]{{1,20}}) on pages (0|[1-9]\d{{0,5}}):([1-9]\d{{0,5}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Question:
    """A goal: `kind` of `name`, on the pages from `first` up to `end` (not included)."""

    kind: Kind
    name: str
    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.kind} of {self.name} on pages {self.first}:{self.end}"


def parse_goal(goal: str) -> Question | None:
    """The question of a goal (`balance of amy on pages 0:25`), None where it breaks the grammar."""
    found = _GOAL.fullmatch(goal)
    if found is None:
        return None
    first, end = int(found[3]), int(found[4])
    for kind in KINDS:
        if kind == found[1] and first < end:
            return Question(kind, found[2], first, end)
    return None


def make_pages(seed: str, count: int) -> list[list[Entry]]:
    """`count` pages of entries; a shorter sequence of the same seed is the beginning of a longer one."""
    rng = random.Random(f"sequence/pages/{seed}")
    names = rng.sample(NAMES, NAMES_IN_USE)
    return [[(rng.choice(names), _amount(rng)) for _ in range(PAGE)] for _ in range(count)]


def _amount(rng: random.Random) -> int:
    return rng.randint(1, MOST_AMOUNT) * rng.choice((1, -1))


def names_of(pages: Sequence[Sequence[Entry]]) -> list[str]:
    """The names that occur, in alphabetical order."""
    return sorted({name for page in pages for name, _ in page})


def gold(pages: Sequence[Sequence[Entry]], question: Question) -> Any:
    """The answer, as it comes out of a sandbox. The pages must exist.

    `balance`: the sum of the amounts. `count`: the number of entries. `last`: the amount of the last entry, None if there
    is none. `peak`: the balance and the highest that it was on the way, starting from 0.
    """
    stretch = pages[question.first : question.end]
    amounts = [amount for page in stretch for name, amount in page if name == question.name]
    match question.kind:
        case "balance":
            return sum(amounts)
        case "count":
            return len(amounts)
        case "last":
            return amounts[-1] if amounts else None
        case "peak":
            return [sum(amounts), max(accumulate(amounts, initial=0))]
