"""The tables and curves of the comparison, from the files that `campaign.py` wrote.

    python -m examples.textcraft_rao.report [RESULTS] [--collect RUNS] [--plots]

`--collect` first copies the test attempts and the metrics of the runs in RUNS to RESULTS. The table is computed from these
files alone; `python -m examples.tables` writes it into the README.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from pathlib import Path
from statistics import mean

from examples import figures
from examples.figures import interval, scores, shown
from examples.textcraft_rao.campaign import ARMS, BUDGETS, LEVELS, TEMPERATURE
from rao_rl import learning_curves, summarize

RESULTS = Path(__file__).parent / "results"
SHOWN = ("reward", "entropy")


def runs_of(results: Path, arm: str, budget: int) -> list[Path]:
    """The test attempts of an arm after `budget` sampled tokens, a file for each seed."""
    return sorted(results.glob(f"{arm}-[0-9]/test-{budget}.jsonl"))


def spent(results: Path, arm: str, budget: int) -> tuple[float, float]:
    """Updates, and tokens in all (prompts and samples, in thousands), until `budget` sampled tokens; means over seeds."""
    runs = [figures.spent(path.parent / "metrics.jsonl", budget) for path in runs_of(results, arm, budget)]
    return mean(updates for updates, _ in runs), mean(tokens for _, tokens in runs) / 1000


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
        cells = [shown(interval([scores(path, level)])) for level in (*LEVELS, None)]
        lines.append(f"| start, {mode}, T = {temperature} | | 0 | | {' | '.join(cells)} | |")
    for budget in BUDGETS:
        rao = [scores(path) for path in runs_of(results, "rao", budget)]
        for arm in ARMS:
            if not (paths := runs_of(results, arm, budget)):
                continue
            cells = [shown(interval([scores(path, level) for path in paths])) for level in (*LEVELS, None)]
            less = shown(interval([scores(path) for path in paths], rao), sign=True) if arm != "rao" and rao else ""
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
        cells = [shown(interval([scores(start, level)])) for level in LEVELS]
        lines.append(f"| {words}, before | | {' | '.join(cells)} | |")
        paths = runs_of(results, arm, BUDGETS[-1])
        if paths:
            cells = [shown(interval([scores(path, level) for path in paths])) for level in LEVELS]
            tokens = spent(results, arm, BUDGETS[-1])[1]
            lines.append(f"| {words}, trained | {len(paths)} | {' | '.join(cells)} | {tokens:,.0f}k |")
    return lines


def hard_table(results: Path) -> list[str]:
    """The built-in policy at all hard test tasks."""
    found = figures.attempts(results / "built-in" / "hard.jsonl")
    (summary,) = summarize(found)
    agents, depths = [each.agents for each in found], [each.depth for each in found]
    cells = [
        str(len(found)),
        shown((summary.success or 0.0, summary.low, summary.high)),
        f"{mean(agents):.0f} ({min(agents)} to {max(agents):,})",
        f"{min(depths)} to {max(depths)}",
        f"{mean(each.critical_steps or 0 for each in found):.1f}",
        str(sum(each.status != "finished" for each in found)),
    ]
    return [
        "| tasks | success | agents | depth | critical steps | attempts that a limit or an error ended |",
        "|" + " --- |" * 6,
        f"| {' | '.join(cells)} |",
    ]


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
    if (given.results / "built-in").is_dir():
        print("\n".join(hard_table(given.results)))
    if given.plots:
        found: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(given.results.glob("*-[0-9]/metrics.jsonl")):
            found[path.parent.name.rpartition("-")[0]].append(path)
        learning_curves(found, given.results / "curves-tokens.png", "tokens", metrics=SHOWN)
        learning_curves(found, given.results / "curves-steps.png", "step", metrics=SHOWN)


if __name__ == "__main__":
    main()
