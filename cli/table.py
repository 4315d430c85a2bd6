"""The tables of `rao eval`, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from rao_rl.evaluation.compare import Difference, between_modes
from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.summary import Summary, overall, summarize
from recursive_agent.limits import Prices

from .text import count

NONE = "–"
"""Stands for a figure that no attempt gives."""


def tables(
    attempts: Sequence[Attempt], title: str, *, concurrency: int, prices: Prices | None = None
) -> list[Table | Text]:
    """What all attempts came to, and how the modes compare on the tasks that each of them solves."""
    total = overall(attempts, prices)
    summaries = by_level(attempts, prices)
    between = between_modes(attempts)
    parts: list[Table | Text] = [
        _results(summaries, title),
        _notes(
            "tokens: prompts and answers · critical: the longest chain of steps that wait",
            f"for each other · means of all attempts · 95 %: {_method(summaries)}",
            *_timeouts(total),
            *([f"without a score, and not counted: {unscored:,}"] if (unscored := _unscored(attempts)) else []),
        ),
        *([_repeats(summaries)] if any(item.repeats > 1 for item in summaries) else []),
        *([_metrics(summaries, names)] if (names := _metric_names(summaries)) else []),
        _trees(summaries),
        _notes(
            "depth: least–greatest, mean of the solved trees · together: share of launches",
            "that ran beside a sibling · tokens/solved: tokens of all attempts per success",
        ),
        _common(summaries),
        _notes(f"seconds: wall time of a tree, {count(concurrency, 'tree')} at a time"),
        *([difference_table(between, "From single to recursive, on the same tasks", modes=False)] if between else []),
        *([_notes(*DIFFERENCE_NOTES)] if between else []),
    ]
    spaced: list[Table | Text] = []
    for part in parts:  # a blank line before each table; notes stand under theirs
        spaced += [part] if isinstance(part, Text) or not spaced else [Text(), part]
    return spaced


def by_level(attempts: Sequence[Attempt], prices: Prices | None = None) -> list[Summary]:
    """A summary for each level and mode, then over all levels if there are several; the modes of a level stand together."""
    summaries = summarize(attempts, prices)
    if len({item.level for item in summaries}) > 1:
        summaries += overall(attempts, prices)
    order = list(dict.fromkeys(item.level for item in summaries))
    return sorted(summaries, key=lambda item: order.index(item.level))


DIFFERENCE_NOTES = (
    "95 %: Bonett and Price's paired interval · p: exact paired permutation test over",
    "tasks · better, worse: tasks whose score rose, or fell",
)


def difference_table(differences: Sequence[Difference], title: str, *, modes: bool = True) -> Table:
    """Differences with their intervals and tests; `modes`: say in which mode each is."""
    named = ["level", *(["mode"] if modes else [])]
    table = _table(title, *named, "tasks", "from", "to", "change (95 %)", "better", "worse", "p")
    for item in differences:
        change = NONE
        if item.difference is not None:
            change = f"{item.difference:+.3f} ({item.low:+.2f} to {item.high:+.2f})".replace("-", "−")
        table.add_row(
            item.level,
            *([_short(item.mode)] if modes else []),
            str(item.tasks),
            _figure(item.first, 2),
            _figure(item.second, 2),
            change,
            str(item.better),
            str(item.worse),
            "<0.001" if item.p < 0.001 else f"{item.p:.3f}",
        )
    return table


def _short(mode: str) -> str:
    """Two modes in the width of one."""
    return mode.replace("single", "sgl").replace("recursive", "rec") if " " in mode else mode


def _results(summaries: Sequence[Summary], title: str) -> Table:
    priced = any(item.cost is not None for item in summaries)
    columns = ["level", "mode", "tasks", "success (95 %)", "steps", "critical", "tokens", *(["cost"] if priced else [])]
    table = _table(title, *columns)
    for item in summaries:
        cells = [
            item.level,
            item.mode,
            str(item.tasks),
            NONE if item.success is None else f"{item.success:.3f} ({item.low:.2f}–{item.high:.2f})",
            _figure(item.steps, 1),
            _figure(item.critical_steps, 1),
            _figure(item.total_tokens),
        ]
        table.add_row(*cells, *([NONE if item.cost is None else f"{item.cost:.4g}"] if priced else []))
    return table


def _repeats(summaries: Sequence[Summary]) -> Table:
    table = _table("Repeats", "level", "mode", "repeats", "pass@1", "least", "greatest", "deviation")
    for item in summaries:
        table.add_row(
            item.level,
            item.mode,
            str(item.repeats),
            _figure(item.success, 3),
            _figure(item.repeat_low, 3),
            _figure(item.repeat_high, 3),
            _figure(item.repeat_deviation, 3),
        )
    return table


def _metrics(summaries: Sequence[Summary], names: Sequence[str]) -> Table:
    table = _table("Further figures of the environment (means over tasks)", "level", "mode", *names)
    for item in summaries:
        table.add_row(item.level, item.mode, *(_figure(item.metrics.get(name), 3) for name in names))
    return table


def _trees(summaries: Sequence[Summary]) -> Table:
    table = _table("Trees", "level", "mode", "agents", "depth", "launches", "together", "tokens/solved")
    for item in summaries:
        table.add_row(
            item.level,
            item.mode,
            _figure(item.agents, 1),
            _depths(item),
            str(item.launches),
            _figure(item.concurrent_share, 2),
            _figure(item.total_tokens_per_solved),
        )
    return table


def _common(summaries: Sequence[Summary]) -> Table:
    both = len({item.mode for item in summaries}) > 1
    title, share = (
        ("Means of the tasks that both modes solve", "both solve") if both else ("Means of the tasks solved", "solved")
    )
    table = _table(title, "level", "mode", share, "steps", "critical", "tokens", "seconds")
    for item in summaries:
        table.add_row(
            item.level,
            item.mode,
            f"{item.common} of {item.tasks}",
            _figure(item.common_steps, 1),
            _figure(item.common_critical_steps, 1),
            _figure(item.common_total_tokens),
            _figure(item.common_seconds, 1),
        )
    return table


def _timeouts(totals: Sequence[Summary]) -> list[str]:
    return [
        f"{item.mode}: --timeout ended attempts at {count(item.timed_out, 'task')}; had all of them failed or been"
        f"\nsolved, the success would be {_figure(item.success_if_failed, 3)} or {_figure(item.success_if_solved, 3)}"
        for item in totals
        if item.timed_out
    ]


def _method(summaries: Sequence[Summary]) -> str:
    methods = {item.interval for item in summaries}
    names = [name for method, name in (("wilson", "Wilson's"), ("t", "Student's t")) if method in methods]
    return f"{' or '.join(names)}, over tasks"


def _metric_names(summaries: Sequence[Summary]) -> list[str]:
    return list(dict.fromkeys(name for item in summaries for name in item.metrics))


def _notes(*lines: str) -> Text:
    return Text("\n".join(lines), style="dim")


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
