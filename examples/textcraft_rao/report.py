"""The tables and curves of the comparison, from the files that `campaign.py` wrote.

    python -m examples.textcraft_rao.report [RESULTS] [--collect RUNS] [--plots]

`--collect` first copies the test attempts and the metrics of the runs in RUNS to RESULTS. The table is computed from these
files alone; `python -m examples.tables` writes it into the README.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from examples.textcraft_rao.campaign import ARMS, BUDGETS, LEVELS, TEMPERATURE
from rao_rl import Attempt, learning_curves

RESULTS = Path(__file__).parent / "results"
DRAWS = 2000
SHOWN = {"reward": "root success while training", "entropy": "entropy (nats a token)"}

Scores = Mapping[str, float]
"""Score by task."""


def scores(path: Path, level: str | None = None) -> dict[str, float]:
    """The scores of a file of test attempts, by task."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    attempts = [Attempt.from_row(json.loads(line)) for line in lines]
    return {each.task: each.score for each in attempts if each.score is not None and level in (None, each.level)}


def runs_of(results: Path, arm: str, budget: int) -> list[Path]:
    """The test attempts of an arm after `budget` sampled tokens, a file for each seed."""
    return sorted(results.glob(f"{arm}-[0-9]/test-{budget}.jsonl"))


def interval(runs: Sequence[Scores], against: Sequence[Scores] | None = None) -> tuple[float, float, float]:
    """Mean success over runs and tasks, and its 95 % interval; of the difference to `against`, if given.

    The interval is a bootstrap that draws seeds and tasks, each with replacement (the same tasks for both sides): it covers
    other seeds and other tasks. One seed alone gives an interval over tasks only.
    """
    sides = [runs] if against is None else [runs, against]
    tasks = sorted(set.intersection(*(set(run) for side in sides for run in side)))
    rng = random.Random(0)

    def figure(chosen: Sequence[Sequence[Scores]], drawn: Sequence[str]) -> float:
        means = [mean(run[task] for run in side for task in drawn) for side in chosen]
        return means[0] - means[1] if len(means) == 2 else means[0]

    draws = sorted(
        figure([rng.choices(side, k=len(side)) for side in sides], rng.choices(tasks, k=len(tasks)))
        for _ in range(DRAWS)
    )
    return figure(sides, tasks), draws[int(0.025 * DRAWS)], draws[int(0.975 * DRAWS) - 1]


def spent(results: Path, arm: str, budget: int) -> tuple[float, float]:
    """Updates, and tokens in all (prompts and samples, in thousands), until `budget` sampled tokens; means over seeds."""
    updates, tokens = [], []
    for path in runs_of(results, arm, budget):
        rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        before = 0.0
        within = []
        for row in rows:
            if "rao/batch" in row and before < budget:
                within.append(row)
                before = row["rao/generated_tokens"]
        updates.append(sum("loss" in row for row in within))
        tokens.append(max((row["rao/total_tokens"] for row in within), default=0.0) / 1000)
    return mean(updates), mean(tokens)


def _shown(figures: tuple[float, float, float], sign: bool = False) -> str:
    value, low, high = figures
    plus = "+" if sign else ""
    return f"{value:{plus}.3f} ({low:{plus}.2f} to {high:{plus}.2f})"


def table(results: Path) -> list[str]:
    """The rows that need no training, then every arm after each budget, and its difference to `rao`."""
    lines = [
        f"| policy | seeds | updates | tokens in all | {' | '.join(LEVELS)} | both | both, less `rao` |",
        "|" + " --- |" * (len(LEVELS) + 6),
    ]
    ceiling = json.loads((results / "ceiling.json").read_text(encoding="utf-8"))
    most = {level: ceiling[level]["within"]["2048"] / ceiling[level]["tasks"] for level in LEVELS}
    shares = " | ".join(f"{most[level]:.3f}" for level in LEVELS)
    lines.append(f"| reference solver, alone | | | | {shares} | {mean(most.values()):.3f} | |")
    for path in sorted((results / "start").glob("test-*.jsonl")):
        mode, temperature = path.stem.split("-")[1:]
        cells = [_shown(interval([scores(path, level)])) for level in (*LEVELS, None)]
        lines.append(f"| start, {mode}, T = {temperature} | | 0 | | {' | '.join(cells)} | |")
    for budget in BUDGETS:
        rao = [scores(path) for path in runs_of(results, "rao", budget)]
        for arm in ARMS:
            if not (paths := runs_of(results, arm, budget)):
                continue
            cells = [_shown(interval([scores(path, level) for path in paths])) for level in (*LEVELS, None)]
            less = _shown(interval([scores(path) for path in paths], rao), sign=True) if arm != "rao" and rao else ""
            updates, tokens = spent(results, arm, budget)
            cells = [
                f"`{arm}`, {budget // 1000}k sampled",
                str(len(paths)),
                f"{updates:.0f}",
                f"{tokens:,.0f}k",
                *cells,
                less,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def short_table(results: Path) -> list[str]:
    """Start and end of both ways of working, for a reader in a hurry."""
    lines = ["| test tasks solved | seeds | easy | medium | tokens in all |", "| --- | --- | --- | --- | --- |"]
    for arm, words in (("rao", "with sub-agents"), ("single", "one agent alone")):
        mode = "recursive" if arm == "rao" else "single"
        start = results / "start" / f"test-{mode}-{TEMPERATURE:g}.jsonl"
        cells = [_shown(interval([scores(start, level)])) for level in LEVELS]
        lines.append(f"| {words}, before | | {' | '.join(cells)} | |")
        paths = runs_of(results, arm, BUDGETS[-1])
        if paths:
            cells = [_shown(interval([scores(path, level) for path in paths])) for level in LEVELS]
            tokens = spent(results, arm, BUDGETS[-1])[1]
            lines.append(f"| {words}, trained | {len(paths)} | {' | '.join(cells)} | {tokens:,.0f}k |")
    return lines


def collect(runs: Path, results: Path) -> None:
    """Copy what the tables need of every run."""
    for path in sorted(runs.glob("*/test-*.jsonl")):
        target = results / path.parent.name / path.name
        whole = path.parent.name == "start" or path.with_suffix(".done").exists()
        if not whole:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        metrics = path.parent / "policy" / "metrics.jsonl"
        if path.parent.name != "start":
            shutil.copy(metrics, target.parent / "metrics.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--collect", type=Path, metavar="RUNS")
    parser.add_argument("--plots", action="store_true")
    given = parser.parse_args()
    if given.collect:
        collect(given.collect, given.results)
    print("\n".join(table(given.results)))
    if given.plots:
        found: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(given.results.glob("*-[0-9]/metrics.jsonl")):
            found[path.parent.name.rpartition("-")[0]].append(path)
        learning_curves(found, given.results / "curves-tokens.png", "tokens", metrics=SHOWN)
        learning_curves(found, given.results / "curves-steps.png", "step", metrics=SHOWN)


if __name__ == "__main__":
    main()
