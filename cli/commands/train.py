"""`rao train`: recorded trees, an environment's rollouts or its demonstrations, into better weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rao_rl.config import ImitationConfig, current_name, sections
from rao_rl.data.folder import trace_paths
from rao_rl.envs import Environment
from rao_rl.errors import EndedElsewhere, TrainingStopped
from rao_rl.processes import is_first, processes
from rao_rl.weights.find import find_model
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model
from recursive_agent.repl import Require, Unset

from ..environments import EnvSetOption, Opened, open_environment
from ..extras import needs
from ..isolation import parse_require
from ..judging import JudgeOption, JudgeUrlOption
from ..live_page import check_view_port, port_option
from ..messages import say
from ..on_ray import OnRay, RayActorsOption, RayOption, RayResourceOption, actors, cluster, on_ray
from ..settings import listing, parse
from ..tasks import held_out_split, select_tasks
from ..train_options import check_applies, check_demonstrations, check_together, kind_of
from ..training_view import TrainingView

if TYPE_CHECKING:
    from rao_rl.rollouts.ray.pool import RayAttempts

_FROM, _LENGTH, _MORE = "Training data", "Length and learning rate", "Imitation"
_WATCHING = "Watching"

_MOST_EPOCHS = 1_000_000


def train(
    context: typer.Context,
    traces: Annotated[
        Path | None,
        typer.Argument(
            help="A trace file, or a folder of traces, to learn from.", show_default=False, metavar="TRACES"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the trained model, the metrics and the settings of the run.", metavar="DIR"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model to start from: its folder, or its name on the Hugging Face hub.", metavar="DIR"),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help="rao: reinforcement learning on scored runs. imitation: supervised learning on the answers of successful "
            "agents, of TRACES or as --env demonstrates them. Default: rao, or imitation with --env alone.",
            metavar="rao|imitation",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", metavar="", help="Continue the run in --out.")] = False,
    seed: Annotated[
        int, typer.Option(help="Seed for new weights and for the order of the data.", metavar="N", min=0, max=2**32 - 1)
    ] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting, e.g. credit.baseline=depth; repeat for several.", metavar="NAME=VALUE"
        ),
    ] = None,
    settings: Annotated[
        bool, typer.Option("--settings", metavar="", help="List every setting of --set with its default, and exit.")
    ] = False,
    env: Annotated[
        str | None,
        typer.Option(
            help="Environment to train on, or whose demonstrations to imitate: a name of rao eval --list, or module:Class.",
            metavar="ENV",
            rich_help_panel=_FROM,
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In runs of several models: the one whose agents are trained. Default: the one that --model names.",
            rich_help_panel=_FROM,
        ),
    ] = None,
    env_set: EnvSetOption = None,
    online: Annotated[
        bool,
        typer.Option(
            "--online",
            metavar="",
            help="Repeat: roll out agents on --env, update the weights, push them to the sampler.",
            rich_help_panel=_FROM,
        ),
    ] = False,
    eval_tasks: Annotated[
        str,
        typer.Option(
            "--eval",
            help="Evaluate --online on N test tasks of each level: easy=24,medium=32. Set online.eval_every for how often.",
            metavar="LEVEL=N,…",
            rich_help_panel=_FROM,
        ),
    ] = "",
    judge: JudgeOption = None,
    judge_base_url: JudgeUrlOption = None,
    require: Annotated[
        Literal["kernel", "none"] | None,
        typer.Option(
            help="none: run agents on --env even if the kernel cannot isolate their code.",
            rich_help_panel=_FROM,
        ),
    ] = None,
    ray: RayOption = None,
    ray_actors: RayActorsOption = None,
    ray_resource: RayResourceOption = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of optimizer steps. Default: as --epochs says.", metavar="N", rich_help_panel=_LENGTH
        ),
    ] = None,
    epochs: Annotated[
        float,
        typer.Option(min=0.01, help="Number of passes over TRACES.", metavar="N", rich_help_panel=_LENGTH),
    ] = 3.0,
    generated: Annotated[
        int | None,
        typer.Option(min=1, help="Stop --online after N sampled tokens.", metavar="N", rich_help_panel=_LENGTH),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate. Default: 3e-4 for rao; for imitation 2e-3 from scratch, 2e-4 for LoRA, 1e-4 for all weights "
            "(5e-4 for a small model, 2e-5 for one of a billion parameters).",
            metavar="LR",
            rich_help_panel=_LENGTH,
        ),
    ] = None,
    save_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps between checkpoints. Default: 5 for rao, 200 for imitation.",
            metavar="N",
            rich_help_panel=_LENGTH,
        ),
    ] = None,
    optimizer_from: Annotated[
        Path | None,
        typer.Option(
            help="Continue the optimizer of another run on TRACES, the round before: its folder.",
            metavar="DIR",
            rich_help_panel=_LENGTH,
        ),
    ] = None,
    report_to: Annotated[
        str,
        typer.Option(
            help="Report metrics and alarms elsewhere too: tensorboard, wandb (Weights & Biases), or another name that "
            "transformers knows; several with commas.",
            metavar="NAME",
            rich_help_panel=_WATCHING,
        ),
    ] = "none",
    view: Annotated[
        bool,
        typer.Option(
            "--view",
            metavar="",
            help="Show the metrics and alarms in the browser while the run goes on.",
            rich_help_panel=_WATCHING,
        ),
    ] = False,
    view_port: Annotated[int | None, port_option(_WATCHING)] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Train for N minutes of wall time instead of --steps.", metavar="N", rich_help_panel=_MORE
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=1, max=10**7, help="Tokens of an optimizer step.", metavar="N", rich_help_panel=_MORE)
    ] = 4096,
    threshold: Annotated[
        float,
        typer.Option(help="Imitate agents with at least this score in TRACES.", metavar="S", rich_help_panel=_MORE),
    ] = 1.0,
    noise: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Probability of a mistake in each delegation that --env demonstrates.",
            metavar="P",
            rich_help_panel=_MORE,
        ),
    ] = 0.0,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            metavar="",
            help="Compile the model: takes about a minute, and makes long runs faster.",
            rich_help_panel=_MORE,
        ),
    ] = False,
) -> None:
    """Train a model on recorded runs, or on an environment.

    [bold]Examples[/]
      rao train traces/ --model policy/ --out better/
      rao train --env textcraft --online --model policy/ --out better/
      rao train --env textcraft --out policy/      # a small policy from nothing
      rao train --env textcraft --model MODEL/ --set imitation.lora_rank=16 --out taught/
    """
    _check_numbers({"--lr": lr, "--epochs": epochs, "--minutes": minutes, "--noise": noise, "--threshold": threshold})
    if lr is not None and lr <= 0:
        raise ConfigurationError(f"--lr must be more than 0, not {lr:g}")
    if epochs > _MOST_EPOCHS:
        raise ConfigurationError(f"--epochs must be at most {_MOST_EPOCHS:,}, not {epochs:g}")
    defaults = sections(seed=seed, learning_rate=lr, save_steps=save_steps, noise=noise, report_to=report_to)
    if settings:
        print(listing(defaults))
        return
    required = parse_require(require)
    if require is not None and (env is None or (env == "textcraft" and not env_set)) and not online:
        raise ConfigurationError(
            "--require works only where agents' code is run: with --online, and with an --env of your own"
        )
    if objective is None:
        objective = "imitation" if env is not None and not online else "rao"
    if objective not in ("rao", "imitation"):
        raise ConfigurationError(f"--objective takes rao or imitation, not {objective!r}")
    if out is None:
        raise ConfigurationError("name the folder for the trained model: --out DIR")
    if env_set and env is None:
        raise ConfigurationError("--env-set gives arguments to an environment; name it with --env")
    if (traces is None) == (env is None):
        raise ConfigurationError("say what to train on: give either a folder of traces or --env ENV, not both")
    if model is None and (objective == "rao" or traces is not None):
        raise ConfigurationError("name the model to start from: --model DIR")
    check_view_port(view_port, view=view)
    chosen = parse(set_ or (), defaults)
    watching = TrainingView([out], port=view_port) if view and is_first() else nullcontext()
    check_applies(context, chosen, defaults, set_ or (), kind_of(objective, online=online, traces=traces is not None))
    if objective == "imitation":
        if steps is not None and minutes is not None:
            raise ConfigurationError("give --steps or --minutes, not both")
        if online:
            raise ConfigurationError("--online works only with --objective rao")
        if policy is not None:
            raise ConfigurationError(
                "--policy works only with --objective rao: imitation learns from the agents of all models"
            )
        config = ImitationConfig(
            **asdict(chosen["imitation"]),
            output_dir=str(out),
            max_steps=steps,
            minutes=minutes,
            tokens_per_step=tokens,
            resume=resume,
            compile=compile,
        )
        with _stoppable(), watching:
            _imitate(
                *(config, traces, env, env_set, model, chosen["lessons"]),
                threshold=threshold,
                epochs=epochs,
                require=required,
            )
    elif traces is not None:
        if online:
            raise ConfigurationError("--online trains on an environment: give --env instead of recorded traces")
        check_together(chosen, online=False, eval_tasks=eval_tasks)
        temperature = chosen["collect"].temperature if _is_given("collect.temperature", set_ or ()) else None
        with _stoppable(), watching:
            _offline(
                *(out, str(model), traces, chosen, policy),
                epochs=epochs,
                steps=steps,
                temperature=temperature,
                resume=resume,
                optimizer_from=optimizer_from,
            )
    else:
        if policy is not None:
            raise ConfigurationError("--policy chooses among the models of recorded runs; leave it out with --env")
        if not online:
            raise ConfigurationError(
                "--objective rao on an environment needs --online: add it, or give recorded traces instead of --env"
            )
        limits = {"max_steps": steps, "max_generated_tokens": generated}
        given = {name: value for name, value in limits.items() if value is not None}
        chosen["online"] = replace(chosen["online"], **given)
        named = {name: value for name, value in (("model", judge), ("base_url", judge_base_url)) if value is not None}
        chosen["judge"] = replace(chosen["judge"], **named)
        check_together(chosen, online=True, eval_tasks=eval_tasks)
        remotely = on_ray(ray, ray_actors, ray_resource, judge=chosen["judge"].model)
        opened = open_environment(str(env), env_set)
        if chosen["collect"].level not in opened.environment.levels and not _is_given("collect.level", set_ or ()):
            chosen["collect"] = replace(chosen["collect"], level=None)  # all of its levels
        with _stoppable(), watching, cluster(remotely if is_first() else None):
            _online(
                *(out, str(model), str(env), opened, chosen, remotely),
                eval_tasks=eval_tasks,
                resume=resume,
                require=required,
            )
    if is_first():
        print(out)


def _check_numbers(options: Mapping[str, float | None]) -> None:
    """Refuse what a command line reads as a number and nobody can count with."""
    for name, value in options.items():
        if value is not None and not math.isfinite(value):
            raise ConfigurationError(f"{name} must be a finite number, not {value:g}")


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


def _is_given(setting: str, texts: Sequence[str]) -> bool:
    return any(current_name(text.partition("=")[0].strip()) == setting for text in texts)


@contextmanager
def _stoppable() -> Iterator[None]:
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


def _imitate(
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


def _offline(
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


def _online(
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
