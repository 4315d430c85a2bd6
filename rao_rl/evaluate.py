"""How well a model solves an environment's tasks, alone and recursively."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist, mean
from typing import Any

import anyio

from recursive_agent import RaoError, Result, Status
from recursive_agent.groups import the_cause
from recursive_agent.model.base import Model
from recursive_agent.repl import UNSET, Require, Sandbox, Unset

from .envs.base import Environment, Task
from .rollout import Mode, attempt_seed, kept, rollout, shared_sandbox

LOST = (Status.INFRA_ERROR, Status.CANCELLED)
"""Endings that are nobody's doing: such an attempt says nothing about the policy and is left out of its success."""
ALL = "all"
"""The difficulty of a task that has none, and of the summary over all difficulties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One task attempted once."""

    task: str
    difficulty: str
    mode: Mode
    status: str
    score: float | None
    """s̃ of the root in [0, 1]; None where it is not known."""
    agents: int
    depth: int
    """Of the deepest agent; the root's is 0."""
    steps: int
    """Of all agents together."""
    completion_tokens: int
    prompt_tokens: int
    seconds: float
    """Wall time of the tree, beside the other trees under way."""
    concurrent_share: float
    """Share, in [0, 1], of `launches` that ran beside a sibling; 0 without any."""
    launches: int

    @property
    def solved(self) -> bool:
        """Whether the score is known and full."""
        return self.score is not None and self.score >= 1.0

    @property
    def lost(self) -> bool:
        """Whether the attempt ended by nobody's doing (the endpoint failed, the caller cancelled)."""
        return self.status in LOST

    @classmethod
    def of(cls, task: Task, mode: Mode, result: Result) -> Attempt:
        """The figures of one finished tree."""
        tree = result.tree
        return cls(
            task=task.id,
            difficulty=task.difficulty or ALL,
            mode=mode,
            status=result.status.value,
            score=None if result.status in LOST else tree.root.score,
            agents=len(tree.nodes),
            depth=tree.max_depth,
            steps=sum(len(node.steps) for node in tree.nodes.values()),
            completion_tokens=tree.usage.completion_tokens,
            prompt_tokens=tree.usage.prompt_tokens,
            seconds=tree.duration,
            concurrent_share=tree.concurrent_share,
            launches=tree.launches,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The attempts of one difficulty in one mode. None stands for what no attempt tells."""

    difficulty: str
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
    """Tasks of this difficulty that *every* mode evaluated solves."""
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
    """One summary for each difficulty and mode, in order of appearance."""
    groups: dict[tuple[str, Mode], list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.difficulty, attempt.mode), []).append(attempt)
    common = solved_by_all(attempts)
    return [_summary(difficulty, mode, group, common) for (difficulty, mode), group in groups.items()]


def overall(attempts: Sequence[Attempt]) -> list[Summary]:
    """One summary over all difficulties for each mode. Every task weighs the same, so it depends on their mixture."""
    return summarize([replace(attempt, difficulty=ALL) for attempt in attempts])


def solved_by_all(attempts: Sequence[Attempt]) -> set[str]:
    """Ids of the tasks that every mode seen in `attempts` solves."""
    solved: dict[Mode, set[str]] = {attempt.mode: set() for attempt in attempts}
    for attempt in attempts:
        if attempt.solved:
            solved[attempt.mode].add(attempt.task)
    return set.intersection(*solved.values()) if solved else set()


def _summary(difficulty: str, mode: Mode, group: Sequence[Attempt], common: set[str]) -> Summary:
    scores = [attempt.score for attempt in group if attempt.score is not None]
    low, high = wilson(sum(scores), len(scores))
    launches = sum(attempt.launches for attempt in group)
    together = sum(attempt.concurrent_share * attempt.launches for attempt in group)
    generated = sum(attempt.completion_tokens for attempt in group)
    solved = [attempt for attempt in group if attempt.solved]
    depths = [attempt.depth for attempt in solved]
    shared = [attempt for attempt in solved if attempt.task in common]
    return Summary(
        difficulty=difficulty,
        mode=mode,
        tasks=len(group),
        unscored=len(group) - len(scores),
        success=_mean(scores),
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
        solved_depth=_mean(depths),
        solved_depth_low=min(depths, default=None),
        solved_depth_high=max(depths, default=None),
        common=len({attempt.task for attempt in shared}),
        common_steps=_mean([attempt.steps for attempt in shared]),
        common_seconds=_mean([attempt.seconds for attempt in shared]),
        common_tokens=_mean([attempt.completion_tokens for attempt in shared]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


async def evaluate(
    environment: Environment,
    tasks: Iterable[Task],
    model: Model,
    *,
    modes: Sequence[Mode] = ("recursive",),
    seed: int = 0,
    concurrency: int = 8,
    on_attempt: Callable[[Attempt], None] | None = None,
    done: Iterable[Attempt] = (),
    sandbox: str | Sandbox = "process",
    require: Require | Unset = UNSET,
    **settings: Any,
) -> list[Attempt]:
    """Attempt every task once in every mode, `concurrency` trees at a time; results in the order of the tasks.

    All share one sandbox (see `shared_sandbox`); `settings` go to `agent_for`.

    The same seed gives the same attempts, whatever the concurrency. `on_attempt` is called
    with each attempt as it ends. Those in `done` (of an evaluation that was killed) are taken as they are, not repeated,
    unless they were lost to a failing endpoint. Raises ModelError where every call would fail the same way.
    """
    tasks = list(tasks)
    work = [(mode, task) for mode in modes for task in tasks]
    made_before = {(attempt.mode, attempt.task): attempt for attempt in done if not attempt.lost}
    attempts: dict[int, Attempt] = {
        index: made_before[mode, task.id] for index, (mode, task) in enumerate(work) if (mode, task.id) in made_before
    }
    limiter = anyio.CapacityLimiter(concurrency)

    async def attempt(index: int, mode: Mode, task: Task, shared: Mapping[str, Any]) -> None:
        async with limiter:
            try:
                result = await rollout(environment, task, model, seed=attempt_seed(seed, task.id), mode=mode, **shared)
            except RaoError as error:
                result = kept(error)
            made = attempts[index] = Attempt.of(task, mode, result)
            if on_attempt is not None:
                on_attempt(made)

    async with shared_sandbox(sandbox, require) as opened:
        try:
            async with anyio.create_task_group() as group:
                for index, (mode, task) in enumerate(work):
                    if index not in attempts:
                        group.start_soon(attempt, index, mode, task, {"sandbox": opened, **settings})
        except BaseExceptionGroup as wrapped:
            raise the_cause(wrapped) from None
    return [attempts[index] for index in range(len(work))]


def report(attempts: Sequence[Attempt], **about: Any) -> dict[str, Any]:
    """Everything as plain data, for a JSON file."""
    return {
        **about,
        "summary": [asdict(item) for item in summarize(attempts)],
        "overall": [asdict(item) for item in overall(attempts)],
        "attempts": [asdict(item) for item in attempts],
    }
