"""How well a model solves an environment's tasks, alone and recursively."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, mean
from typing import Any

import anyio

from recursive_agent import ModelError, Result
from recursive_agent.groups import the_cause
from recursive_agent.model.base import Model
from recursive_agent.repl import make_sandbox

from .envs.base import Environment, Task
from .rollout import Mode, rollout


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
    steps: int
    completion_tokens: int
    prompt_tokens: int
    seconds: float
    concurrent_share: float
    launches: int

    @classmethod
    def of(cls, task: Task, mode: Mode, result: Result) -> Attempt:
        """The figures of one finished tree."""
        tree = result.tree
        return cls(
            task=task.id,
            difficulty=task.difficulty or "all",
            mode=mode,
            status=result.status.value,
            score=tree.root.score,
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
    """The attempts of one difficulty in one mode. `low` and `high` bound `success` at 95 % (Wilson's interval)."""

    difficulty: str
    mode: Mode
    tasks: int
    unscored: int
    success: float
    low: float
    high: float
    agents: float
    depth: float
    steps: float
    completion_tokens: float
    seconds: float
    concurrent_share: float


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
    """One summary for each difficulty and mode, in order of appearance. Attempts without a score are left out of the rate."""
    groups: dict[tuple[str, Mode], list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.difficulty, attempt.mode), []).append(attempt)
    summaries = []
    for (difficulty, mode), group in groups.items():
        scores = [attempt.score for attempt in group if attempt.score is not None]
        low, high = wilson(sum(scores), len(scores))
        launches = sum(attempt.launches for attempt in group)
        together = sum(attempt.concurrent_share * attempt.launches for attempt in group)
        summaries.append(
            Summary(
                difficulty=difficulty,
                mode=mode,
                tasks=len(group),
                unscored=len(group) - len(scores),
                success=mean(scores) if scores else 0.0,
                low=low,
                high=high,
                agents=mean(attempt.agents for attempt in group),
                depth=mean(attempt.depth for attempt in group),
                steps=mean(attempt.steps for attempt in group),
                completion_tokens=mean(attempt.completion_tokens for attempt in group),
                seconds=mean(attempt.seconds for attempt in group),
                concurrent_share=together / launches if launches else 0.0,
            )
        )
    return summaries


async def evaluate(
    environment: Environment,
    tasks: Iterable[Task],
    model: Model,
    *,
    modes: Sequence[Mode] = ("recursive",),
    seed: int = 0,
    concurrency: int = 8,
    on_attempt: Callable[[Attempt], None] | None = None,
    **settings: Any,
) -> list[Attempt]:
    """Attempt every task once in every mode, `concurrency` trees at a time; results in the order of the tasks.

    `settings` go to `agent_for`. The same seed gives the same attempts, whatever the concurrency.
    """
    tasks = list(tasks)
    work = [(mode, task) for mode in modes for task in tasks]
    attempts: dict[int, Attempt] = {}
    limiter = anyio.CapacityLimiter(concurrency)

    async def attempt(index: int, mode: Mode, task: Task, shared: Mapping[str, Any]) -> None:
        async with limiter:
            try:
                result = await rollout(environment, task, model, seed=seed, mode=mode, **shared)
            except ModelError as error:  # costs this tree only, unless every call would fail the same way
                if error.fatal or not isinstance(error.result, Result):
                    raise
                result = error.result
            made = attempts[index] = Attempt.of(task, mode, result)
            if on_attempt is not None:
                on_attempt(made)

    async with make_sandbox("process") as sandbox:
        try:
            async with anyio.create_task_group() as group:
                for index, (mode, task) in enumerate(work):
                    group.start_soon(attempt, index, mode, task, {"sandbox": sandbox, **settings})
        except BaseExceptionGroup as wrapped:
            raise the_cause(wrapped) from None
    return [attempts[index] for index in range(len(work))]


def report(attempts: Sequence[Attempt], **about: Any) -> dict[str, Any]:
    """Everything as plain data, for a JSON file."""
    return {
        **about,
        "summary": [asdict(item) for item in summarize(attempts)],
        "attempts": [asdict(item) for item in attempts],
    }
