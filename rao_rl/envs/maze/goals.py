"""The grammar of goals: `Find a path from (3, 4) to (17, 2)`, with or without ` inside one room`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .grid import Cell

_NUMBER = r"(0|[1-9]\d?)"
_CELL = rf"\({_NUMBER}, {_NUMBER}\)"
_GOAL = re.compile(rf"Find a path from {_CELL} to {_CELL}( inside one room)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Search:
    """A goal: a path between two cells, through the room of both alone if `one_room`."""

    start: Cell
    end: Cell
    one_room: bool

    def __str__(self) -> str:
        return f"Find a path from {self.start} to {self.end}{' inside one room' * self.one_room}"


def parse_goal(goal: str) -> Search | None:
    """The search of a goal, None where it breaks the grammar. Whether the cells exist is another question."""
    found = _GOAL.fullmatch(goal)
    if found is None:
        return None
    a, b, c, d = map(int, found.groups()[:4])
    return Search((a, b), (c, d), found[5] is not None)
