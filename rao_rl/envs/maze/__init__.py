"""Mazes of rooms that are joined by doors: agents look at one room at a time, and sub-agents cross one room each."""

from .environment import Maze, MazeSession
from .goals import Search, parse_goal
from .grid import UNREACHABLE, Cell, Grid, make_grid

__all__ = ["UNREACHABLE", "Cell", "Grid", "Maze", "MazeSession", "Search", "make_grid", "parse_goal"]
