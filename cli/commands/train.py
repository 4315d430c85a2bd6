"""`rao train`: recorded trees, an environment's rollouts or its demonstrations, into better weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from rao_rl.config import ImitationConfig, current_name, sections
from rao_rl.processes import is_first
from recursive_agent.errors import ConfigurationError

from ..environments import EnvSetOption, open_environment
from ..isolation import parse_require
from ..judging import JudgeOption, JudgeUrlOption
from ..live_page import check_view_port, port_option
from ..on_ray import RayActorsOption, RayOption, RayResourceOption, cluster, on_ray
from ..settings import listing, parse
from ..train_options import check_applies, check_together, kind_of
from ..training import run_imitation, run_offline, run_online, stoppable
from ..training_view import TrainingView

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
        with stoppable(), watching:
            run_imitation(
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
        with stoppable(), watching:
            run_offline(
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
        remotely = on_ray(ray, ray_actors, ray_resource)
        opened = open_environment(str(env), env_set)
        if chosen["collect"].level not in opened.environment.levels and not _is_given("collect.level", set_ or ()):
            chosen["collect"] = replace(chosen["collect"], level=None)  # all of its levels
        with stoppable(), watching, cluster(remotely if is_first() else None):
            run_online(
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


def _is_given(setting: str, texts: Sequence[str]) -> bool:
    return any(current_name(text.partition("=")[0].strip()) == setting for text in texts)
