"""Charts of the shape of the recursive trees: how deep they are, and how many launches ran beside another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ..outcome import Attempt
from ..palette import INK, MODES, SOLVED, UNSOLVED
from ..statistics import ratio_interval
from .style import Kind, by_level, figure, note, number_above, save, shares, title, whiskers

_UNSOLVED_HATCH = "..."
_TITLE_WIDTH = 26
"""Characters of a line of a panel's title: panels stand beside each other."""


def depth(attempts: Sequence[Attempt], out: Path, kinds: Sequence[Kind]) -> list[Path]:
    """How many attempts had a tree of each depth, solved and not."""
    attempts = [attempt for attempt in attempts if attempt.mode == "recursive"]
    levels = list(dict.fromkeys(attempt.level for attempt in attempts))
    deepest = max(attempt.depth for attempt in attempts)
    with figure(max(4.2, 0.9 + 1.9 * len(levels)), 3.3) as drawn:
        panels = drawn.subplots(1, len(levels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, level in zip(panels, levels, strict=True):
            below = Counter[int]()
            for solved, colour, hatch in ((True, SOLVED, ""), (False, UNSOLVED, _UNSOLVED_HATCH)):
                depths = Counter(item.depth for item in attempts if (item.level, item.solved) == (level, solved))
                bottoms = [below[number] for number in depths]
                axes.bar(list(depths), list(depths.values()), 0.86, bottoms, color=colour, hatch=hatch)
                below += depths
            axes.set_title(fill(f"{level} (n = {below.total():,})", _TITLE_WIDTH))
            axes.set_xlim(-0.6, deepest + 0.6)
            axes.set_xlabel("depth (levels below the root)")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        panels[0].set_ylabel("attempts")
        title(drawn, "Depth of the recursive trees")
        patches = [Patch(facecolor=SOLVED), Patch(facecolor=UNSOLVED, hatch=_UNSOLVED_HATCH)]
        drawn.legend(
            patches, ["solved", "not solved"], loc="outside upper right", borderaxespad=0.0, handlelength=1.6, ncols=2
        )
        note(drawn, "n: attempts. The depth is that of the deepest agent of a tree; the root's is 0.")
        return save(drawn, out, kinds)


def concurrency(attempts: Sequence[Attempt], out: Path, kinds: Sequence[Kind]) -> list[Path]:
    """The share of the launches that ran beside a sibling, by level."""
    launching = [attempt for attempt in attempts if attempt.launches]
    levels = list(dict.fromkeys(attempt.level for attempt in launching))
    counts = []
    with figure(max(4.2, 2.2 + 1.5 * len(levels)), 3.6) as drawn:
        axes = drawn.subplots()
        for at, level in enumerate(levels):
            together: dict[str, float] = {}
            launches: dict[str, float] = {}
            for each in (item for item in launching if item.level == level):
                together[each.task] = together.get(each.task, 0.0) + each.concurrent_share * each.launches
                launches[each.task] = launches.get(each.task, 0.0) + each.launches
            total = sum(launches.values())
            share = sum(together.values()) / total
            low, high = ratio_interval(list(together.values()), list(launches.values()))
            axes.bar(at, share, 0.55, color=MODES["recursive"], edgecolor=INK, linewidth=0.5)
            whiskers(axes, at, share, max(0.0, low), min(1.0, high))
            number_above(axes, at, min(1.0, high), f"{share:.0%}")
            counts.append(f"n = {total:,.0f} of\n{len(launches):,} tasks")
        by_level(axes, levels, counts)
        shares(axes)
        axes.set_ylabel("share of the launches (0 to 1)")
        title(drawn, "Launches beside a sibling")
        note(drawn, "n: launches. Whiskers: 95\u00a0% bootstrap over tasks.")
        return save(drawn, out, kinds)
