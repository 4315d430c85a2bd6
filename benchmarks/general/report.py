"""The figures: success by kind with intervals, and a paired comparison of two results."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from rao_rl.evaluation import compare as tasks
from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.results import read_results
from rao_rl.evaluation.statistics import interval, paired_interval, permutation_test, sign_test

_HEAD = ("kind", "n", "solved", "95 %", "steps", "prompt", "sampled", "launched", "statuses")


def table(attempts: Sequence[Attempt]) -> str:
    """A row for each kind and one for all. Attempts at one task are not independent, so intervals count tasks."""
    kinds: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        kinds[attempt.level].append(attempt)
    rows = [_HEAD, *(_row(kind, group) for kind, group in kinds.items()), _row("all", attempts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(kind: str, group: Sequence[Attempt]) -> tuple[str, ...]:
    shares = by_task(group)
    low, high, _ = interval(list(shares.values()))
    return (
        kind,
        str(len(group)),
        f"{mean(shares.values()) if shares else 0:.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{mean(a.steps for a in group):.1f}",
        f"{mean(a.prompt_tokens for a in group):,.0f}",
        f"{mean(a.completion_tokens for a in group):,.0f}",
        str(sum(a.launches for a in group)),
        ", ".join(f"{status} {count}" for status, count in Counter(a.status for a in group).most_common()),
    )


def by_task(attempts: Iterable[Attempt]) -> dict[str, float]:
    """The mean score of each task over its seeds, which its attempts are named by: `lists/a@0`, `lists/a@1`."""
    return tasks.by_task(replace(attempt, task=attempt.task.rpartition("@")[0]) for attempt in attempts)


def read(path: Path) -> list[Attempt]:
    """The attempts of a file that `--out` wrote. Raises ConfigurationError for another file."""
    return read_results(path).attempts


def delegations(attempts: Sequence[Attempt], asked: Mapping[str, int]) -> str:
    """In how many of the attempts whose goal asks for sub-agents (`asked`: how many, by task) as many were launched."""
    due = [(attempt.launches, asked.get(attempt.task.rpartition("@")[0], 0)) for attempt in attempts]
    due = [(launched, wanted) for launched, wanted in due if wanted]
    done = sum(launched >= wanted for launched, wanted in due)
    return f"sub-agents launched where the goal asks for them: {done} of {len(due)} attempts"


def comparison(first: Sequence[Attempt], second: Sequence[Attempt]) -> str:
    """Both on the attempts that they have in common, paired by task."""
    common = {a.task for a in first if a.score is not None} & {a.task for a in second if a.score is not None}
    before = by_task(a for a in first if a.task in common)
    after = by_task(a for a in second if a.task in common)
    if not common:
        return "no attempt is in both files"
    differences = [after[task] - before[task] for task in before]
    better = [task for task in before if after[task] > before[task]]
    worse = [task for task in before if after[task] < before[task]]
    low, high = paired_interval(differences)
    return (
        f"{len(common)} attempts at {len(before)} tasks: {mean(before.values()):.3f} -> {mean(after.values()):.3f}\n"
        f"change {mean(differences):+.3f} (95 %: {low:+.3f} to {high:+.3f}), "
        f"p = {permutation_test(differences):.4f} (exact paired permutation test over tasks)\n"
        f"better on {len(better)} tasks, worse on {len(worse)}: p = {sign_test(len(better), len(worse)):.4f} "
        f"(exact sign test over tasks)\nbetter: {', '.join(sorted(better)) or '-'}\nworse: {', '.join(sorted(worse)) or '-'}"
    )
