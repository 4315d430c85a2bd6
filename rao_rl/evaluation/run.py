"""Runs an evaluation: every task once in every mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from recursive_agent import Result
from recursive_agent.model.base import Model

from ..envs.base import Environment, Mode, Task
from ..rollouts.attempt import DEFAULT_SETTINGS, AttemptSettings, attempt_seed
from ..rollouts.many import PlannedAttempt, run_attempts
from .outcome import Attempt


async def evaluate(
    environment: Environment,
    tasks: Iterable[Task],
    model: Model,
    settings: AttemptSettings = DEFAULT_SETTINGS,
    *,
    modes: Sequence[Mode] = ("recursive",),
    seed: int = 0,
    done: Iterable[Attempt] = (),
    on_attempt: Callable[[Attempt], None] | None = None,
) -> list[Attempt]:
    """Attempt every task once in each of `modes` (the mode of `settings` is not used); results in the order of the tasks.

    The same seed gives the same attempts at any concurrency. `done` are attempts of an evaluation that was killed; they are
    not repeated, unless the endpoint failed in them. `on_attempt` is called with every other attempt when it ends. Raises
    ModelError if every call would fail in the same way.
    """
    known = {(attempt.mode, attempt.task): attempt for attempt in done if not attempt.lost}
    tasks = list(tasks)
    work = [(mode, task) for mode in modes for task in tasks]

    def on_end(plan: PlannedAttempt, result: Result) -> Attempt:
        attempt = Attempt.of(plan.task, plan.mode or settings.mode, result)
        if on_attempt is not None:
            on_attempt(attempt)
        return attempt

    planned = [
        PlannedAttempt(task=task, group=task.id, seed=attempt_seed(seed, task.id), mode=mode)
        for mode, task in work
        if (mode, task.id) not in known
    ]
    for attempt in await run_attempts(environment, planned, model, settings, on_end):
        known[attempt.mode, attempt.task] = attempt
    return [known[mode, task.id] for mode, task in work]
