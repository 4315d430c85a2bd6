"""`rao train`: recorded trees, an environment's rollouts or its demonstrations, into better weights."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import Require, Unset

from .isolation import RequireOption, parse_require
from .settings import listing, parse
from .text import clean

NEEDS = "training needs more packages: pip install 'rao[train]'"


def train(
    traces: Annotated[Path | None, typer.Argument(help="A trace or a folder.", show_default=False, hidden=True)] = None,
    objective: Annotated[str | None, typer.Option(help="rao or imitation.", metavar="O")] = None,
    env: Annotated[str | None, typer.Option(help="Learn on its tasks: textcraft.", metavar="ENV")] = None,
    online: Annotated[bool, typer.Option("--online", help="Roll out, update, push, repeat.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the checkpoint goes.", metavar="DIR")] = None,
    model: Annotated[str | None, typer.Option(help="Checkpoint to start from.", metavar="DIR")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.", metavar="N")] = None,
    generated: Annotated[int | None, typer.Option(min=1, help="Stop after N sampled tokens.", metavar="N")] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the traces.", metavar="N")] = 3.0,
    tokens: Annotated[int, typer.Option(min=1, hidden=True)] = 4096,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", metavar="LR")] = None,
    noise: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of flawed lessons.", metavar="P", hidden=True)
    ] = 0.0,
    eval_tasks: Annotated[str, typer.Option("--eval", help="easy=24,medium=32", metavar="D=N")] = "",
    seed: Annotated[int, typer.Option(help="Of weights and samples.", metavar="N", min=0, max=2**32 - 1)] = 0,
    save_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints.", metavar="N", hidden=True)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="E.g. credit.baseline=depth", metavar="S")] = None,
    settings: Annotated[bool, typer.Option("--settings", help="List what --set takes.")] = False,
    require: RequireOption = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, hidden=True)] = None,
    threshold: Annotated[float, typer.Option(hidden=True)] = 1.0,
    compile: Annotated[bool, typer.Option("--compile", hidden=True)] = False,
) -> None:
    """Train a policy on recorded trees, or on an environment.

    rao train traces/ --model policy/ --out better/

    rao train --env textcraft --online --model policy/ --out better/
    """
    try:
        from rao_rl.collect import CollectConfig
        from rao_rl.credit import CreditConfig
        from rao_rl.imitation import ImitationConfig
        from rao_rl.lessons import Curriculum
        from rao_rl.online import OnlineConfig
        from rao_rl.rao import UpdateConfig
        from rao_rl.samplers import SamplerConfig
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{NEEDS} ({error.name} is missing)") from error
    _check_numbers({"--lr": lr, "--epochs": epochs, "--minutes": minutes, "--noise": noise, "--threshold": threshold})
    if lr is not None and lr <= 0:
        raise ConfigurationError(f"--lr must be more than 0, not {lr:g}")
    often: dict[str, Any] = {} if save_steps is None else {"save_steps": save_steps}
    # A policy of a few million parameters, which is what a CPU trains, takes larger steps than a large one.
    defaults: dict[str, Any] = {
        "credit": CreditConfig(),
        "update": UpdateConfig(learning_rate=3e-4 if lr is None else lr, seed=seed, **often),
        "collect": CollectConfig(seed=seed),
        "online": OnlineConfig(seed=seed),
        "sampler": SamplerConfig(),
        "lessons": Curriculum(seed=seed, drop_child=noise, wrong_count=noise),
    }
    if settings:
        print(listing(defaults))
        return
    required = parse_require(require)
    if require is not None and not online:
        raise ConfigurationError("--require belongs to --online: nothing else of training runs agents' code")
    if objective is None:
        objective = "imitation" if env is not None and not online else "rao"
    if objective not in ("rao", "imitation"):
        raise ConfigurationError(f"--objective takes rao or imitation, not {objective!r}")
    if out is None:
        raise ConfigurationError("say where the checkpoint goes with --out DIR")
    if (traces is None) == (env is None):
        raise ConfigurationError("give a folder of traces, or --env textcraft, and not both")
    if model is None and (objective == "rao" or traces is not None):
        raise ConfigurationError("say which checkpoint to start from with --model DIR")
    made = parse(set_ or (), defaults)
    if objective == "imitation":
        if steps is not None and minutes is not None:
            raise ConfigurationError("give --steps or --minutes, not both")
        if online:
            raise ConfigurationError("--online belongs to --objective rao")
        # What is learnt from nothing takes longer steps than what is only adjusted.
        rate = lr if lr is not None else 2e-3 if model is None else 5e-4 if traces is None else 2e-4
        config = ImitationConfig(
            output_dir=str(out),
            max_steps=steps,
            minutes=minutes,
            tokens_per_step=tokens,
            seed=seed,
            resume=resume,
            compile=compile,
            learning_rate=rate,
            **often,
        )
        with _stoppable():
            _imitate(config, traces, env, model, made["lessons"], threshold=threshold, epochs=epochs)
    elif traces is not None:
        if online:
            raise ConfigurationError("--online learns on an environment (--env), not on recorded traces")
        temperature = made["collect"].temperature if _is_given("collect.temperature", set_ or ()) else None
        with _stoppable():
            _offline(out, str(model), traces, made, epochs=epochs, steps=steps, temperature=temperature, resume=resume)
    else:
        if not online:
            raise ConfigurationError("--objective rao learns on an environment with --online")
        limits = {"max_steps": steps, "max_generated_tokens": generated}
        given = {name: value for name, value in limits.items() if value is not None}
        made["online"] = replace(made["online"], **given)
        _online(out, str(model), str(env), made, eval_tasks=eval_tasks, resume=resume, require=required)
    print(out)


def _check_numbers(options: Mapping[str, float | None]) -> None:
    """Refuse what a command line reads as a number and nobody can count with."""
    for name, value in options.items():
        if value is not None and not math.isfinite(value):
            raise ConfigurationError(f"{name} must be a finite number, not {value:g}")


def _is_given(setting: str, texts: Sequence[str]) -> bool:
    return any(text.partition("=")[0].strip() == setting for text in texts)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Say that a signal ended the run, and exit with the status that shells give for it."""
    from rao_rl.runs import TrainingStopped

    try:
        yield
    except TrainingStopped as stopped:
        _say(str(stopped))
        raise typer.Exit(128 + stopped.number) from None


def _say(line: str) -> None:
    print(f"rao: {clean(line)}", file=sys.stderr, flush=True)


def _imitate(
    config: Any,
    traces: Path | None,
    env: str | None,
    model: str | None,
    lessons: Any,
    *,
    threshold: float,
    epochs: float,
) -> None:
    from rao_rl.imitation import train_on_demonstrations, train_on_traces

    if traces is not None and model is not None:
        train_on_traces(config, traces, model, threshold=threshold, epochs=epochs, say=_say)
        return
    if env != "textcraft":
        raise ConfigurationError(f"there is no solver to imitate in {env!r}")
    train_on_demonstrations(config, lessons, model=model, say=_say)


def _offline(
    out: Path,
    model: str,
    traces: Path,
    made: dict[str, Any],
    *,
    epochs: float,
    steps: int | None,
    temperature: float | None,
    resume: bool,
) -> None:
    from rao_rl.offline import read_groups
    from rao_rl.rao import train_offline
    from rao_rl.traces import left_out_text

    recorded = read_groups(traces, min_group=made["credit"].min_group)
    if recorded.left_out:
        _say(f"traces left out: {left_out_text(recorded.left_out)}")
    for problem in recorded.problems[:3]:
        _say(problem)
    train_offline(
        out,
        model,
        recorded,
        credit=made["credit"],
        update=made["update"],
        groups_per_step=made["collect"].tasks_per_step,
        temperature=temperature,
        epochs=epochs,
        max_steps=steps,
        resume=resume,
    )


def _online(
    out: Path, model: str, env: str, made: dict[str, Any], *, eval_tasks: str, resume: bool, require: Require | Unset
) -> None:
    from rao_rl.envs import make
    from rao_rl.rao import train_online

    environment = make(env)
    tasks = [
        task
        for name, count in _counts(eval_tasks)
        for task in environment.tasks("test", 0, difficulty=name, limit=count)
    ]
    train_online(
        out,
        model,
        environment,
        collect=made["collect"],
        credit=made["credit"],
        update=made["update"],
        online=made["online"],
        sampler=made["sampler"],
        eval_tasks=tasks,
        resume=resume,
        require=require,
    )


def _counts(text: str) -> list[tuple[str, int]]:
    counts = []
    for part in filter(None, text.split(",")):
        name, _, count = part.partition("=")
        if not count.isdigit():
            raise ConfigurationError(f"--eval takes DIFFICULTY=TASKS, separated by commas, not {part!r}")
        counts.append((name.strip(), int(count)))
    return counts
