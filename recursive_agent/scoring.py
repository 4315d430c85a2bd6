"""From what a scorer says of a node to the event that goes into the trace; the same during a run and after it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import SupportsFloat

from .errors import ConfigurationError
from .trace.schema import Scored
from .trace.tree import Node

Scorer = Callable[[Node], "SupportsFloat | Awaitable[SupportsFloat | None] | None"]
"""s̃ of a node that has ended, in [0, 1] (a bool, or a number of numpy, will do); None where it cannot be known."""


async def assess(score: Scorer, node: Node, source: str = "scorer") -> Scored:
    """Ask a scorer about a node. Where it raises, the score is not known (`judge_error`), and never 0.

    Raises ConfigurationError where it gives something that is no score.
    """
    try:
        given = score(node)
        value = await given if isawaitable(given) else given
    except Exception as error:  # a scorer is the caller's code: what it cannot say of one node is no reason to stop
        return unscored(node, error)
    return scored(node, value, source)


def scored(node: Node, value: SupportsFloat | None, source: str) -> Scored:
    """The event of a score, or of `unknown` for None. Raises ConfigurationError for what is neither."""
    if value is None:
        return Scored(time=time.time(), node=node.id, score=None, status="unknown", source=source)
    return Scored(time=time.time(), node=node.id, score=_checked(value), status="scored", source=source)


def unscored(node: Node, error: Exception) -> Scored:
    """The event of a scorer that failed; its error stands where else the scorer's name does."""
    return Scored(
        time=time.time(), node=node.id, score=None, status="judge_error", source=f"{type(error).__name__}: {error}"
    )


def _checked(value: object) -> float:
    try:
        number = float(value) if isinstance(value, SupportsFloat) else None
    except Exception:  # an array of several numbers, say
        number = None
    if number is None or not 0 <= number <= 1:
        raise ConfigurationError(f"{value!r:.80} is no score: it must be a number between 0 and 1, or None")
    return number
