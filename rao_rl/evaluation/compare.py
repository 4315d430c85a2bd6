"""What compares attempts fairly: the tasks that every mode solves, and differences paired by task."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..envs.base import Mode
from .outcome import ALL, Attempt
from .statistics import paired_interval, permutation_test, sign_test


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What solving a number of tasks took, on average over the tasks; None if there are none."""

    tasks: int
    steps: float | None
    critical_steps: float | None
    """None also if an attempt does not say it (files of older versions)."""
    seconds: float | None
    completion_tokens: float | None
    total_tokens: float | None
    """Prompt and sampled tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two sets of attempts on the tasks that both have, paired by task: `second` minus `first`."""

    level: str
    mode: str
    """The mode of both, or `single → recursive` where it differs."""
    tasks: int
    """Tasks with a score in both."""
    only_first: int
    only_second: int
    """Tasks that only one of them has."""
    unscored: int
    """Tasks that both have, and one of them without a score."""
    first: float | None
    second: float | None
    """Mean score over the tasks of `tasks`; None if there are none."""
    difference: float | None
    low: float
    high: float
    """Bounds of `difference` at 95 % (`paired_interval`)."""
    p: float
    """Of the exact paired permutation test over tasks."""
    better: int
    worse: int
    """Tasks whose mean score is higher, or lower, in the second."""
    sign_p: float
    """Of the exact sign test over tasks; with one attempt a task and scores of 0 and 1 it is McNemar's exact test."""
    first_timed_out: int
    second_timed_out: int
    """Tasks with an attempt that the time limit ended."""


def by_task(attempts: Iterable[Attempt]) -> dict[str, float]:
    """The mean score of each task, by id. Attempts without a score (a failed endpoint) are left out."""
    scores: dict[str, list[float]] = {}
    for attempt in attempts:
        if attempt.score is not None:
            scores.setdefault(attempt.task, []).append(attempt.score)
    return {task: fmean(found) for task, found in scores.items()}


def solved_by_all(attempts: Sequence[Attempt]) -> set[str]:
    """Ids of the tasks that every mode in `attempts` solves, in one attempt at least."""
    solved: dict[Mode, set[str]] = {attempt.mode: set() for attempt in attempts}
    for attempt in attempts:
        if attempt.solved:
            solved[attempt.mode].add(attempt.task)
    return set.intersection(*solved.values()) if solved else set()


def effort_on(tasks: Collection[str], attempts: Sequence[Attempt]) -> Effort:
    """The mean effort of the attempts that solve one of `tasks`; every task weighs the same, however many solve it."""
    chosen = [attempt for attempt in attempts if attempt.solved and attempt.task in tasks]
    critical = [item.critical_steps for item in chosen if item.critical_steps is not None]
    return Effort(
        tasks=len({attempt.task for attempt in chosen}),
        steps=_over_tasks(chosen, [attempt.steps for attempt in chosen]),
        critical_steps=_over_tasks(chosen, critical) if len(critical) == len(chosen) else None,
        seconds=_over_tasks(chosen, [attempt.seconds for attempt in chosen]),
        completion_tokens=_over_tasks(chosen, [attempt.completion_tokens for attempt in chosen]),
        total_tokens=_over_tasks(chosen, [attempt.total_tokens for attempt in chosen]),
    )


def differences(first: Sequence[Attempt], second: Sequence[Attempt]) -> list[Difference]:
    """`second` against `first`, by level and over all levels, for each mode that both have.

    Where each has one mode only and not the same, those two are compared. [] if they have no mode in common.
    """
    modes = [{item.mode for item in side} for side in (first, second)]
    pairs: list[tuple[Mode, Mode]] = [(mode, mode) for mode in _order(first) if mode in modes[1]]
    if not pairs and len(modes[0]) == len(modes[1]) == 1:
        pairs = [(modes[0].pop(), modes[1].pop())]
    found = []
    for before, after in pairs:
        one = [item for item in first if item.mode == before]
        other = [item for item in second if item.mode == after]
        levels = list(dict.fromkeys(item.level for item in [*one, *other]))
        name = before if before == after else f"{before} → {after}"
        for level in levels:
            parts = [[item for item in side if item.level == level] for side in (one, other)]
            found.append(_difference(level, name, *parts))
        if len(levels) > 1:
            found.append(_difference(ALL, name, one, other))
    return found


def between_modes(attempts: Sequence[Attempt]) -> list[Difference]:
    """The recursive attempts against the single ones; [] unless there are both."""
    single, recursive = ([item for item in attempts if item.mode == mode] for mode in ("single", "recursive"))
    return differences(single, recursive) if single and recursive else []


def mean_or_none(values: Sequence[float]) -> float | None:
    """The mean; None of no values."""
    return fmean(values) if values else None


def _difference(level: str, mode: str, first: Sequence[Attempt], second: Sequence[Attempt]) -> Difference:
    tasks = [{item.task for item in side} for side in (first, second)]
    before, after = by_task(first), by_task(second)
    paired = [task for task in before if task in after]
    changes = [after[task] - before[task] for task in paired]
    better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    low, high = paired_interval(changes)
    return Difference(
        level=level,
        mode=mode,
        tasks=len(paired),
        only_first=len(tasks[0] - tasks[1]),
        only_second=len(tasks[1] - tasks[0]),
        unscored=len(tasks[0] & tasks[1]) - len(paired),
        first=mean_or_none([before[task] for task in paired]),
        second=mean_or_none([after[task] for task in paired]),
        difference=mean_or_none(changes),
        low=low,
        high=high,
        p=permutation_test(changes),
        better=better,
        worse=worse,
        sign_p=sign_test(better, worse),
        first_timed_out=_timed_out(first),
        second_timed_out=_timed_out(second),
    )


def _timed_out(attempts: Iterable[Attempt]) -> int:
    return len({attempt.task for attempt in attempts if attempt.timed_out})


def _order(attempts: Iterable[Attempt]) -> list[Mode]:
    return list(dict.fromkeys(attempt.mode for attempt in attempts))


def _over_tasks(attempts: Sequence[Attempt], values: Sequence[float]) -> float | None:
    """The mean over tasks of each task's mean; None of no values."""
    found: dict[str, list[float]] = {}
    for attempt, value in zip(attempts, values, strict=True):
        found.setdefault(attempt.task, []).append(value)
    return mean_or_none([fmean(each) for each in found.values()])
