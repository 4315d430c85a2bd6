"""Repair: a repository of small Python functions with mistakes, and five kinds of sub-tasks on the way to mend it."""

from .environment import Repair
from .families import families
from .goals import Goal, parse_goal
from .repository import LEVELS, Repository, make_repository
from .session import Ledger, RepairSession

__all__ = [
    "Goal",
    "LEVELS",
    "Ledger",
    "Repair",
    "RepairSession",
    "Repository",
    "families",
    "make_repository",
    "parse_goal",
]
