"""Ask a scorer about a node, and make the event that goes into the trace; the same during a run and after it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol, SupportsFloat, runtime_checkable

from .asking import asked
from .errors import ConfigurationError, described
from .trace.schema import Scored
from .trace.tree import Node

Scorer = Callable[[Node], "SupportsFloat | Scored | Awaitable[SupportsFloat | Scored | None] | None"]
"""s̃ of a node that has ended, in [0, 1] (a bool, or a number of numpy, will do); None where it cannot be known. A scorer that
knows more, such as where the score comes from, gives the whole event."""


@runtime_checkable
class OwnTime(Protocol):
    """A scorer whose time is no part of the run's, because it waits for others: a judge, say. No scorer needs to."""

    @property
    def scoring_timeout(self) -> float | None:
        """Seconds to score all agents of a run, whatever the run has used; None: the scorer ends its waits itself."""


async def assess(score: Scorer, node: Node, source: str = "scorer") -> Scored:
    """Ask a scorer about a node. Where it raises, the score is not known (`judge_error`), and never 0.

    A function that is not async runs in a thread. Whoever cancels the call goes on, whether the scorer does or hangs.
    Raises ConfigurationError where it returns something that is not a score.
    """
    ended = await asked(score, node)
    if ended.error is not None:  # a scorer is the caller's code: what it cannot say of one node is no reason to stop
        return unscored(node, ended.error)
    if isinstance(ended.value, Scored):
        return ended.value
    return scored(node, ended.value, source)


def scored(node: Node, value: SupportsFloat | None, source: str) -> Scored:
    """The event of a score; `unknown` for None. Raises ConfigurationError for anything else."""
    if value is None:
        return Scored(time=time.time(), node=node.id, score=None, status="unknown", source=source)
    return Scored(time=time.time(), node=node.id, score=_checked(value), status="scored", source=source)


def unscored(node: Node, error: BaseException) -> Scored:
    """The event of a scorer that failed; its error stands where else the scorer's name does."""
    return Scored(time=time.time(), node=node.id, score=None, status="judge_error", source=described(error))


def late(node: Node) -> Scored:
    """The event of a node whose scorer was not asked in time, or did not answer in time."""
    return unscored(node, TimeoutError("the time of the run was used up"))


def _checked(value: object) -> float:
    try:
        number = float(value) if isinstance(value, SupportsFloat) else None
    except Exception:  # an array of several numbers, say
        number = None
    if number is None or not 0 <= number <= 1:
        raise ConfigurationError(f"{_shown(value)} is not a score: return a number between 0 and 1, or None")
    return number


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__}"
