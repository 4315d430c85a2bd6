"""Figures of a comparison from files of attempts: scores by task, and means with their intervals."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import numpy as np

from rao_rl import Attempt

DRAWS = 2000
Scores = Mapping[str, float]
"""Score by task."""
Figure = tuple[float, float, float]
"""A value and the bounds of its 95 % interval."""


def attempts(path: Path) -> list[Attempt]:
    """The attempts of a file of `rao eval --attempts`."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [Attempt.from_row(json.loads(line)) for line in lines]


def scores(path: Path, level: str | None = None) -> dict[str, float]:
    """The scores of a file of attempts, by task; of one level, if it is given."""
    return {each.task: each.score for each in attempts(path) if each.score is not None and level in (None, each.level)}


def interval(runs: Sequence[Scores], against: Sequence[Scores] | None = None) -> Figure:
    """Mean success over runs and tasks, and its 95 % interval; of the difference to `against`, if given.

    The interval is a bootstrap that draws seeds and tasks, each with replacement (the same tasks for both sides): it covers
    other seeds and other tasks. One seed alone gives an interval over tasks only.
    """
    sides = [runs] if against is None else [runs, against]
    tasks = sorted(set.intersection(*(set(run) for side in sides for run in side)))
    rng = random.Random(0)
    tables = [np.array([[run[task] for task in tasks] for run in side]) for side in sides]  # runs x tasks

    def figure(seeds: Sequence[Sequence[int]], drawn: Sequence[int]) -> float:
        means = [float(table[np.ix_(each, drawn)].mean()) for table, each in zip(tables, seeds, strict=True)]
        return means[0] - means[1] if len(means) == 2 else means[0]

    everything = [range(len(side)) for side in sides]
    draws = sorted(
        figure([rng.choices(each, k=len(each)) for each in everything], rng.choices(range(len(tasks)), k=len(tasks)))
        for _ in range(DRAWS)
    )
    return figure(everything, range(len(tasks))), draws[int(0.025 * DRAWS)], draws[int(0.975 * DRAWS) - 1]


def paired(differences: Sequence[float]) -> Figure:
    """The mean of differences paired by task, and Bonett and Price's 95 % interval, which `rao eval --compare` gives too."""
    n = len(differences) + 2
    middle = sum(differences) / n
    half = 1.959964 * math.sqrt(((sum(each * each for each in differences) + 2) / n - middle * middle) / n)
    return mean(differences), max(-1.0, middle - half), min(1.0, middle + half)


def shown(figures: Figure, *, sign: bool = False) -> str:
    """A figure as a cell of a table: `0.500 (0.40 to 0.60)`."""
    value, low, high = figures
    plus = "+" if sign else ""
    return f"{value:{plus}.3f} ({low:{plus}.2f} to {high:{plus}.2f})"


def spent(metrics: Path, budget: int) -> tuple[int, float]:
    """Updates of a run, and tokens in all (prompts and samples), until it had sampled `budget` tokens."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    before, within = 0.0, []
    for row in rows:
        if "rao/batch" in row and before < budget:
            within.append(row)
            before = row["rao/generated_tokens"]
    return sum("loss" in row for row in within), max((row["rao/total_tokens"] for row in within), default=0.0)
