"""`rao plot`: the learning curves of training runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from recursive_agent.errors import ConfigurationError

from ..extras import needs
from ..live_page import check_view_port, port_option
from ..messages import say
from ..training_view import TrainingView, write_page

METRICS = "metrics.jsonl"
"""The metrics file in the folder of a training run."""


def plot(
    metrics: Annotated[
        list[Path], typer.Argument(metavar="METRICS...", help="Folders of training runs, or their metrics files.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the charts (PNG and SVG).", show_default=False)
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write all metrics and alarms as one HTML page: hover for values, several x axes, smoothing, tables.",
            show_default=False,
        ),
    ] = None,
    view: Annotated[
        bool, typer.Option("--view", metavar="", help="Show that page in the browser; it follows runs that go on.")
    ] = False,
    view_port: Annotated[int | None, port_option()] = None,
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
    """Show training runs: learning curves as files, or all metrics as a page.

    [bold]Examples[/]
      rao plot runs/a runs/b --label RAO --label single --out plots/
      rao plot runs/a --page training.html
      rao plot runs/ --view

    The charts show success against optimizer steps, and against sampled tokens.
    For runs with the same label, they show the mean, and a band from the lowest
    to the highest.
    """
    if out is None and page is None and not view:
        raise ConfigurationError(
            "say what to make: --out DIR for charts, --page FILE for a page, or --view to look at it"
        )
    check_view_port(view_port, view=view)
    if out is not None:
        _draw(metrics, label or [], metric or [], out)
    # A label for each run names it on the page; one for all makes them seeds of one chart.
    labels = label if label and len(label) == len(metrics) else []
    if page is not None:
        write_page(metrics, page, labels=labels)
        print(page)
    if view:
        from rao_rl.evaluation.training_page import training_data

        training_data(metrics)  # what cannot be shown is said here, not on the page
        with TrainingView(metrics, port=view_port, labels=labels) as shown:
            say("press Ctrl-C to end")
            shown.wait()


def _draw(metrics: Sequence[Path], labels: Sequence[str], more: Sequence[str], out: Path) -> None:
    plots = load_plots()
    from rao_rl.evaluation.metric_names import titled

    runs = _labelled(metrics, labels)
    drawn = plots.TRAINING | {key: titled(key) for key in more if key not in plots.TRAINING}
    print(plots.learning_curves(runs, out / "learning_steps.png", "step", metrics=drawn, kinds=plots.BOTH))
    from rao_rl.evaluation.curves import TOKENS, read_metrics

    rows = [row for files in runs.values() for file in files for row in read_metrics(file).values()]
    if any(TOKENS in row for row in rows):  # imitation generates none
        print(plots.learning_curves(runs, out / "learning_tokens.png", "tokens", metrics=drawn, kinds=plots.BOTH))


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
