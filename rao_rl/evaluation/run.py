"""Runs an evaluation: every task in every mode, once or several times."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from recursive_agent import Result
from recursive_agent.model.base import Model

from ..envs.base import Environment, Mode, Session, Task
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
    repeats: int = 1,
    done: Iterable[Attempt] = (),
    on_attempt: Callable[[Attempt], None] | None = None,
) -> list[Attempt]:
    """Attempt every task `repeats` times in each of `modes` (the mode of `settings` is not used).

    Results are in the order of the modes, the tasks and the repeats. The same seed gives the same attempts at any concurrency
    and any number of repeats; each attempt is sampled with a seed of its own. `done` are attempts of an evaluation that was
    killed; they are not repeated, unless the endpoint failed in them. `on_attempt` is called with every other attempt when it
    ends. Raises ModelError if every call would fail in the same way.
    """
    known = {attempt.key: attempt for attempt in done if not attempt.lost}
    sessions: dict[int, Session] = {}
    planned: list[PlannedAttempt] = []
    order: list[tuple[str, Mode, int]] = []
    numbers: dict[int, int] = {}
    for mode, task, number in itertools.product(modes, list(tasks), range(repeats)):
        order.append((task.id, mode, number))
        if order[-1] not in known:
            own = attempt_seed(seed, task.id, number)
            planned.append(PlannedAttempt(task=task, group=task.id, seed=own, mode=mode))
            numbers[id(planned[-1])] = number

    def on_session(plan: PlannedAttempt, session: Session) -> None:
        sessions[id(plan)] = session

    def on_end(plan: PlannedAttempt, result: Result) -> Attempt:
        session = sessions.pop(id(plan))
        attempt = Attempt.of(plan.task, plan.mode or settings.mode, result, session, numbers[id(plan)])
        if on_attempt is not None:
            on_attempt(attempt)
        return attempt

    for attempt in await run_attempts(environment, planned, model, settings, on_end, on_session=on_session):
        known[attempt.key] = attempt
    return [known[key] for key in order]
