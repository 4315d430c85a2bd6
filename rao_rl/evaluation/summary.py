"""The figures of an evaluation: success with its interval, effort, depth and concurrency, for each level and mode."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist, mean
from typing import Any

from ..envs.base import Mode
from .compare import effort_on, mean_or_none, solved_by_all
from .outcome import ALL, Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Summary of the attempts of one level in one mode. A figure is None if no attempt determines it."""

    level: str
    mode: Mode
    tasks: int
    unscored: int
    """Attempts whose score is not known; they are left out of `success`."""
    success: float | None
    """Mean score of the scored attempts."""
    low: float
    high: float
    """Bounds of `success` at 95 % (Wilson's interval)."""
    endings: Mapping[str, int]
    """How many attempts ended in each status."""

    agents: float
    depth: float
    steps: float
    completion_tokens: float
    seconds: float
    """Means over all attempts."""
    total_completion_tokens: int
    tokens_per_solved: float | None
    """Tokens generated in all attempts, also the failed ones, for each task solved."""
    launches: int
    concurrent_share: float | None
    """Share of all launches that ran beside a sibling."""

    solved: int
    solved_depth: float | None
    solved_depth_low: int | None
    solved_depth_high: int | None
    """Mean, least and greatest depth of the solved trees."""

    common: int
    """Tasks of this level that *every* mode evaluated solves."""
    common_steps: float | None
    common_seconds: float | None
    common_tokens: float | None
    """Means over those tasks: what compares the modes fairly, for the hard tasks are solved by one mode only."""


def wilson(successes: float, tasks: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, 1927). (0, 1) where there are no tasks."""
    if tasks == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / tasks
    middle = (share + z * z / (2 * tasks)) / (1 + z * z / tasks)
    half = z / (1 + z * z / tasks) * math.sqrt(share * (1 - share) / tasks + z * z / (4 * tasks * tasks))
    return max(0.0, middle - half), min(1.0, middle + half)


def summarize(attempts: Sequence[Attempt]) -> list[Summary]:
    """One summary for each level and mode, in order of appearance."""
    groups: dict[tuple[str, Mode], list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.level, attempt.mode), []).append(attempt)
    common = solved_by_all(attempts)
    return [_summary(level, mode, group, common) for (level, mode), group in groups.items()]


def overall(attempts: Sequence[Attempt]) -> list[Summary]:
    """One summary over all levels for each mode. Every task weighs the same, so it depends on their mixture."""
    return summarize([replace(attempt, level=ALL) for attempt in attempts])


def _summary(level: str, mode: Mode, group: Sequence[Attempt], common: set[str]) -> Summary:
    scores = [attempt.score for attempt in group if attempt.score is not None]
    low, high = wilson(sum(scores), len(scores))
    launches = sum(attempt.launches for attempt in group)
    together = sum(attempt.concurrent_share * attempt.launches for attempt in group)
    generated = sum(attempt.completion_tokens for attempt in group)
    solved = [attempt for attempt in group if attempt.solved]
    depths = [attempt.depth for attempt in solved]
    effort = effort_on(common, group)
    return Summary(
        level=level,
        mode=mode,
        tasks=len(group),
        unscored=len(group) - len(scores),
        success=mean_or_none(scores),
        low=low,
        high=high,
        endings=dict(Counter(attempt.status for attempt in group).most_common()),
        agents=mean(attempt.agents for attempt in group),
        depth=mean(attempt.depth for attempt in group),
        steps=mean(attempt.steps for attempt in group),
        completion_tokens=generated / len(group),
        seconds=mean(attempt.seconds for attempt in group),
        total_completion_tokens=generated,
        tokens_per_solved=generated / len(solved) if solved else None,
        launches=launches,
        concurrent_share=together / launches if launches else None,
        solved=len(solved),
        solved_depth=mean_or_none(depths),
        solved_depth_low=min(depths, default=None),
        solved_depth_high=max(depths, default=None),
        common=effort.tasks,
        common_steps=effort.steps,
        common_seconds=effort.seconds,
        common_tokens=effort.completion_tokens,
    )


def report(attempts: Sequence[Attempt], **about: Any) -> dict[str, Any]:
    """Everything as plain data, for a JSON file."""
    return {
        **about,
        "summary": [asdict(item) for item in summarize(attempts)],
        "overall": [asdict(item) for item in overall(attempts)],
        "attempts": [asdict(item) for item in attempts],
    }
