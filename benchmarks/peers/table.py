"""The tables of `python -m benchmarks.peers`: absolute values, and beside them the ratio to rao in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .measure import Peer, Process


@dataclass(frozen=True)
class Row:
    """A package and its processes for each width, or the sentence that says why there are none."""

    peer: Peer
    processes: Mapping[int, Sequence[Process]]
    memory: Mapping[int, Process]
    missing: Mapping[int, str]

    @property
    def package(self) -> str:
        """The package with the version that was measured."""
        version = next((each.version for runs in self.processes.values() for each in runs), None)
        name = self.peer.name.partition(", ")[0]
        return f"{name} {version}" if version else name

    @property
    def title(self) -> str:
        """The package, and which of its ways this is where there are several."""
        way = self.peer.name.partition(", ")[2]
        return f"{self.package}, {way}" if way else self.package

    def wall(self, count: int, solve: int) -> float | None:
        """Median wall seconds of the first (0) or second (1) solve in a process."""
        return _median([each.solves[solve].wall for each in self.processes.get(count, ())])

    def cpu(self, count: int, solve: int) -> float | None:
        """Median CPU seconds, as `wall`."""
        return _median([each.solves[solve].cpu for each in self.processes.get(count, ())])


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def fan_out(rows: Sequence[Row], counts: Sequence[int]) -> list[str]:
    """A table in Markdown: wall at every width, then CPU and memory at the largest. The first row is what ratios are to."""
    widest = max(counts)
    titles = [f"{count} children" for count in counts]
    lines = [
        _line("first / second solve in a process", *titles, f"CPU at {widest}", f"memory at {widest}"),
        _line("---", *(["---"] * (len(counts) + 2))),
    ]
    ours = rows[0]
    for row in rows:
        cells = [_pair(row, ours, count, "wall") for count in counts]
        memory, own = row.memory.get(widest), ours.memory.get(widest)
        cells.append(_pair(row, ours, widest, "cpu"))
        if memory is None:
            cells.append(row.missing.get(widest, "–"))
        else:
            cells.append(
                f"{memory.peak / 2**20:.0f} MiB" + _ratios(row, ours, [(memory.peak, own.peak if own else None)])
            )
        lines.append(_line(row.title, *cells))
    return lines


def steps(rows: Sequence[Row], count: int) -> list[str]:
    """A table in Markdown: milliseconds of wall and CPU that a step of one agent takes, in the second solve of a process."""
    lines = [_line(f"one agent of {count} steps", "wall a step", "CPU a step"), _line("---", "---", "---")]
    ours = rows[0]
    for row in rows:
        wall, cpu = row.wall(count, 1), row.cpu(count, 1)
        if wall is None or cpu is None:
            lines.append(_line(row.package, row.missing.get(count, "–"), ""))
            continue
        cells = [
            f"{value / count * 1e3:.1f} ms" + _ratios(row, ours, [(value, own)])
            for value, own in ((wall, ours.wall(count, 1)), (cpu, ours.cpu(count, 1)))
        ]
        lines.append(_line(row.package, *cells))
    return lines


def _pair(row: Row, ours: Row, count: int, what: str) -> str:
    """`1.40 / 1.10 s (×2.0 / ×3.4)`, or why there is no figure."""
    pairs = []
    for solve in (0, 1):
        value = row.wall(count, solve) if what == "wall" else row.cpu(count, solve)
        if value is None:
            return row.missing.get(count, "–")
        pairs.append((value, ours.wall(count, solve) if what == "wall" else ours.cpu(count, solve)))
    return " / ".join(f"{value:.2f}" for value, _ in pairs) + " s" + _ratios(row, ours, pairs)


def _ratios(row: Row, ours: Row, pairs: Sequence[tuple[float, float | None]]) -> str:
    """The ratios in brackets; nothing for the row that the ratios are to, or where that row has no figure."""
    if row is ours or not all(own for _, own in pairs):
        return ""
    return " (" + " / ".join(f"×{value / own:.1f}" for value, own in pairs if own) + ")"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
