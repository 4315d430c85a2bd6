"""The style of every chart in a file: one font, one grid, a note with n and interval at the foot, PNG or SVG by the name."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from recursive_agent.errors import ConfigurationError

from ..palette import GRID, INK, MUTED, look

Kind = Literal["png", "svg"]
"""A kind of file."""
BOTH: tuple[Kind, ...] = ("png", "svg")
SMALL = 8
"""Points of the figures on bars."""
NOTE = 8
_COLUMNS = 13
"""Characters of a note that fit into an inch."""
_LEAST_SPAN = 2e-3
"""Least span of a y axis, as a share of its values: what differs by less than a thousandth is drawn as a flat line."""
_DPI = 150
_STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#808080",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "figure.titlesize": 11,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.color": "#FFFFFF",
    "hatch.linewidth": 0.9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "rao",  # the same chart is the same file
    "text.color": INK,
    "xtick.color": "#404040",
    "ytick.color": "#404040",
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure, in inches. Without pyplot: nothing opens a window, and no global state remains."""
    with mpl.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn


def save(drawn: Figure, out: Path, kinds: Sequence[Kind] = ()) -> list[Path]:
    """Write a figure as files of these kinds; without any, as the kind that `out` ends in, PNG where it ends in none.

    Raises ConfigurationError where a file cannot be written.
    """
    given: Kind = "svg" if out.suffix.lower() == ".svg" else "png"
    files = [out.with_suffix(f".{kind}") for kind in kinds] or [out]
    for file, kind in zip(files, kinds or (given,), strict=True):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # A date in the file would make every drawing of the same figures another file.
            drawn.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be written ({error.strerror})") from error
    return files


def title(drawn: Figure, text: str) -> None:
    """The title, at the left."""
    drawn.suptitle(text, x=0.01, ha="left")


def note(drawn: Figure, text: str) -> None:
    """What the figures are of, at the foot, broken so that it fits the width."""
    if text:
        lines = textwrap.fill(text, max(30, int(drawn.get_figwidth() * _COLUMNS)))
        drawn.supxlabel(lines, x=0.01, ha="left", fontsize=NOTE, color=MUTED)


def line_style(place: int) -> dict[str, Any]:
    """Colour and dashes of the line at this place, as matplotlib takes them."""
    chosen = look(place)
    return {"color": chosen.colour, "linestyle": (0, chosen.dash) if chosen.dash else "-"}


def markers(place: int, points: int) -> dict[str, Any]:
    """The markers of a line of so many points: every one of a short line, about ten of a long one."""
    return {"marker": look(place).marker, "markersize": 4, "markevery": max(1, -(-points // 12))}


def whiskers(axes: Axes, at: float, value: float, low: float, high: float) -> None:
    """An interval around a value."""
    reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axes.errorbar(at, value, reach, color=INK, linewidth=1.1, capsize=3, zorder=4)


def number_above(axes: Axes, at: float, height: float, text: str) -> None:
    """A figure above a bar or its whiskers, on a ground of its own so that no line runs through it."""
    axes.annotate(
        text,
        (at, height),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=SMALL,
        zorder=5,
    )


def by_level(axes: Axes, levels: Sequence[str], counts: Sequence[str] | None = None) -> None:
    """The levels along the x axis, with how many tasks each stands for."""
    names = [textwrap.fill(level, 14) for level in levels]
    if counts is not None:
        names = [f"{name}\n{text}" for name, text in zip(names, counts, strict=True)]
    axes.set_xticks(range(len(levels)), names)
    axes.set_xlim(-0.6, len(levels) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("level of the tasks")


def plain_numbers(axes: Axes) -> None:
    """A few round ticks on the y axis, with a minus that is as wide as a plus, and no noise blown up to the whole height."""
    low, high = axes.get_ylim()
    middle = (low + high) / 2
    if 0 < high - low < _LEAST_SPAN * abs(middle):
        axes.set_ylim(middle - _LEAST_SPAN * abs(middle), middle + _LEAST_SPAN * abs(middle))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}".replace("-", "−")))


def shares(axes: Axes, *, room: float = 0.12) -> None:
    """An axis from 0 to 1, with room above for figures."""
    axes.set_ylim(0, 1 + room)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
