"""The maze: which moves are open at each cell, and whether a path is one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

Cell: TypeAlias = tuple[int, int]
"""Row and column, from 0 at the top left."""
ROOM = 4
"""Rows and columns of a room."""
MOVES: Mapping[str, Cell] = MappingProxyType({"N": (-1, 0), "E": (0, 1), "S": (1, 0), "W": (0, -1)})
BACK: Mapping[str, str] = MappingProxyType({"N": "S", "E": "W", "S": "N", "W": "E"})
UNREACHABLE = "unreachable"
"""The answer where there is no path."""

SPLIT_ROOM = 0.2
"""Probability that a wall divides a room into two parts with no way between them inside it."""
LOOP = 0.15
"""Probability that a wall inside an undivided room that is not needed is left out."""
DOOR = 0.8
"""Probability of a door between neighbouring rooms."""


def room_of(cell: Cell) -> Cell:
    """The room of a cell, by its place in the grid of rooms."""
    return cell[0] // ROOM, cell[1] // ROOM


def moved(cell: Cell, move: str) -> Cell:
    """The cell that a move leads to."""
    down, right = MOVES[move]
    return cell[0] + down, cell[1] + right


@dataclass(frozen=True, slots=True)
class Grid:
    """A square maze; `ways` holds the open moves of every cell, such as `"NE"`."""

    size: int
    ways: Mapping[Cell, str]

    def room(self, cell: Cell) -> list[Cell]:
        """The cells of the room that `cell` is in, row by row."""
        row, column = room_of(cell)
        return [(r, c) for r in range(row * ROOM, (row + 1) * ROOM) for c in range(column * ROOM, (column + 1) * ROOM)]

    def doors(self) -> Iterator[tuple[Cell, str]]:
        """Every door from both of its sides: a cell, and the move that leads into the next room."""
        for cell, ways in self.ways.items():
            for move in ways:
                if room_of(moved(cell, move)) != room_of(cell):
                    yield cell, move

    def reached(self, start: Cell, *, one_room: bool = False) -> set[Cell]:
        """The cells that can be reached from `start`, through its room alone if `one_room`."""
        seen, waiting = {start}, [start]
        while waiting:
            cell = waiting.pop()
            for move in self.ways[cell]:
                after = moved(cell, move)
                if after not in seen and not (one_room and room_of(after) != room_of(start)):
                    seen.add(after)
                    waiting.append(after)
        return seen

    def is_path(self, path: str, start: Cell, end: Cell, *, one_room: bool = False) -> bool:
        """Whether these moves lead from `start` to `end` with no more moves than there are cells."""
        if len(path) > (ROOM**2 if one_room else self.size**2):
            return False
        cell = start
        for move in path:
            if move not in self.ways[cell]:
                return False
            cell = moved(cell, move)
            if one_room and room_of(cell) != room_of(start):
                return False
        return cell == end


def make_grid(seed: str, size: int) -> Grid:
    """The maze of a seed, of `size` rows and columns (a multiple of `ROOM`)."""
    rng = random.Random(f"maze/grid/{seed}")
    ways: dict[Cell, list[str]] = {(row, column): [] for row in range(size) for column in range(size)}

    def open_way(cell: Cell, move: str) -> None:
        ways[cell].append(move)
        ways[moved(cell, move)].append(BACK[move])

    for row in range(0, size, ROOM):
        for column in range(0, size, ROOM):
            for cell, move in _inside(rng, (row, column)):
                open_way(cell, move)
            if column + ROOM < size and rng.random() < DOOR:
                open_way((row + rng.randrange(ROOM), column + ROOM - 1), "E")
            if row + ROOM < size and rng.random() < DOOR:
                open_way((row + ROOM - 1, column + rng.randrange(ROOM)), "S")
    return Grid(size, {cell: "".join(move for move in MOVES if move in moves) for cell, moves in ways.items()})


def _inside(rng: random.Random, corner: Cell) -> list[tuple[Cell, str]]:
    """The open ways inside a room: a random tree, with a few more or one less."""
    cells = {(corner[0] + row, corner[1] + column) for row in range(ROOM) for column in range(ROOM)}
    edges = [(cell, move) for cell in sorted(cells) for move in "ES" if moved(cell, move) in cells]
    rng.shuffle(edges)
    parts = {cell: cell for cell in cells}

    def part(cell: Cell) -> Cell:
        while parts[cell] != cell:
            cell = parts[cell]
        return cell

    tree, rest = [], []
    for cell, move in edges:
        one, other = part(cell), part(moved(cell, move))
        if one == other:
            rest.append((cell, move))
        else:
            parts[one] = other
            tree.append((cell, move))
    if rng.random() < SPLIT_ROOM:
        tree.pop(rng.randrange(len(tree)))
        return tree
    return tree + [edge for edge in rest if rng.random() < LOOP]
