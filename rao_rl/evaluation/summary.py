"""The figures of an evaluation: success with its interval, effort, depth and concurrency, for each level and mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean, stdev
from typing import Any

from recursive_agent import Usage
from recursive_agent.limits import Prices

from ..envs.base import Mode
from .compare import between_modes, by_task, effort_on, mean_or_none, solved_by_all
from .outcome import ALL, Attempt
from .statistics import Method, interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Summary of the attempts of one level in one mode. A figure is None if no attempt determines it.

    Attempts at one task are not independent, so `success`, its bounds and the metrics are over tasks, each with the mean of
    its attempts; other means are over attempts.
    """

    level: str
    mode: Mode
    tasks: int
    attempts: int
    repeats: int
    """Most attempts at one task."""
    unscored: int
    """Attempts whose score is not known; they are left out of `success`."""
    success: float | None
    """Mean score (with several attempts at a task, pass@1)."""
    low: float
    high: float
    """Bounds of `success` at 95 %, over tasks."""
    interval: Method
    """How the bounds were computed: `wilson` where every task scores 0 or 1, else `t` (see `statistics.interval`)."""
    repeat_low: float | None
    repeat_high: float | None
    repeat_deviation: float | None
    """Least, greatest and standard deviation of the success of each repeat; None without repeats."""
    timed_out: int
    """Tasks with an attempt that the time limit ended."""
    success_if_failed: float | None
    success_if_solved: float | None
    """Bounds of `success` if all attempts that timed out had failed, and if they had succeeded."""
    endings: Mapping[str, int]
    """How many attempts ended in each status."""

    agents: float
    depth: float
    steps: float
    """Model calls of all agents."""
    critical_steps: float | None
    """Model calls on the longest chain that waited for each other; None if an attempt does not say it (older files)."""
    prompt_tokens: float
    completion_tokens: float
    total_tokens: float
    """Prompt and sampled tokens together."""
    seconds: float
    cost: float | None
    """Of one attempt, in the currency of the prices; None without prices."""
    total_cost: float | None
    total_completion_tokens: int
    tokens_per_solved: float | None
    """Tokens sampled in all attempts, also the failed ones, for each attempt that solved its task."""
    total_tokens_per_solved: float | None
    """The same with the prompts."""
    launches: int
    concurrent_share: float | None
    """Share of all launches that ran beside a sibling."""
    metrics: Mapping[str, float]
    """Means of the environment's own figures (see `Measuring`), each over the tasks that have it."""

    solved: int
    solved_depth: float | None
    solved_depth_low: int | None
    solved_depth_high: int | None
    """Mean, least and greatest depth of the solved trees."""

    common: int
    """Tasks of this level that *every* mode evaluated solves."""
    common_steps: float | None
    common_critical_steps: float | None
    common_seconds: float | None
    common_tokens: float | None
    common_total_tokens: float | None
    """Means over those tasks: what compares the modes fairly, for the hard tasks are solved by one mode only."""


def summarize(attempts: Sequence[Attempt], prices: Prices | None = None) -> list[Summary]:
    """One summary for each level and mode, in order of appearance."""
    groups: dict[tuple[str, Mode], list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.level, attempt.mode), []).append(attempt)
    common = solved_by_all(attempts)
    return [_summary(level, mode, group, common, prices) for (level, mode), group in groups.items()]


def overall(attempts: Sequence[Attempt], prices: Prices | None = None) -> list[Summary]:
    """One summary over all levels for each mode. Every task weighs the same, so it depends on their mixture."""
    return summarize([replace(attempt, level=ALL) for attempt in attempts], prices)


def report(attempts: Sequence[Attempt], prices: Prices | None = None, **about: Any) -> dict[str, Any]:
    """Everything as plain data, for a JSON file."""
    return {
        **about,
        "prices": None if prices is None else asdict(prices),
        "summary": [asdict(item) for item in summarize(attempts, prices)],
        "overall": [asdict(item) for item in overall(attempts, prices)],
        "between_modes": [asdict(item) for item in between_modes(attempts)],
        "attempts": [asdict(item) for item in attempts],
    }


def cost_of(attempt: Attempt, prices: Prices) -> float:
    """What the model calls of an attempt cost."""
    return prices.of_usage(
        Usage(
            prompt_tokens=attempt.prompt_tokens,
            completion_tokens=attempt.completion_tokens,
            cached_tokens=attempt.cached_tokens,
        )
    )


def _summary(level: str, mode: Mode, group: Sequence[Attempt], common: set[str], prices: Prices | None) -> Summary:
    scores = list(by_task(group).values())
    bounds = interval(scores)
    repeats = _repeats(group)
    launches = sum(attempt.launches for attempt in group)
    together = sum(attempt.concurrent_share * attempt.launches for attempt in group)
    sampled = sum(attempt.completion_tokens for attempt in group)
    tokens = sum(attempt.total_tokens for attempt in group)
    costs = None if prices is None else [cost_of(attempt, prices) for attempt in group]
    critical = [attempt.critical_steps for attempt in group if attempt.critical_steps is not None]
    solved = [attempt for attempt in group if attempt.solved]
    depths = [attempt.depth for attempt in solved]
    effort = effort_on(common, group)
    return Summary(
        level=level,
        mode=mode,
        tasks=len({attempt.task for attempt in group}),
        attempts=len(group),
        repeats=max(Counter(attempt.task for attempt in group).values()),
        unscored=sum(attempt.score is None for attempt in group),
        success=mean_or_none(scores),
        low=bounds.low,
        high=bounds.high,
        interval=bounds.method,
        repeat_low=min(repeats) if len(repeats) > 1 else None,
        repeat_high=max(repeats) if len(repeats) > 1 else None,
        repeat_deviation=stdev(repeats) if len(repeats) > 1 else None,
        timed_out=len({attempt.task for attempt in group if attempt.timed_out}),
        success_if_failed=_success_if(group, 0.0),
        success_if_solved=_success_if(group, 1.0),
        endings=dict(Counter(attempt.status for attempt in group).most_common()),
        agents=mean(attempt.agents for attempt in group),
        depth=mean(attempt.depth for attempt in group),
        steps=mean(attempt.steps for attempt in group),
        critical_steps=mean_or_none(critical) if len(critical) == len(group) else None,
        prompt_tokens=(tokens - sampled) / len(group),
        completion_tokens=sampled / len(group),
        total_tokens=tokens / len(group),
        seconds=mean(attempt.seconds for attempt in group),
        cost=None if costs is None else mean(costs),
        total_cost=None if costs is None else sum(costs),
        total_completion_tokens=sampled,
        tokens_per_solved=sampled / len(solved) if solved else None,
        total_tokens_per_solved=tokens / len(solved) if solved else None,
        launches=launches,
        concurrent_share=together / launches if launches else None,
        metrics=_metrics(group),
        solved=len(solved),
        solved_depth=mean_or_none(depths),
        solved_depth_low=min(depths, default=None),
        solved_depth_high=max(depths, default=None),
        common=effort.tasks,
        common_steps=effort.steps,
        common_critical_steps=effort.critical_steps,
        common_seconds=effort.seconds,
        common_tokens=effort.completion_tokens,
        common_total_tokens=effort.total_tokens,
    )


def _repeats(group: Sequence[Attempt]) -> list[float]:
    """The success of each repeat: the mean score of its attempts."""
    found: dict[int, list[float]] = {}
    for attempt in group:
        if attempt.score is not None:
            found.setdefault(attempt.repeat, []).append(attempt.score)
    return [mean(scores) for scores in found.values()]


def _success_if(group: Sequence[Attempt], score: float) -> float | None:
    """The success if each attempt that timed out had this score."""
    return mean_or_none(
        list(by_task(replace(each, score=score) if each.timed_out else each for each in group).values())
    )


def _metrics(group: Sequence[Attempt]) -> dict[str, float]:
    found: dict[str, dict[str, list[float]]] = {}
    for attempt in group:
        for name, value in attempt.metrics.items():
            found.setdefault(name, {}).setdefault(attempt.task, []).append(value)
    return {name: mean(mean(values) for values in tasks.values()) for name, tasks in found.items()}
