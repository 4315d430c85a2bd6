"""`rao plot`: the learning curves of training runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from rao_rl.curves import TOKENS, read_metrics
from recursive_agent.errors import ConfigurationError

METRICS = "metrics.jsonl"
"""The metrics file in the folder of a training run."""


def plot(
    metrics: Annotated[list[Path], typer.Argument(help="Metrics files, or folders of runs.", metavar="METRICS...")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.", metavar="DIR")],
    label: Annotated[
        list[str] | None, typer.Option(help="Name of each run; the same name: seeds.", metavar="NAME")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Draw this one too (repeat).", metavar="KEY")] = None,
) -> None:
    """Draw learning curves: success against steps, and against generated tokens.

    Example: rao plot runs/a runs/b --label RAO --label single --out plots/

    Runs of one label are seeds: their mean is drawn, with a band from the least
    to the greatest. Without --label each run goes by its folder's name.
    """
    plots = load_plots()
    runs = _labelled(metrics, label or [])
    drawn = plots.TRAINING | {key: key for key in metric or [] if key not in plots.TRAINING}
    print(plots.learning_curves(runs, out / "learning_steps.png", "step", metrics=drawn))
    rows = [row for files in runs.values() for file in files for row in read_metrics(file).values()]
    if any(TOKENS in row for row in rows):  # imitation generates none
        print(plots.learning_curves(runs, out / "learning_tokens.png", "tokens", metrics=drawn))


def load_plots() -> ModuleType:
    """`rao_rl.plots`. Raises ConfigurationError where matplotlib is not installed."""
    try:
        from rao_rl import plots
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"pictures need more packages: pip install 'rao[train]' ({error.name} is missing)"
        ) from error
    return plots


def _labelled(metrics: Sequence[Path], labels: Sequence[str]) -> dict[str, list[Path]]:
    if len(labels) == 1:
        labels = [labels[0]] * len(metrics)
    if labels and len(labels) != len(metrics):
        raise ConfigurationError(
            f"--label is given {len(labels)} times for {len(metrics)} runs: give one each, or one for all"
        )
    runs: dict[str, list[Path]] = {}
    for place, path in enumerate(metrics):
        file = path / METRICS if path.is_dir() else path
        name = labels[place] if labels else _name(file)
        runs.setdefault(name, []).append(file)
    return runs


def _name(file: Path) -> str:
    return file.resolve().parent.name if file.name == METRICS else file.stem
