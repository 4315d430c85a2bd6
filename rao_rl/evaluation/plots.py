"""Charts (PNG) of evaluations and of training runs. Needs matplotlib, so commands import it only to draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from recursive_agent.errors import ConfigurationError

from ..envs.base import Mode
from .compare import Difference
from .curves import TOKENS, Axis, Metrics, curve, read_metrics
from .outcome import Attempt
from .summary import Summary, summarize

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers tell apart."""
DASHES = ("-", "--", ":", "-.")
MODES: Mapping[Mode, str] = {"single": "#E69F00", "recursive": "#56B4E9"}
COMPARED = ("#B0B0B0", "#0072B2")
SOLVED, UNSOLVED = "#56B4E9", "#B0B0B0"
SUCCESS = "eval/success/"
TRAINING: Mapping[str, str] = {
    "reward": "root success while training",
    "loss": "loss",
    "entropy": "entropy (nats a token)",
    "grad_norm": "gradient norm",
    "sampling/importance_sampling_ratio/mean": "importance ratio, mean",
    "learning_rate": "learning rate",
}
"""The training metrics that are drawn if a run has them, with the titles of their panels.

`reward` is the mean over all attempts; figures by depth leave out groups whose attempts all had the same score.
"""
AXES: Mapping[Axis, str] = {"step": "optimizer steps", "tokens": "tokens generated for training"}
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#808080",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": "#404040",
    "ytick.color": "#404040",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
_DPI = 150


def learning_curves(
    runs: Mapping[str, Sequence[Path]], out: Path, x: Axis, *, metrics: Mapping[str, str] = TRAINING
) -> Path:
    """Draw success on the evaluation tasks, and the training `metrics` (key to title), of several runs into `out` (PNG).

    `runs` maps each label to its metrics files, one for each seed: the line is their mean, and the band reaches from the
    lowest to the highest. `x` is the optimizer step, or the tokens generated so far. Raises ConfigurationError if a file is
    not a metrics file, or if there is nothing to draw.
    """
    read = {label: [read_metrics(path) for path in paths] for label, paths in runs.items() if paths}
    if not read:
        raise ConfigurationError("there are no metrics files to draw")
    everything = [run for seeds in read.values() for run in seeds]
    keys = _keys(everything, x)
    titles = {key: f"success on {key.removeprefix(SUCCESS)} tasks" for key in keys if key.startswith(SUCCESS)}
    # A single point is not a curve; it is drawn only if nothing else would be.
    often = [key for key in titles if any(sum(key in row for row in run.values()) > 1 for run in everything)]
    evaluated = often or ([] if any(key in keys for key in metrics) else list(titles))
    trained = [key for key in metrics if key in keys]
    titles |= metrics
    if not evaluated and not trained:
        where = f" beside {TOKENS}" if x == "tokens" else ""
        raise ConfigurationError(f"nothing to draw: no metrics {SUCCESS}…, {', '.join(metrics)}{where}")
    # The evaluation has rows of its own, so that the panels that matter stand together.
    panels = [*_rows(evaluated), *_rows(trained)]
    columns = max(map(len, panels))
    window = _window(everything, trained)
    with _figure(max(3.0 * columns, 6.0) + 0.2, 2.1 * len(panels) + 0.9) as figure:
        grid = figure.subplots(len(panels), columns, squeeze=False)
        for row, shown in enumerate(panels):
            for column, axes in enumerate(grid[row]):
                if column >= len(shown):
                    axes.set_axis_off()
                    continue
                key = shown[column]
                _panel(axes, read, key, x, 1 if key in evaluated else window)
                axes.set_title(titles[key])
                if key in evaluated:
                    axes.set_ylim(-0.03, 1.03)
                if not any(column < len(below) for below in panels[row + 1 :]):
                    axes.set_xlabel(AXES[x])
        lines = [Line2D([], [], **_look(place)) for place in range(len(read))]
        labels = [f"{label} ({len(seeds)} seeds)" if len(seeds) > 1 else label for label, seeds in read.items()]
        figure.legend(lines, labels, loc="outside upper left", ncols=min(len(labels), 3))
        notes = []
        if any(len(seeds) > 1 for seeds in read.values()):
            notes.append("Line: mean of the seeds. Band: least to greatest seed.")
        if window > 1:
            notes.append(f"Training metrics: running mean of {window} logged steps.")
        _note(figure, " ".join(notes))
        return _save(figure, out)


def evaluation(attempts: Sequence[Attempt], out: Path) -> list[Path]:
    """Draw the charts of an evaluation into the folder `out`, and return their files.

    Success and tokens per solved task by level and mode; what solving took on the tasks that both modes solve, if there are
    any; the depth of the trees and the share of concurrent launches, if anything was launched. Raises
    ConfigurationError if there are no attempts.
    """
    if not attempts:
        raise ConfigurationError("there are no attempts to draw")
    summaries = summarize(attempts)
    files = [_success(summaries, out / "success.png"), _tokens(summaries, out / "tokens_per_solved.png")]
    if len({item.mode for item in summaries}) > 1 and any(item.common for item in summaries):
        files.append(_effort(summaries, out / "effort.png"))
    if any(item.launches for item in summaries):
        files += [_depth(attempts, out / "depth.png"), _concurrency(summaries, out / "concurrency.png")]
    return files


def comparison(differences: Sequence[Difference], names: tuple[str, str], out: Path) -> list[Path]:
    """Draw what differs between two results into the folder `out`, and return the files (one for each mode).

    `names` are those of the two in the legend. Raises ConfigurationError if no task is in both.
    """
    drawn: dict[str, list[Difference]] = {}
    for item in differences:
        if item.difference is not None:
            drawn.setdefault(item.mode, []).append(item)
    if not drawn:
        raise ConfigurationError("there is no task with a score in both results to draw")
    return [
        _differences(mode, items, names, out / f"compare_{mode.replace(' → ', '_to_')}.png")
        for mode, items in drawn.items()
    ]


def _differences(mode: str, items: Sequence[Difference], names: tuple[str, str], out: Path) -> Path:
    levels = [item.level for item in items]
    with _figure(2.8 + 1.9 * len(levels), 3.2) as figure:
        scores, changes = figure.subplots(1, 2)
        for place, (name, colour) in enumerate(zip(names, COMPARED, strict=True)):
            values = [(item.first, item.second)[place] or 0.0 for item in items]
            at = [index + (place - 0.5) * 0.4 for index in range(len(items))]
            scores.bar(at, values, 0.37, color=colour, label=name)
            for x, value in zip(at, values, strict=True):
                scores.annotate(
                    f"{value:.2f}", (x, value), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8
                )
        _by_level(scores, levels)
        scores.set_ylim(0, 1.09)
        scores.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
        scores.set_title("success on the tasks of both")
        changes.axhline(0, color="#808080", linewidth=0.9)
        for index, item in enumerate(items):
            change = item.difference or 0.0
            reach = [[max(0.0, change - item.low)], [max(0.0, item.high - change)]]
            changes.errorbar(index, change, reach, fmt="o", markersize=6, color="#202020", capsize=3, linewidth=1.1)
            p = "p < 0.001" if item.p < 0.001 else f"p = {item.p:.3f}"
            changes.annotate(p, (index, item.high), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=8)
        _by_level(changes, levels)
        changes.margins(y=0.15)
        changes.set_title("change")
        figure.suptitle(f"Comparison, {mode}", x=0.01, ha="left", fontsize=11)
        figure.legend([Patch(color=colour) for colour in COMPARED], list(names), **_LEGEND, ncols=2)
        tasks = ", ".join(f"{item.level} {item.tasks:,}" for item in items)
        _note(figure, f"Tasks: {tasks}. Whiskers: 95 %, paired by task (Bonett and Price). p: exact permutation test.")
        return _save(figure, out)


def _effort(summaries: Sequence[Summary], out: Path) -> Path:
    """What the tasks took that both modes solve: seconds, the longest chain of steps, and tokens, side by side."""
    common = [item for item in summaries if item.common]
    levels, modes = _axes_of(common)
    figures = [
        ("wall time (s)", [item.common_seconds for item in common]),
        ("critical steps", [item.common_critical_steps for item in common]),
        ("tokens", [item.common_total_tokens for item in common]),
    ]
    with _figure(4.2 + 1.8 * len(levels), 3.0) as figure:
        for axes, (title, values) in zip(figure.subplots(1, len(figures)), figures, strict=True):
            for item, value in zip(common, values, strict=True):
                if value is None:
                    continue
                at = levels.index(item.level) + (modes.index(item.mode) - (len(modes) - 1) / 2) * 0.4
                axes.bar(at, value, 0.37, color=MODES[item.mode])
                axes.annotate(
                    f"{value:,.3g}" if value < 100 else f"{value:,.0f}",
                    (at, value),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7.5,
                )
            _by_level(axes, levels)
            axes.margins(y=0.15)
            axes.set_title(title)
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        counts = {item.level: item.common for item in common}
        figure.suptitle("Effort on the tasks that both modes solve", x=0.01, ha="left", fontsize=11)
        _mode_legend(figure, modes)
        _note(figure, f"Means. Tasks: {', '.join(f'{level} {number:,}' for level, number in counts.items())}.")
        return _save(figure, out)


def _success(summaries: Sequence[Summary], out: Path) -> Path:
    levels, modes = _axes_of(summaries)
    with _figure(1.6 + 1.25 * len(levels), 3.2) as figure:
        axes = figure.subplots()
        width = 0.8 / len(modes)
        for item in summaries:
            if item.success is None:
                continue
            at = levels.index(item.level) + (modes.index(item.mode) - (len(modes) - 1) / 2) * width
            axes.bar(at, item.success, width * 0.92, color=MODES[item.mode])
            reach = [[max(0.0, item.success - item.low)], [max(0.0, item.high - item.success)]]
            axes.errorbar(at, item.success, reach, color="#202020", linewidth=1.1, capsize=3)
            axes.annotate(
                f"{item.success:.2f}",
                (at, item.high),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        _by_level(axes, levels)
        axes.set_ylim(0, 1.09)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
        axes.set_ylabel("mean score")
        figure.suptitle("Success by level", x=0.01, ha="left", fontsize=11)
        _mode_legend(figure, modes)
        methods = {item.interval for item in summaries}
        names = [name for method, name in (("wilson", "Wilson"), ("t", "Student's t")) if method in methods]
        _note(figure, f"Whiskers: 95 % interval over tasks ({', '.join(names)}).")
        return _save(figure, out)


def _tokens(summaries: Sequence[Summary], out: Path) -> Path:
    levels, modes = _axes_of(summaries)
    with _figure(1.6 + 1.25 * len(levels), 3.2) as figure:
        axes = figure.subplots()
        axes.set_yscale("log")
        for item in summaries:
            at = levels.index(item.level) + (modes.index(item.mode) - (len(modes) - 1) / 2) * 0.3
            if item.total_tokens_per_solved is None:
                # At the bottom of the chart: no task was solved, so there is no figure.
                axes.annotate(
                    "none\nsolved",
                    (at, 0.02),
                    xycoords=axes.get_xaxis_transform(),
                    color=MODES[item.mode],
                    ha="center",
                    fontsize=8,
                )
                continue
            axes.plot(at, item.total_tokens_per_solved, "o", markersize=8, color=MODES[item.mode])
            axes.annotate(
                f"{item.total_tokens_per_solved:,.0f}",
                (at, item.total_tokens_per_solved),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        _by_level(axes, levels)
        axes.margins(y=0.25)
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylabel("tokens (log scale)")
        figure.suptitle("Tokens per solved task", x=0.01, ha="left", fontsize=11)
        _mode_legend(figure, modes)
        _note(
            figure,
            "Prompt and sampled tokens of all attempts, also the failed ones, for each attempt that solves its task.",
        )
        return _save(figure, out)


def _depth(attempts: Sequence[Attempt], out: Path) -> Path:
    attempts = [attempt for attempt in attempts if attempt.mode == "recursive"]
    levels = list(dict.fromkeys(attempt.level for attempt in attempts))
    deepest = max(attempt.depth for attempt in attempts)
    with _figure(0.9 + 1.9 * len(levels), 3.0) as figure:
        panels = figure.subplots(1, len(levels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, level in zip(panels, levels, strict=True):
            below = Counter[int]()
            for solved, colour in ((True, SOLVED), (False, UNSOLVED)):
                depths = Counter(item.depth for item in attempts if (item.level, item.solved) == (level, solved))
                axes.bar(list(depths), list(depths.values()), 0.86, [below[depth] for depth in depths], color=colour)
                below += depths
            axes.set_title(level)
            axes.set_xlim(-0.6, deepest + 0.6)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        panels[0].set_ylabel("attempts")
        figure.supxlabel("depth of the deepest agent (the root's is 0)", fontsize=9)
        figure.suptitle("Depth of the recursive trees", x=0.01, ha="left", fontsize=11)
        figure.legend([Patch(color=SOLVED), Patch(color=UNSOLVED)], ["solved", "not solved"], **_LEGEND, ncols=2)
        return _save(figure, out)


def _concurrency(summaries: Sequence[Summary], out: Path) -> Path:
    launching = [item for item in summaries if item.concurrent_share is not None]
    levels, _ = _axes_of(launching)
    with _figure(1.6 + 1.25 * len(levels), 3.2) as figure:
        axes = figure.subplots()
        for item in launching:
            share, at = item.concurrent_share or 0.0, levels.index(item.level)
            axes.bar(at, share, 0.55, color=MODES[item.mode])
            axes.annotate(
                f"{share:.0%}\nof {item.launches:,}",
                (at, share),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        _by_level(axes, levels)
        axes.set_ylim(0, 1.19)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
        axes.set_ylabel("share of the launches")
        figure.suptitle("Launches that ran beside a sibling", x=0.01, ha="left", fontsize=11)
        return _save(figure, out)


_LEGEND: Mapping[str, Any] = {"loc": "outside upper right", "borderaxespad": 0.0, "handlelength": 1.0}


def _panel(axes: Axes, runs: Mapping[str, Sequence[Metrics]], key: str, x: Axis, window: int) -> None:
    for place, seeds in enumerate(runs.values()):
        line = curve(seeds, key, x, window)
        if line is None:
            continue
        look = _look(place)
        if line.measured and len(line.x) <= 25:
            look |= {"marker": "o", "markersize": 3.5}
        if line.runs > 1:
            axes.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.18, linewidth=0)
        axes.plot(line.x, line.mean, **look)
    if x == "tokens":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))


def _look(place: int) -> dict[str, Any]:
    """Colour and dashes of the run at this place: every colour with a full line first, then with dashes."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place // len(COLOURS) % len(DASHES)]}


def _keys(runs: Sequence[Metrics], x: Axis) -> list[str]:
    """The metrics of any run that have a value on the axis `x`, in order of appearance."""
    rows = [row for run in runs for row in run.values() if x == "step" or TOKENS in row]
    return list(dict.fromkeys(key for row in rows for key in row))


def _rows(keys: Sequence[str]) -> list[Sequence[str]]:
    width = 4 if len(keys) == 4 else 3
    return [keys[start : start + width] for start in range(0, len(keys), width)]


def _window(runs: Sequence[Metrics], keys: Sequence[str]) -> int:
    """Points of the running mean: a twentieth of the longest line, odd; 1 (none) for short ones."""
    longest = max((sum(key in row for row in run.values()) for run in runs for key in keys), default=0)
    return longest // 20 // 2 * 2 + 1


def _axes_of(summaries: Sequence[Summary]) -> tuple[list[str], list[Mode]]:
    modes = {item.mode for item in summaries}
    return list(dict.fromkeys(item.level for item in summaries)), [mode for mode in MODES if mode in modes]


def _by_level(axes: Axes, levels: Sequence[str]) -> None:
    axes.set_xticks(range(len(levels)), levels)
    axes.set_xlim(-0.6, len(levels) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("level of the tasks")


def _mode_legend(figure: Figure, modes: Sequence[Mode]) -> None:
    figure.legend([Patch(color=MODES[mode]) for mode in modes], list(modes), **_LEGEND, ncols=len(modes))


def _note(figure: Figure, text: str) -> None:
    if text:
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7.5, color="#606060")


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure, in inches. Without pyplot: nothing opens a window, and no global state remains."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _save(figure: Figure, out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format="png")
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written ({error.strerror})") from error
    return out
