"""Environments: families of tasks with tools and a score for every node. None of them imports torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from recursive_agent.errors import ConfigurationError

from .base import Environment, Session, Task
from .textcraft import TextCraft

ENVIRONMENTS: dict[str, Callable[..., Environment]] = {"textcraft": TextCraft}

__all__ = ["ENVIRONMENTS", "Environment", "Session", "Task", "make"]


def make(name: str, **arguments: Any) -> Environment:
    """The environment called `name` with its own arguments. Raises ConfigurationError for an unknown one of either."""
    try:
        factory = ENVIRONMENTS[name]
    except KeyError:
        raise ConfigurationError(f"there is no environment {name!r}; choose from {', '.join(ENVIRONMENTS)}") from None
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise ConfigurationError(f"{name}: {error}; it takes {inspect.signature(factory)}") from None
    return factory(**arguments)
