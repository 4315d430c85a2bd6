"""`rao train`: recorded trees, or an environment's demonstrations, into better weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recursive_agent.errors import ConfigurationError

NEEDS = "training needs more packages: pip install 'rao[train]'"


def train(
    traces: Annotated[Path | None, typer.Argument(help="A trace or a folder.", show_default=False, hidden=True)] = None,
    objective: Annotated[str, typer.Option(help="imitation.", metavar="O")] = "imitation",
    env: Annotated[str | None, typer.Option(help="Learn from its solver: textcraft.", metavar="ENV")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the checkpoint goes.", metavar="DIR")] = None,
    model: Annotated[str | None, typer.Option(help="Checkpoint to start from.", metavar="DIR")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.", metavar="N")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Train for this long.", metavar="M")] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the traces.", metavar="N")] = 3.0,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a step.", metavar="N")] = 4096,
    lr: Annotated[float | None, typer.Option(min=0.0, help="Learning rate.", metavar="LR")] = None,
    threshold: Annotated[float, typer.Option(help="Least score of what is imitated.", metavar="S")] = 1.0,
    noise: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of flawed lessons.", metavar="P")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of weights and samples.", metavar="N")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Faster steps, slow start.")] = False,
) -> None:
    """Train a policy on what good agents wrote: recorded traces, or a solver.

    rao train traces/ --model policy/ --out better/

    rao train --env textcraft --out policy/ --steps 2200   (from scratch)
    """
    if objective != "imitation":
        raise ConfigurationError(f"--objective takes imitation, not {objective!r}")
    if out is None:
        raise ConfigurationError("say where the checkpoint goes with --out DIR")
    if (traces is None) == (env is None):
        raise ConfigurationError("give a folder of traces, or --env textcraft, and not both")
    if steps is not None and minutes is not None:
        raise ConfigurationError("give --steps or --minutes, not both")
    if traces is not None and model is None:
        raise ConfigurationError("say which checkpoint to start from with --model DIR")
    if env is not None and (env != "textcraft" or model is not None):
        raise ConfigurationError(
            "--env trains a new policy and takes no --model" if model else f"there is no solver to imitate in {env!r}"
        )
    try:
        from rao_rl.imitation import ImitationConfig, train_from_scratch, train_on_traces
        from rao_rl.lessons import Curriculum
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{NEEDS} ({error.name} is missing)") from error
    # What is learnt from nothing takes longer steps than what is only adjusted.
    rate = lr if lr is not None else 2e-3 if traces is None else 2e-4
    config = ImitationConfig(
        output_dir=str(out),
        max_steps=steps,
        minutes=minutes,
        tokens_per_step=tokens,
        seed=seed,
        resume=resume,
        compile=compile,
        learning_rate=rate,
    )
    if traces is not None and model is not None:
        train_on_traces(config, traces, model, threshold=threshold, epochs=epochs)
    else:
        train_from_scratch(config, Curriculum(seed=seed, drop_child=noise, wrong_count=noise))
    print(out)
