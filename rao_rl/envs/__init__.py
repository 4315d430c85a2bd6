"""Environments: families of tasks with tools and a score for every agent. They import no torch."""

from ..errors import UnknownGoal
from .base import Demonstrating, Demonstration, Environment, Expert, Mode, Session, Task
from .checks import open_session
from .registry import BUILT_IN, environment_names, make, make_registered

__all__ = [
    "BUILT_IN",
    "Demonstrating",
    "Demonstration",
    "Environment",
    "Expert",
    "Mode",
    "Session",
    "Task",
    "UnknownGoal",
    "environment_names",
    "make",
    "make_registered",
    "open_session",
]
