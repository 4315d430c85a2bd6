"""Environments: families of tasks with tools and a score for every agent. They import no torch."""

from ..errors import UnknownGoal
from .base import (
    About,
    Casting,
    Demonstrating,
    Demonstration,
    Environment,
    Expert,
    Measuring,
    Mode,
    NeedsJudge,
    Session,
    Task,
)
from .checks import open_session
from .registry import BUILT_IN, environment_names, make, make_registered

__all__ = [
    "About",
    "BUILT_IN",
    "Casting",
    "Demonstrating",
    "Demonstration",
    "Environment",
    "Expert",
    "Measuring",
    "Mode",
    "NeedsJudge",
    "Session",
    "Task",
    "UnknownGoal",
    "environment_names",
    "make",
    "make_registered",
    "open_session",
]
