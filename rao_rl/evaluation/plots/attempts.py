"""Charts of an evaluation: success, tokens for each solved task, and the effort on the tasks that both modes solve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from recursive_agent.errors import ConfigurationError

from ...envs.base import Mode
from ..compare import solved_by_all
from ..outcome import Attempt
from ..palette import HATCHES, INK, MODES
from ..statistics import ratio_interval
from ..summary import Summary, summarize
from . import trees
from .style import Kind, by_level, figure, note, number_above, save, shares, title, whiskers

_WIDTH = 1.5
"""Inches for each level."""
_EFFORT: Mapping[str, Callable[[Attempt], float | None]] = {
    "wall time (s)": lambda attempt: attempt.seconds,
    "critical steps (model calls)": lambda attempt: attempt.critical_steps,
    "prompt and sampled tokens": lambda attempt: attempt.total_tokens,
}


def evaluation(attempts: Sequence[Attempt], out: Path, *, kinds: Sequence[Kind] = ("png",)) -> list[Path]:
    """Draw the charts of an evaluation into the folder `out`, and return their files.

    Success and tokens per solved task by level and mode; what solving took on the tasks that both modes solve, if there are
    any; the depth of the trees and the share of concurrent launches, if anything was launched. Raises
    ConfigurationError if there are no attempts.
    """
    if not attempts:
        raise ConfigurationError("there are no attempts to draw")
    summaries = summarize(attempts)
    files = _success(summaries, out / "success", kinds)
    files += _tokens(attempts, summaries, out / "tokens_per_solved", kinds)
    if len({item.mode for item in summaries}) > 1 and any(item.common for item in summaries):
        files += _effort(attempts, out / "effort", kinds)
    if any(item.launches for item in summaries):
        files += trees.depth(attempts, out / "depth", kinds)
        files += trees.concurrency(attempts, out / "concurrency", kinds)
    return files


def _success(summaries: Sequence[Summary], out: Path, kinds: Sequence[Kind]) -> list[Path]:
    """Mean score by level and mode, with the 95 % interval over tasks."""
    levels, modes = _axes_of(summaries)
    with figure(max(5.0, 2.2 + _WIDTH * len(levels)), 3.6) as drawn:
        axes = drawn.subplots()
        for item in summaries:
            if item.success is None:
                continue
            at = levels.index(item.level) + _shift(modes, item.mode)
            _bar(axes, at, item.success, 0.74 / len(modes), item.mode)
            whiskers(axes, at, item.success, item.low, item.high)
            number_above(axes, at, item.high, f"{item.success:.2f}")
        by_level(axes, levels, [_tasks(summaries, level) for level in levels])
        shares(axes)
        axes.set_ylabel("mean score (0 to 1)")
        title(drawn, "Success by level")
        _legend(drawn, modes)
        methods = {item.interval for item in summaries}
        names = [name for method, name in (("wilson", "Wilson"), ("t", "Student's t")) if method in methods]
        note(drawn, f"n: tasks. Whiskers: 95\u00a0% interval over tasks ({', '.join(names)}).{_repeats(summaries)}")
        return save(drawn, out, kinds)


def _tokens(attempts: Sequence[Attempt], summaries: Sequence[Summary], out: Path, kinds: Sequence[Kind]) -> list[Path]:
    levels, modes = _axes_of(summaries)
    with figure(max(5.0, 2.2 + _WIDTH * len(levels)), 3.6) as drawn:
        axes = drawn.subplots()
        axes.set_yscale("log")
        for item in summaries:
            at = levels.index(item.level) + _shift(modes, item.mode, 0.36)
            if item.total_tokens_per_solved is None:
                # At the bottom of the chart: no task was solved, so there is no figure.
                axes.annotate(
                    "none\nsolved",
                    (at, 0.02),
                    xycoords=axes.get_xaxis_transform(),
                    color=INK,
                    ha="center",
                    fontsize=8,
                )
                continue
            spent, solved = _by_task(attempts, item)
            low, high = ratio_interval(spent, solved)
            value = item.total_tokens_per_solved
            marker = "o" if item.mode == "recursive" else "s"
            axes.plot(at, value, marker, markersize=8, color=MODES[item.mode], markeredgecolor=INK, zorder=5)
            top = value
            if 0 < low <= high < float("inf"):
                whiskers(axes, at, value, low, high)
                top = high
            number_above(axes, at, top * 1.04, f"{value:,.0f}")
        by_level(axes, levels, [_tasks(summaries, level) for level in levels])
        axes.margins(y=0.25)
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylabel("tokens (log scale)")
        title(drawn, "Tokens per solved task")
        _legend(drawn, modes)
        note(
            drawn,
            "n: tasks. Prompt and sampled tokens of all attempts, also the failed ones, for each attempt that solves its task. "
            "Whiskers: 95\u00a0% bootstrap over tasks, where it is finite.",
        )
        return save(drawn, out, kinds)


def _effort(attempts: Sequence[Attempt], out: Path, kinds: Sequence[Kind]) -> list[Path]:
    """What the tasks took that both modes solve: seconds, the longest chain of steps, and tokens, side by side."""
    common = solved_by_all(attempts)
    solving = [attempt for attempt in attempts if attempt.solved and attempt.task in common]
    levels = list(dict.fromkeys(attempt.level for attempt in solving))
    modes = [mode for mode in MODES if any(attempt.mode == mode for attempt in solving)]
    counts = [f"n = {len({each.task for each in solving if each.level == level}):,}" for level in levels]
    known = {
        name: value_of for name, value_of in _EFFORT.items() if all(value_of(each) is not None for each in solving)
    }
    with figure(max(6.0, 0.6 + len(known) * (1.3 + 0.7 * len(levels))), 3.5) as drawn:
        for axes, (name, value_of) in zip(drawn.subplots(1, len(known)), known.items(), strict=True):
            for index, level in enumerate(levels):
                for mode in modes:
                    group = [each for each in solving if (each.level, each.mode) == (level, mode)]
                    values = _task_means(group, value_of)
                    if not values:
                        continue
                    at, value = index + _shift(modes, mode), fmean(values)
                    low, high = ratio_interval(values, [1.0] * len(values))
                    if len(values) < 2:  # nothing is known of their spread
                        low = high = value
                    _bar(axes, at, value, 0.37, mode)
                    whiskers(axes, at, value, low, high)
                    number_above(axes, at, high, f"{value:,.3g}" if value < 100 else f"{value:,.0f}")
            by_level(axes, levels, counts)
            axes.margins(y=0.15)
            axes.set_ylim(bottom=0)
            axes.set_ylabel(name)
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        title(drawn, "Effort on the tasks that both modes solve")
        _legend(drawn, modes)
        note(drawn, "n: tasks. Bars: means over tasks. Whiskers: 95\u00a0% bootstrap over tasks.")
        return save(drawn, out, kinds)


def _task_means(group: Sequence[Attempt], value_of: Callable[[Attempt], float | None]) -> list[float]:
    """The mean of each task."""
    found: dict[str, list[float]] = {}
    for attempt in group:
        found.setdefault(attempt.task, []).append(value_of(attempt) or 0.0)
    return [fmean(values) for values in found.values()]


def _by_task(attempts: Sequence[Attempt], item: Summary) -> tuple[list[float], list[float]]:
    """Tokens and solved attempts of each task of a summary."""
    spent: dict[str, float] = {}
    solved: dict[str, float] = {}
    for attempt in attempts:
        if (attempt.level, attempt.mode) == (item.level, item.mode):
            spent[attempt.task] = spent.get(attempt.task, 0.0) + attempt.total_tokens
            solved[attempt.task] = solved.get(attempt.task, 0.0) + attempt.solved
    return list(spent.values()), list(solved.values())


def _bar(axes: Axes, at: float, height: float, width: float, mode: Mode) -> None:
    axes.bar(at, height, width, color=MODES[mode], hatch=HATCHES[mode])


def _shift(modes: Sequence[Mode], mode: Mode, apart: float | None = None) -> float:
    """How far from its level's place a mode stands."""
    return (modes.index(mode) - (len(modes) - 1) / 2) * (0.8 / len(modes) if apart is None else apart)


def _axes_of(summaries: Sequence[Summary]) -> tuple[list[str], list[Mode]]:
    modes = {item.mode for item in summaries}
    return list(dict.fromkeys(item.level for item in summaries)), [mode for mode in MODES if mode in modes]


def _tasks(summaries: Sequence[Summary], level: str) -> str:
    """How many tasks a level has: one number, or that of each mode where they differ."""
    counts = [item.tasks for item in summaries if item.level == level]
    return "n = " + " / ".join(f"{number:,}" for number in (counts[:1] if len(set(counts)) == 1 else counts))


def _repeats(summaries: Sequence[Summary]) -> str:
    most = max(item.repeats for item in summaries)
    return f" Each task: mean of up to {most} attempts." if most > 1 else ""


def _legend(drawn: Figure, modes: Sequence[Mode]) -> None:
    patches = [Patch(facecolor=MODES[mode], hatch=HATCHES[mode]) for mode in modes]
    drawn.legend(patches, list(modes), loc="outside upper right", borderaxespad=0.0, handlelength=1.6, ncols=len(modes))
