"""The chart of what differs between two results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.patches import Patch

from recursive_agent.errors import ConfigurationError

from ..compare import Difference
from ..palette import COMPARED, INK
from .style import SMALL, Kind, by_level, figure, note, number_above, plain_numbers, save, shares, title

_HATCHES = ("\\\\\\", "")


def comparison(
    differences: Sequence[Difference], names: tuple[str, str], out: Path, *, kinds: Sequence[Kind] = ("png",)
) -> list[Path]:
    """Draw what differs between two results into the folder `out`, and return the files (those of each mode).

    `names` are those of the two in the legend. Raises ConfigurationError if no task is in both.
    """
    drawn: dict[str, list[Difference]] = {}
    for item in differences:
        if item.difference is not None:
            drawn.setdefault(item.mode, []).append(item)
    if not drawn:
        raise ConfigurationError("there is no task with a score in both results to draw")
    files = []
    for mode, items in drawn.items():
        files += _differences(mode, items, names, out / f"compare_{mode.replace(' → ', '_to_')}", kinds)
    return files


def _differences(
    mode: str, items: Sequence[Difference], names: tuple[str, str], out: Path, kinds: Sequence[Kind]
) -> list[Path]:
    levels = [item.level for item in items]
    counts = [f"n = {item.tasks:,}" for item in items]
    with figure(max(6.4, 3.2 + 2.1 * len(levels)), 3.7) as drawn:
        scores, changes = drawn.subplots(1, 2)
        for place, colour in enumerate(COMPARED):
            values = [(item.first, item.second)[place] or 0.0 for item in items]
            at = [index + (place - 0.5) * 0.4 for index in range(len(items))]
            scores.bar(at, values, 0.37, color=colour, hatch=_HATCHES[place])
            for x, value in zip(at, values, strict=True):
                number_above(scores, x, value, f"{value:.2f}")
        by_level(scores, levels, counts)
        shares(scores)
        scores.set_ylabel("mean score (0 to 1)")
        scores.set_title("success on the tasks of both")
        changes.axhline(0, color="#808080", linewidth=0.9)
        for index, item in enumerate(items):
            change = item.difference or 0.0
            reach = [[max(0.0, change - item.low)], [max(0.0, item.high - change)]]
            changes.errorbar(index, change, reach, fmt="o", markersize=6, color=INK, capsize=3, linewidth=1.1)
            p = "p < 0.001" if item.p < 0.001 else f"p = {item.p:.3f}"
            changes.annotate(
                p, (index, item.high), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=SMALL
            )
        by_level(changes, levels, counts)
        changes.margins(y=0.15)
        plain_numbers(changes)
        changes.set_ylabel("second less first")
        changes.set_title("change of the mean score")
        title(drawn, f"Comparison, {mode}")
        patches = [Patch(facecolor=colour, hatch=hatch) for colour, hatch in zip(COMPARED, _HATCHES, strict=True)]
        drawn.legend(patches, [_short(name) for name in names], loc="outside upper right", handlelength=1.6, ncols=2)
        note(
            drawn,
            "n: tasks of both. Whiskers: 95\u00a0%, paired by task (Bonett and Price). p: exact paired permutation test.",
        )
        return save(drawn, out, kinds)


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:39]}…"
