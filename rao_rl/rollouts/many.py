"""Many attempts at once, a few trees at a time, all in one sandbox. Evaluation, recording and training run them here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio

from recursive_agent import ModelError, RaoError, Result
from recursive_agent.concurrency import task_group
from recursive_agent.model.base import Model
from recursive_agent.repl import Sandbox, make_sandbox
from recursive_agent.sizes import rare_collections

from ..envs.base import Environment, Mode, Session, Task
from ..envs.checks import open_session
from .attempt import AttemptSettings, rollout

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAttempt:
    """A planned attempt: its task, its seed (different for each attempt at the task), and its group."""

    task: Task
    group: str
    seed: int
    mode: Mode | None = None
    """None: that of the settings."""
    model: Model | None = None
    """None: the one that all attempts share."""
    max_depth: int | None = None
    """None: that of the settings."""

    @property
    def key(self) -> tuple[str, int]:
        """Group and seed. A trace contains them too, so they identify an attempt in a folder."""
        return self.group, self.seed


async def run_attempts(
    environment: Environment,
    planned: Sequence[PlannedAttempt],
    model: Model,
    settings: AttemptSettings,
    on_end: Callable[[PlannedAttempt, Result], T],
    *,
    on_session: Callable[[PlannedAttempt, Session], None] | None = None,
) -> list[T]:
    """Run the planned attempts, at most `settings.concurrency` trees at a time, and no more than `settings.places` allows.

    `on_end` is called with each attempt when it ends; its return values are the result, in the order of `planned`, so that
    you need not keep complete trees. `on_session` is called with the session of each attempt when it begins (with a stand-in
    when it ends, if `settings.runner` runs it).

    All attempts share one sandbox: `settings.sandbox` by name, opened here, or an open one, which stays open. If the
    endpoint fails during an attempt, only that tree is lost: `on_end` receives the tree up to that point. Raises
    ModelError if every other call would fail in the same way (a rejected key, say).
    """
    if not planned:
        return []
    outcomes: dict[int, T] = {}
    limiter = anyio.CapacityLimiter(settings.concurrency)

    async def run_one(index: int, plan: PlannedAttempt, shared: AttemptSettings) -> None:
        async with limiter:
            outcomes[index] = on_end(plan, await run_attempt(environment, plan, model, shared, on_session=on_session))

    async with _shared_sandbox(settings) as sandbox:
        shared = replace(settings, sandbox=sandbox)
        with rare_collections():
            async with task_group() as tasks:
                for index, plan in enumerate(planned):
                    tasks.start_soon(run_one, index, plan, shared)
    return [outcomes[index] for index in range(len(planned))]


async def run_attempt(
    environment: Environment,
    plan: PlannedAttempt,
    model: Model,
    settings: AttemptSettings,
    *,
    on_session: Callable[[PlannedAttempt, Session], None] | None = None,
) -> Result:
    """One planned attempt, as soon as `settings.places` has room for it. `settings.sandbox` should be open.

    It runs in this process, or where `settings.runner` runs it.

    If the endpoint fails during the attempt, the result is the tree up to that point. Raises ModelError if every other call
    would fail in the same way (a rejected key, say).
    """
    async with settings.places or nullcontext():
        own = settings if plan.mode is None else replace(settings, mode=plan.mode)
        own = own if plan.max_depth is None else replace(own, max_depth=plan.max_depth)
        if own.runner is not None:
            ran = await own.runner.run(
                environment, plan.task, plan.model or model, own, seed=plan.seed, group=plan.group
            )
            if on_session is not None:
                on_session(plan, ran.session)
            return ran.result
        session = open_session(environment, plan.task)
        if on_session is not None:
            on_session(plan, session)
        try:
            return await rollout(
                environment,
                plan.task,
                plan.model or model,
                own,
                seed=plan.seed,
                group=plan.group,
                session=session,
            )
        except RaoError as error:
            return _partial_result(error)


def _shared_sandbox(settings: AttemptSettings) -> AbstractAsyncContextManager[str | Sandbox]:
    if isinstance(settings.sandbox, str) and settings.runner is None:
        return make_sandbox(settings.sandbox, require=settings.require)
    return nullcontext(settings.sandbox)


def _partial_result(error: RaoError) -> Result:
    """The run that an error ended, as far as it came.

    Raises the error itself if there is no run, or if every other call would fail in the same way.
    """
    if not isinstance(error.result, Result) or (isinstance(error, ModelError) and error.fatal):
        raise error
    return error.result
