"""What compares two modes fairly: the tasks that every mode solves. The hard ones are often solved by one mode only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import mean

from ..envs.base import Mode
from .outcome import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What solving a number of tasks took, on average; None if there are none."""

    tasks: int
    steps: float | None
    seconds: float | None
    completion_tokens: float | None


def solved_by_all(attempts: Sequence[Attempt]) -> set[str]:
    """Ids of the tasks that every mode in `attempts` solves."""
    solved: dict[Mode, set[str]] = {attempt.mode: set() for attempt in attempts}
    for attempt in attempts:
        if attempt.solved:
            solved[attempt.mode].add(attempt.task)
    return set.intersection(*solved.values()) if solved else set()


def effort_on(tasks: Collection[str], attempts: Sequence[Attempt]) -> Effort:
    """The mean effort of the attempts that solve one of `tasks`."""
    chosen = [attempt for attempt in attempts if attempt.solved and attempt.task in tasks]
    return Effort(
        tasks=len({attempt.task for attempt in chosen}),
        steps=mean_or_none([attempt.steps for attempt in chosen]),
        seconds=mean_or_none([attempt.seconds for attempt in chosen]),
        completion_tokens=mean_or_none([attempt.completion_tokens for attempt in chosen]),
    )


def mean_or_none(values: Sequence[float]) -> float | None:
    """The mean; None of no values."""
    return mean(values) if values else None
