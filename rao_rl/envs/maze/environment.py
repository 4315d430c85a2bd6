"""Mazes as an `Environment`: tasks by size, the tools that show a room and the doors, and the score of every agent."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any

from recursive_agent.errors import ConfigurationError
from recursive_agent.tools import ToolContext

from ...errors import UnknownGoal
from ..base import About, ScoredNode, Task
from ..generated import ExactSession, Generated, Window, task_data
from .experts import recursive_cell, single_cell
from .goals import Search, parse_goal
from .grid import ROOM, UNREACHABLE, Cell, Grid, make_grid, room_of
from .plan import crossings

LEVELS: Mapping[str, int] = MappingProxyType({"8x8": 8, "12x12": 12, "20x20": 20})
"""Rows and columns of the maze."""
NO_PATH = 0.1
"""Probability that the task's cells are not connected, if the maze has such cells."""
MOST_CROSSINGS = 16
"""Rooms that the reference solver lets sub-agents cross in a task: as many sub-agents as one agent may launch by default."""


class MazeSession(ExactSession):
    """One maze, and how many rooms each agent has seen."""

    def __init__(self, grid: Grid, window: int | None = None) -> None:
        super().__init__()
        self.grid = grid
        self.tools = (self.look, self.doors)
        self._window = Window(window, "rooms")

    async def look(self, row: int, column: int, *, ctx: ToolContext) -> list[tuple[int, int, str]]:
        """The room of 4 x 4 cells around a cell: (row, column, open moves) of each of its cells.

        Moves are N (row - 1), E (column + 1), S (row + 1), W (column - 1); "NE" means that N and E are open. A path is the
        text of its moves, such as "NNEES", at most as many as there are cells; if there is none, the answer is "unreachable".
        """
        self._check(row, column)
        self._window.look(ctx)
        return [(r, c, self.grid.ways[r, c]) for r, c in self.grid.room((row, column))]

    async def doors(self) -> list[tuple[int, int, str]]:
        """All doors between rooms, each from both sides: (row, column, move that leads through it)."""
        return [(row, column, move) for (row, column), move in self.grid.doors()]

    def understands(self, goal: str) -> bool:
        """Whether the goal keeps the grammar, and its cells exist, in the same room where it says so."""
        return self._search(goal) is not None

    def verdict(self, node: ScoredNode) -> bool:
        """Whether the result is a path, or says rightly that there is none."""
        search = self._search(node.goal)
        if search is None or not isinstance(node.result, str):
            return False
        if node.result == UNREACHABLE:
            return search.end not in self.grid.reached(search.start, one_room=search.one_room)
        return self.grid.is_path(node.result, search.start, search.end, one_room=search.one_room)

    def _search(self, goal: str) -> Search | None:
        search = parse_goal(goal)
        if search is None or max(*search.start, *search.end) >= self.grid.size:
            return None
        return None if search.one_room and room_of(search.start) != room_of(search.end) else search

    def _check(self, row: int, column: int) -> None:
        if not (0 <= row < self.grid.size and 0 <= column < self.grid.size):
            raise ValueError(f"there is no cell ({row}, {column}): rows and columns are 0 to {self.grid.size - 1}")


class Maze(Generated):
    """Find a way through a maze of rooms that is seen one room at a time.

    `mode`: `single` withholds `launch_subagent` (`max_depth` 0). `window`: rooms that one agent may look at in all; None: as
    many as it likes. Raises ConfigurationError for any other value.
    """

    name = "maze"
    levels = tuple(LEVELS)
    deepest = 1
    about = About(
        summary="find a path through a maze of up to 20 x 20 cells whose rooms are seen one at a time",
        sizes={"train": None, "validation": None, "test": None},
    )

    def make(self, id: str, level: str) -> Task:
        """A path between two cells of different rooms; once in a while there is none."""
        rng = random.Random(f"task/{id}")
        size = LEVELS[level]
        grid = make_grid(id, size)
        blocked = rng.random() < NO_PATH
        pairs = chain(_far_apart(rng, grid, blocked), _far_apart(rng, grid, not blocked))
        start, end = next(pair for pair in pairs if len(crossings(grid, *pair)) <= MOST_CROSSINGS)
        return self._task(id, id, level, Search(start, end, one_room=False))

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of any goal in the largest maze of `seed`.

        Raises UnknownGoal for a goal that breaks the grammar, and ConfigurationError for cells that do not exist.
        """
        search = parse_goal(goal)
        if search is None:
            raise UnknownGoal(
                "a goal reads like 'Find a path from (3, 4) to (17, 2)', with or without ' inside one room', "
                f"not {goal!r:.80}"
            )
        source = f"maze/own/{seed}"
        task = self._task(f"{source}/{goal}", source, None, search)
        if not self.session(task).understands(goal):
            last = LEVELS[self.levels[-1]] - 1
            raise ConfigurationError(
                f"maze: rows and columns must be 0 to {last}, and both cells in one room of {ROOM} x {ROOM} where the "
                "goal says so"
            )
        return task

    def session(self, task: Task) -> MazeSession:
        """A fresh state for one attempt at `task`."""
        source, size = task_data(self.name, task, "source", str), task_data(self.name, task, "size", int)
        return MazeSession(make_grid(source, size), self.window)

    def expert(self, goal: str, context: Any) -> Iterator[str]:
        """One cell: cross the room, plan over the doors and delegate, or search everything."""
        search = parse_goal(goal)
        if search is not None:
            yield recursive_cell(search) if self.mode == "recursive" else single_cell(search)

    def parts(self, task: Task) -> int:
        """Rooms of the maze."""
        return (task_data(self.name, task, "size", int) // ROOM) ** 2

    def _task(self, id: str, source: str, level: str | None, search: Search) -> Task:
        size = LEVELS[self.levels[-1] if level is None else level]
        return Task(id=id, goal=str(search), returns=str, level=level, data={"source": source, "size": size})


def _far_apart(rng: random.Random, grid: Grid, blocked: bool) -> Iterator[tuple[Cell, Cell]]:
    """Pairs of cells, as many rooms apart as a row of the maze has at least, all with a path or all without one."""
    cells = list(grid.ways)
    for start in rng.sample(cells, len(cells)):
        reached = grid.reached(start)
        ends = [
            end
            for end in cells
            if (end not in reached) == blocked and _rooms_apart(start, end) >= grid.size // ROOM - 1
        ]
        if ends:
            yield start, rng.choice(ends)


def _rooms_apart(one: Cell, other: Cell) -> int:
    (a, b), (c, d) = room_of(one), room_of(other)
    return abs(a - c) + abs(b - d)
