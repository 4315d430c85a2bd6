"""The tables of `rao eval`, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.summary import Summary, overall, summarize

from .text import count

NONE = "–"
"""Stands for a figure that no attempt gives."""


def tables(attempts: Sequence[Attempt], title: str, *, concurrency: int) -> list[Table | Text]:
    """What all attempts came to, and how the modes compare on the tasks that each of them solves."""
    summaries = summarize(attempts)
    if len({item.level for item in summaries}) > 1:
        summaries += overall(attempts)
    order = list(dict.fromkeys(item.level for item in summaries))
    summaries.sort(key=lambda item: order.index(item.level))  # the modes of one level stand together
    notes = [
        "agents, tokens (generated): means of all tasks · /solved: tokens of all tasks",
        "for each one solved · depth: least–greatest, mean of the solved trees",
        "par: share of all launches that ran beside a sibling",
        *([f"unscored, and left out of the success: {unscored:,}"] if (unscored := _unscored(attempts)) else []),
    ]
    note = f"seconds: wall time of a tree, {count(concurrency, 'tree')} at a time"
    return [
        _results(summaries, title),
        Text("\n".join(notes), style="dim"),
        Text(),
        _common(summaries),
        Text(note, style="dim"),
    ]


def _results(summaries: Sequence[Summary], title: str) -> Table:
    table = _table(title, "level", "mode", "tasks", "success (95 %)", "agents", "depth", "par", "tokens", "/solved")
    for item in summaries:
        table.add_row(
            item.level,
            item.mode,
            str(item.tasks),
            NONE if item.success is None else f"{item.success:.3f} ({item.low:.2f}–{item.high:.2f})",
            f"{item.agents:.0f}",
            _depths(item),
            _figure(item.concurrent_share, 2),
            f"{item.completion_tokens:.0f}",
            _figure(item.tokens_per_solved),
        )
    return table


def _common(summaries: Sequence[Summary]) -> Table:
    both = len({item.mode for item in summaries}) > 1
    title, share = (
        ("Means of the tasks that both modes solve", "both solve") if both else ("Means of the tasks solved", "solved")
    )
    table = _table(title, "level", "mode", share, "steps", "seconds", "tokens")
    for item in summaries:
        table.add_row(
            item.level,
            item.mode,
            f"{item.common} of {item.tasks}",
            _figure(item.common_steps),
            _figure(item.common_seconds, 1),
            _figure(item.common_tokens),
        )
    return table


def _unscored(attempts: Sequence[Attempt]) -> int:
    return sum(attempt.score is None for attempt in attempts)


def _depths(item: Summary) -> str:
    if item.solved_depth is None:
        return NONE
    if item.solved_depth_low == item.solved_depth_high:
        return str(item.solved_depth_low)
    return f"{item.solved_depth_low}–{item.solved_depth_high}, {item.solved_depth:.1f}"


def _figure(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for name in columns:
        table.add_column(name, no_wrap=True, justify="left" if name in ("level", "mode") else "right")
    return table
