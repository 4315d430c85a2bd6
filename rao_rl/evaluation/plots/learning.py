"""Learning curves: success and the figures of training against steps or sampled tokens, of several runs and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from recursive_agent.errors import ConfigurationError

from ..curves import TOKENS, Axis, Metrics, curve, read_metrics
from ..metric_names import metric, titled
from .style import Kind, figure, line_style, markers, note, plain_numbers, save

SUCCESS, LOW, HIGH, TASKS = "eval/success/", "eval/success_low/", "eval/success_high/", "eval/tasks/"
TRAINING: Mapping[str, str] = {
    name: titled(name)
    for name in (
        "reward",
        "loss",
        "entropy",
        "grad_norm",
        "sampling/importance_sampling_ratio/mean",
        "learning_rate",
    )
}
"""The training metrics that are drawn if a run has them, with the titles of their panels.

`reward` is the mean over all attempts; figures by depth leave out groups whose attempts all had the same score.
"""
AXES: Mapping[Axis, str] = {"step": "optimizer steps", "tokens": "tokens sampled for training"}
_SHORT_LINE = 25
"""Points up to which a line shows each of them."""


def learning_curves(
    runs: Mapping[str, Sequence[Path]],
    out: Path,
    x: Axis,
    *,
    metrics: Mapping[str, str] | Sequence[str] = TRAINING,
    kinds: Sequence[Kind] = (),
) -> Path:
    """Draw success on the evaluation tasks, and the training `metrics`, of several runs into `out`.

    `metrics` are names, whose panels have rao's titles, or a mapping of names to titles.

    `runs` maps each label to its metrics files, one for each seed: the line is their mean, and the band reaches from the
    lowest to the highest. The band of a single seed is the 95 % interval over the evaluation tasks. `x` is the optimizer
    step, or the tokens sampled so far. The file is PNG or SVG, as `out` ends; with `kinds` one of each kind, of which the first
    is returned. Raises ConfigurationError if a file is not a metrics file, or if there is nothing to draw.
    """
    read = {label: [read_metrics(path) for path in paths] for label, paths in runs.items() if paths}
    if not read:
        raise ConfigurationError("there are no metrics files to draw")
    everything = [run for seeds in read.values() for run in seeds]
    keys = _keys(everything, x)
    titles = {key: titled(key) for key in keys if key.startswith(SUCCESS)}
    # A single point is not a curve; it is drawn only if nothing else would be.
    often = [key for key in titles if any(sum(key in row for row in run.values()) > 1 for run in everything)]
    evaluated = often or ([] if any(key in keys for key in metrics) else list(titles))
    trained = [key for key in metrics if key in keys]
    titles |= metrics if isinstance(metrics, Mapping) else {name: titled(name) for name in metrics}
    if not evaluated and not trained:
        where = f" beside {TOKENS}" if x == "tokens" else ""
        raise ConfigurationError(f"nothing to draw: no metrics {SUCCESS}…, {', '.join(metrics)}{where}")
    # The evaluation has rows of its own, so that the panels that matter stand together.
    panels = [*_rows(evaluated), *_rows(trained)]
    columns = max(map(len, panels))
    window = _window(everything, trained)
    with figure(max(3.2 * columns, 6.0) + 0.2, 2.4 * len(panels) + 0.9) as drawn:
        grid = drawn.subplots(len(panels), columns, squeeze=False)
        for row, shown in enumerate(panels):
            for column, axes in enumerate(grid[row]):
                if column >= len(shown):
                    axes.set_axis_off()
                    continue
                key = shown[column]
                _panel(axes, read, key, x, 1 if key in evaluated else window)
                axes.set_title(_title(titles[key]))
                axes.set_ylabel(metric(key).unit)
                if metric(key).unit == "share":
                    axes.set_ylim(-0.03, 1.03)
                axes.set_xlabel(AXES[x])
        points = max(len(run) for run in everything)
        lines = [Line2D([], [], **line_style(place), **markers(place, points)) for place in range(len(read))]
        labels = [f"{label} (n = {len(seeds)} seeds)" if len(seeds) > 1 else label for label, seeds in read.items()]
        drawn.legend(lines, labels, loc="outside upper left", ncols=_beside(labels, drawn.get_figwidth()))
        note(drawn, _about(read, evaluated, window))
        return save(drawn, out, kinds)[0]


def _panel(axes: Axes, runs: Mapping[str, Sequence[Metrics]], key: str, x: Axis, window: int) -> None:
    for place, seeds in enumerate(runs.values()):
        line = curve(seeds, key, x, window)
        if line is None:
            continue
        look = line_style(place)
        marks = markers(place, len(line.x))
        if line.measured and len(line.x) <= _SHORT_LINE:
            marks["markevery"] = 1
        if line.runs > 1:
            axes.fill_between(line.x, line.low, line.high, color=look["color"], alpha=0.18, linewidth=0)
        elif key.startswith(SUCCESS):
            _interval(axes, seeds, key, x, look["color"])
        axes.plot(line.x, line.mean, **look, **marks)
    if x == "tokens":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    plain_numbers(axes)


def _interval(axes: Axes, seeds: Sequence[Metrics], key: str, x: Axis, colour: str) -> None:
    """The 95 % interval over tasks of a single seed."""
    level = key.removeprefix(SUCCESS)
    bounds = [curve(seeds, end + level, x) for end in (LOW, HIGH)]
    low, high = bounds
    if low is not None and high is not None and len(low.x) == len(high.x):
        axes.fill_between(low.x, low.mean, high.mean, color=colour, alpha=0.18, linewidth=0)


def _title(text: str) -> str:
    """A title without the unit, which stands at the axis."""
    return text.rpartition(" (")[0] if text.endswith(")") and " (" in text else text


def _about(runs: Mapping[str, Sequence[Metrics]], evaluated: Sequence[str], window: int) -> str:
    """What the picture says of how many seeds and tasks, and with which interval."""
    notes = []
    single = [seeds[0] for seeds in runs.values() if len(seeds) == 1]
    if len(single) < len(runs):
        notes.append("Line: mean of the seeds. Band: least to greatest seed.")
    if single and evaluated:
        notes.append("One seed each: the band is the 95 % interval over the evaluation tasks.")
        levels = [key.removeprefix(SUCCESS) for key in evaluated]
        counts = {level: max(row.get(TASKS + level, 0) for run in single for row in run.values()) for level in levels}
        if any(counts.values()):
            notes.append(
                f"Tasks: {', '.join(f'{level} n = {count:,.0f}' for level, count in counts.items() if count)}."
            )
    elif single and len(single) == len(runs):
        notes.append("n = 1 seed of each run: no interval.")
    if window > 1:
        notes.append(f"Training metrics: running mean of {window} logged steps.")
    return " ".join(notes)


def _beside(labels: Sequence[str], width: float) -> int:
    """How many labels stand beside each other in a picture of this width."""
    longest = max(map(len, labels)) + 6
    return max(1, min(len(labels), int(width * 13 / longest)))


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
