"""The runs behind `rao train`: what they need from the command line, opened and handed to `rao_rl`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rao_rl.data.folder import trace_paths
from rao_rl.envs import Environment
from rao_rl.errors import EndedElsewhere, TrainingStopped
from rao_rl.processes import is_first, processes
from rao_rl.weights.find import find_model
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model
from recursive_agent.repl import Require, Unset

from .environments import Opened, open_environment
from .extras import needs
from .messages import say
from .on_ray import OnRay, actors
from .tasks import held_out_split, select_tasks
from .train_options import check_demonstrations

if TYPE_CHECKING:
    from rao_rl.rollouts.ray.pool import RayAttempts


def _check_start(traces: Path | None, model: str | None) -> None:
    """Refuse what is not there before anything is loaded. Raises ConfigurationError, and DataError for no traces."""
    if traces is not None:
        trace_paths(traces)
    if model is not None:
        find_model(model)


def _module(name: str) -> Any:
    """A module that needs torch. Raises ConfigurationError, saying what to install, where that is missing."""
    with needs("train", "training"):
        return importlib.import_module(name)


@contextmanager
def stoppable() -> Iterator[None]:
    """Say that a signal ended the run, and exit with the status that shells give for it.

    Of several processes that train together, the first says why the run ends.
    """
    try:
        yield
    except EndedElsewhere:
        _leave()
        raise typer.Exit(1) from None
    except TrainingStopped as stopped:
        say(str(stopped))
        _leave()
        raise typer.Exit(128 + stopped.number) from None
    _leave()


def _leave() -> None:
    if processes() > 1:
        _module("rao_rl.train.together").leave()


def run_imitation(
    config: Any,
    traces: Path | None,
    env: str | None,
    env_set: Sequence[str] | None,
    model: str | None,
    lessons: Any,
    *,
    threshold: float,
    epochs: float,
    require: Require | Unset,
) -> None:
    """Imitation of recorded traces, or of demonstrations of an environment or of TextCraft. Raises ConfigurationError."""
    lessons_fit = env == "textcraft" and not env_set
    check_demonstrations(config, lessons, env, lessons_fit=lessons_fit)
    opened = None if env is None or lessons_fit else open_environment(env, env_set)
    alone = None
    if opened is not None and config.single_share is not None:
        opened, alone = _both_modes(str(env), env_set or ())
    _check_start(traces, model)
    imitation = _module("rao_rl.imitation.run")
    more: dict[str, Any] = {"threshold": threshold, "epochs": epochs, "say": say}
    if traces is not None:
        imitation.train_on_traces(config, traces, model, **more)
    elif opened is not None:
        imitation.train_on_environment(
            config,
            opened.environment,
            model,
            alone=alone,
            name=env,
            arguments=opened.arguments,
            require=require,
            **more,
        )
    else:
        imitation.train_on_demonstrations(config, lessons, model=model, say=say)


def _both_modes(env: str, env_set: Sequence[str]) -> tuple[Opened, Environment]:
    """The environment whose agents delegate, and the one whose agents work alone. The mode is no argument of either."""
    if any(text.partition("=")[0].strip() == "mode" for text in env_set):
        raise ConfigurationError(
            "imitation.single_share takes demonstrations of both modes: leave out --env-set mode, or the share"
        )
    try:
        alone = open_environment(env, [*env_set, "mode=single"]).environment
        delegating = open_environment(env, [*env_set, "mode=recursive"])
    except ConfigurationError as error:
        raise ConfigurationError(
            f"imitation.single_share needs an environment with the argument mode (single or recursive): {error}"
        ) from None
    arguments = {name: value for name, value in delegating.arguments.items() if name != "mode"}
    return Opened(delegating.environment, arguments), alone


def run_offline(
    out: Path,
    model: str,
    traces: Path,
    chosen: dict[str, Any],
    policy: str | None,
    *,
    epochs: float,
    steps: int | None,
    temperature: float | None,
    resume: bool,
    optimizer_from: Path | None,
) -> None:
    """The RAO objective on recorded traces. Raises ConfigurationError, and DataError for no traces."""
    from rao_rl.data.folder import left_out_text, read_groups

    _check_start(traces, model)
    run = _module("rao_rl.train.run")
    recorded = read_groups(traces, min_group=chosen["credit"].least_group, policy=policy, start=model)
    if is_first():
        if recorded.left_out:
            say(f"traces left out: {left_out_text(recorded.left_out)}")
        for problem in recorded.problems[:3]:
            say(problem)
    run.train_offline(
        out,
        model,
        recorded,
        credit=chosen["credit"],
        update=chosen["update"],
        groups_per_step=chosen["collect"].tasks_per_step,
        temperature=temperature,
        epochs=epochs,
        max_steps=steps,
        resume=resume,
        optimizer_from=optimizer_from,
        say=say,
    )


def run_online(
    out: Path,
    model: str,
    name: str,
    opened: Opened,
    chosen: dict[str, Any],
    remotely: OnRay | None,
    *,
    eval_tasks: str,
    resume: bool,
    require: Require | Unset,
) -> None:
    """The RAO objective on an environment's rollouts, here or on a Ray cluster. Raises ConfigurationError."""
    environment, arguments = opened
    split = held_out_split(environment)
    tasks = [
        task
        for level, count in _counts(eval_tasks)
        for task in select_tasks(environment, split, 0, levels=level, limit=count)
    ]
    _check_start(None, model)

    def runner(sampler: Model) -> RayAttempts | None:
        concurrency = chosen["collect"].max_in_flight
        if remotely is None:
            return None
        return actors(remotely, sampler, name, opened, concurrency=concurrency, require=require)

    _module("rao_rl.train.run").train_online(
        out,
        model,
        environment,
        collect=chosen["collect"],
        credit=chosen["credit"],
        update=chosen["update"],
        online=chosen["online"],
        sampler=chosen["sampler"],
        judge=chosen["judge"],
        eval_tasks=tasks,
        arguments=arguments,
        resume=resume,
        require=require,
        runner=runner,
        say=say,
    )


def _counts(text: str) -> list[tuple[str, int]]:
    counts = []
    for part in filter(None, text.split(",")):
        name, _, count = part.partition("=")
        if not count.isdecimal() or not 0 < int(count) <= 10**6:
            raise ConfigurationError(f"--eval takes LEVEL=TASKS, separated by commas, not {part!r}")
        counts.append((name.strip(), int(count)))
    return counts
