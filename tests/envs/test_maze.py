"""Mazes: what is seen of them, which paths count, and when there is none."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs.maze import Cell, Grid, Maze, MazeSession, Search, make_grid, parse_goal
from recursive_agent import ConfigurationError, Status
from recursive_agent.tools import ToolContext

from .solving import Answered, solved

STEPS = {"N": (-1, 0), "E": (0, 1), "S": (1, 0), "W": (0, -1)}


def corridor() -> Grid:
    """8 x 8. Row 0 is open from end to end; (1, 0) hangs below (0, 0); everything else is walled in, cell by cell."""
    ways = {(row, column): "" for row in range(8) for column in range(8)}
    for column in range(8):
        ways[0, column] = "EW" if 0 < column < 7 else "ES" if column == 0 else "W"
    ways[1, 0] = "N"
    return Grid(8, ways)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("goal", "right", "wrong"),
    [
        (
            "Find a path from (1, 0) to (0, 5)",
            ["NEEEEE", "NEEEEEEEWW", "N" + "EW" * 29 + "EEEEE"],
            ["EEEEEN", "NEEEE", "NEEEEEE", "neeeee", "N EEEEE", "unreachable", "", list("NEEEEE"), None, 6],
        ),
        ("Find a path from (1, 0) to (0, 5)", [], ["N" + "EW" * 30 + "EEEEE"]),  # 66 moves in 64 cells
        ("Find a path from (1, 0) to (0, 3) inside one room", ["NEEE"], ["NEEEEW", "unreachable", "NEE"]),
        ("Find a path from (0, 1) to (0, 2) inside one room", ["E" + "WE" * 7], ["E" + "WE" * 8]),
        ("Find a path from (0, 3) to (0, 4)", ["E"], ["W"]),
        ("Find a path from (2, 2) to (2, 2) inside one room", [""], ["unreachable", "N"]),
        ("Find a path from (0, 0) to (7, 7)", ["unreachable"], ["", "EEEEEEE", "Unreachable"]),
        ("Find a path from (0, 0) to (2, 2) inside one room", ["unreachable"], ["SE", "ESS"]),
    ],
)
async def test_paths_are_walked(goal: str, right: list[object], wrong: list[object]) -> None:
    session = MazeSession(corridor())
    for answer in right:
        assert await session.score(Answered(goal=goal, result=answer)) == 1.0, answer
        assert await session.score(Answered(goal=goal, result=answer, status=Status.TOKEN_LIMIT)) == 0.0
    for answer in wrong:
        assert await session.score(Answered(goal=goal, result=answer)) == 0.0, answer
    assert session.unparsed == set()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "goal",
    [
        "Find a path from (0,0) to (0,1)",
        "Find a path from (0, 0) to (0, 8)",
        "Find a path from (0, 3) to (0, 4) inside one room",
        "Find a path from (0, 0) to (0, 1) inside a room",
        "Find a path from (00, 0) to (0, 1)",
        "Find a path from (-1, 0) to (0, 1)",
        "Find a path from (0, 0) to (0, 1)\n",
    ],
)
async def test_goals_outside_the_grammar_or_the_maze_score_0(goal: str) -> None:
    session = MazeSession(corridor())
    for answer in ("E", "unreachable", ""):
        assert await session.score(Answered(goal=goal, result=answer, id="0.2")) == 0.0
    assert session.unparsed == {"0.2"}


def components(grid: Grid, one_room: bool) -> dict[Cell, Cell]:
    """A name for what is connected with each cell, found by passing the smallest name on until nothing changes."""
    names = {cell: cell for cell in grid.ways}
    changed = True
    while changed:
        changed = False
        for (row, column), ways in grid.ways.items():
            for move in ways:
                down, right = STEPS[move]
                after = (row + down, column + right)
                if one_room and (after[0] // 4, after[1] // 4) != (row // 4, column // 4):
                    continue
                low = min(names[row, column], names[after])
                if names[row, column] != low or names[after] != low:
                    names[row, column] = names[after] = low
                    changed = True
    return names


@given(st.integers(0, 10**6), st.sampled_from([8, 12]), st.booleans())
@settings(max_examples=12)
def test_what_can_be_reached_equals_brute_force(seed: int, size: int, one_room: bool) -> None:
    grid = make_grid(str(seed), size)
    names = components(grid, one_room)
    for start in list(grid.ways)[:: size + 1]:
        reached = grid.reached(start, one_room=one_room)
        assert reached == {cell for cell in grid.ways if names[cell] == names[start]}


@given(st.integers(0, 10**6), st.text("NESW", max_size=12), st.sampled_from([(0, 0), (3, 3), (4, 7)]))
@settings(max_examples=100)
def test_a_path_leads_where_its_moves_lead(seed: int, path: str, start: Cell) -> None:
    grid = make_grid(str(seed), 8)
    row, column = start
    open_all_along = True
    for move in path:
        open_all_along = open_all_along and move in grid.ways.get((row, column), "")
        row, column = row + STEPS[move][0], column + STEPS[move][1]
    for end in ((row, column), (0, 0), (7, 7)):
        assert grid.is_path(path, start, end) == (open_all_along and end == (row, column))


@given(st.integers(0, 10**6), st.sampled_from([8, 12, 20]))
@settings(max_examples=20)
def test_ways_lead_back_and_never_out_of_the_maze(seed: int, size: int) -> None:
    grid = make_grid(str(seed), size)
    for (row, column), ways in grid.ways.items():
        for move in ways:
            after = (row + STEPS[move][0], column + STEPS[move][1])
            assert {"N": "S", "E": "W", "S": "N", "W": "E"}[move] in grid.ways[after]


def test_some_tasks_have_no_path_and_most_do() -> None:
    tasks = list(Maze().tasks("test", 1, limit=100))
    searches = [parse_goal(task.goal) for task in tasks]
    grids = [make_grid(task.data["source"], task.data["size"]) for task in tasks]
    blocked = sum(
        search is not None and search.end not in grid.reached(search.start)
        for search, grid in zip(searches, grids, strict=True)
    )
    assert 3 <= blocked <= 25


@given(st.tuples(*[st.integers(0, 99)] * 4), st.booleans())
def test_a_goal_is_read_as_it_is_written(cells: tuple[int, int, int, int], one_room: bool) -> None:
    search = Search(cells[:2], cells[2:], one_room)
    assert parse_goal(str(search)) == search


def test_goals_from_outside() -> None:
    env = Maze()
    assert env.task("Find a path from (0, 0) to (3, 3) inside one room", 4).data == {
        "source": "maze/own/4",
        "size": 20,
    }
    for goal in ("Find a path from (0, 0) to (20, 3)", "Find a path from (0, 0) to (4, 3) inside one room"):
        with pytest.raises(ConfigurationError, match="rows and columns must be 0 to 19"):
            env.task(goal)


@pytest.mark.anyio
async def test_a_room_is_seen_at_a_time_and_a_window_limits_how_many() -> None:
    session = MazeSession(corridor(), window=1)
    one, other = (ToolContext("t", node, "0", 1, "g") for node in ("0.0", "0.1"))
    seen = await session.look(2, 6, ctx=one)
    assert [(row, column) for row, column, _ in seen] == [(r, c) for r in range(4) for c in range(4, 8)]
    assert seen[:4] == [(0, 4, "EW"), (0, 5, "EW"), (0, 6, "EW"), (0, 7, "W")]
    with pytest.raises(ValueError, match="you may not look at more rooms: the limit for one agent is 1"):
        await session.look(0, 0, ctx=one)
    assert len(await session.look(0, 0, ctx=other)) == 16
    assert await session.doors() == [(0, 3, "E"), (0, 4, "W")]
    with pytest.raises(ValueError, match=r"there is no cell \(8, 0\): rows and columns are 0 to 7"):
        await session.look(8, 0, ctx=other)


def test_sub_agents_that_see_one_room_each_solve_what_no_single_agent_could() -> None:
    env = Maze(window=1)
    (tree,) = anyio.run(solved, env, "recursive", list(env.tasks("test", level="20x20", limit=1)))
    assert {node.score for node in tree.walk()} == {1.0}
    assert len(list(tree.walk())) > 4
    shown = Maze(mode="single", window=4).demonstrations()
    assert {next(shown).task.level for _ in range(3)} == {"8x8"}
