"""`rao plot`: the learning curves of training runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from recursive_agent.errors import ConfigurationError

from ..extras import needs

METRICS = "metrics.jsonl"
"""The metrics file in the folder of a training run."""


def plot(
    metrics: Annotated[
        list[Path], typer.Argument(metavar="METRICS...", help="Folders of training runs, or their metrics files.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the charts (PNG).")],
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name of a run in the chart: one --label for each run in order, or one for all. Runs with the same name are "
            "drawn as seeds of one experiment. Default: the name of the run's folder.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Draw this metric too; repeat for several.")
    ] = None,
) -> None:
    """Draw learning curves: success against optimizer steps, and against generated tokens.

    [bold]Examples[/]
      rao plot runs/a runs/b --label RAO --label single --out plots/

    For runs with the same label, it draws their mean, and a band from the lowest
    to the highest.
    """
    plots = load_plots()
    runs = _labelled(metrics, label or [])
    drawn = plots.TRAINING | {key: key for key in metric or [] if key not in plots.TRAINING}
    print(plots.learning_curves(runs, out / "learning_steps.png", "step", metrics=drawn))
    from rao_rl.evaluation.curves import TOKENS, read_metrics

    rows = [row for files in runs.values() for file in files for row in read_metrics(file).values()]
    if any(TOKENS in row for row in rows):  # imitation generates none
        print(plots.learning_curves(runs, out / "learning_tokens.png", "tokens", metrics=drawn))


def load_plots() -> ModuleType:
    """`rao_rl.evaluation.plots`. Raises ConfigurationError if matplotlib is not installed."""
    with needs("train", "drawing charts"):
        from rao_rl.evaluation import plots
    return plots


def _labelled(metrics: Sequence[Path], labels: Sequence[str]) -> dict[str, list[Path]]:
    if len(labels) == 1:
        labels = [labels[0]] * len(metrics)
    if labels and len(labels) != len(metrics):
        raise ConfigurationError(
            f"--label is given {len(labels)} times for {len(metrics)} runs; give one for each run, or one for all of them"
        )
    runs: dict[str, list[Path]] = {}
    for place, path in enumerate(metrics):
        file = path / METRICS if path.is_dir() else path
        name = labels[place] if labels else _name(file)
        runs.setdefault(name, []).append(file)
    return runs


def _name(file: Path) -> str:
    return file.resolve().parent.name if file.name == METRICS else file.stem
