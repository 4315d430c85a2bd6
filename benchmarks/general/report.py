"""The figures: success by kind with intervals, and a paired comparison of two results."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import comb
from pathlib import Path
from statistics import mean, stdev

from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.summary import wilson

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
    low, high = wilson(sum(shares.values()), len(shares))
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
    """The share of the attempts at each task that solve it. Attempts without a score (a failed endpoint) are left out."""
    scores: dict[str, list[float]] = defaultdict(list)
    for attempt in attempts:
        if attempt.score is not None:
            scores[attempt.task.rpartition("@")[0]].append(attempt.score)
    return {task: mean(found) for task, found in scores.items()}


def read(path: Path) -> list[Attempt]:
    """The attempts of a file that `--out` wrote."""
    lines = path.read_text().splitlines()[1:]
    return [Attempt.from_row(json.loads(line)) for line in lines]


def sign_test(better: int, worse: int) -> float:
    """Two-sided exact p of a sign test; with one attempt a task this is McNemar's exact test."""
    n, k = better + worse, min(better, worse)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n) if n else 1.0


def permutation_test(differences: Sequence[float]) -> float:
    """Two-sided exact p of the paired permutation test: how often sums as large come from differences of random sign.

    Unlike the sign test it counts how much a task changed. Differences are taken in steps of 1/5040, which holds every share
    of up to ten attempts.
    """
    steps = [abs(round(5040 * difference)) for difference in differences]
    observed = abs(sum(round(5040 * difference) for difference in differences))
    sums = {0: 1}
    for step in steps:
        if step:
            grown: dict[int, int] = defaultdict(int)
            for total, ways in sums.items():
                grown[total + step] += ways
                grown[total - step] += ways
            sums = grown
    return sum(ways for total, ways in sums.items() if abs(total) >= observed) / sum(sums.values())


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
    differences = [after[task] - before[task] for task in before]
    better = [task for task in before if after[task] > before[task]]
    worse = [task for task in before if after[task] < before[task]]
    if not common:
        return "no attempt is in both files"
    change = mean(differences)
    error = 1.96 * stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("inf")
    return (
        f"{len(common)} attempts at {len(before)} tasks: {mean(before.values()):.3f} -> {mean(after.values()):.3f}\n"
        f"change {change:+.3f} (95 %: {change - error:+.3f} to {change + error:+.3f}), "
        f"p = {permutation_test(differences):.4f} (exact paired permutation test over tasks)\n"
        f"better on {len(better)} tasks, worse on {len(worse)}: p = {sign_test(len(better), len(worse)):.4f} "
        f"(exact sign test over tasks)\nbetter: {', '.join(sorted(better)) or '-'}\nworse: {', '.join(sorted(worse)) or '-'}"
    )
