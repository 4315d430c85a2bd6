"""How much a maze asks of those who plan over its doors and learn only by trying whether a room can be crossed."""

from __future__ import annotations

from .grid import Cell, Grid, moved, room_of

Crossing = tuple[Cell, Cell]
"""From where to where in one room."""


def crossings(grid: Grid, start: Cell, end: Cell) -> set[Crossing]:
    """Everything that is tried: the crossings of the shortest plan, and of the next one as long as one of them fails."""
    doors = list(grid.doors())
    tried: set[Crossing] = set()
    while plan := _plan(doors, start, end, {each for each in tried if not _possible(grid, each)}):
        if tried.issuperset(plan):
            break
        tried.update(plan)
    return tried


def _possible(grid: Grid, crossing: Crossing) -> bool:
    return crossing[1] in grid.reached(crossing[0], one_room=True)


def _plan(doors: list[tuple[Cell, str]], start: Cell, end: Cell, failed: set[Crossing]) -> list[Crossing]:
    """The crossings that lead to `end` through fewest doors, none of them among the failed; empty if there is no way."""
    waiting: list[tuple[Cell, list[Crossing]]] = [(start, [])]
    seen = {start}
    for cell, before in waiting:
        if room_of(cell) == room_of(end) and (cell, end) not in failed:
            return [*before, (cell, end)]
        for door, move in doors:
            after = moved(door, move)
            if room_of(door) == room_of(cell) and after not in seen and (cell, door) not in failed:
                seen.add(after)
                waiting.append((after, [*before, (cell, door)]))
    return []
