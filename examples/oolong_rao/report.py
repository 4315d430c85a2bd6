"""The tables of the comparison, from the files that `campaign.py` wrote.

    python -m examples.oolong_rao.report [RESULTS] [--collect RUNS]

`--collect` first copies the test attempts and the metrics of the runs in RUNS to RESULTS. The tables are computed from these
files alone; `python -m examples.tables` writes them into the README.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from examples.figures import Scores, attempts, interval, shown
from examples.oolong_rao.campaign import ARMS, CONTEXT_LIMIT, TASKS
from rao_rl import Attempt, summarize

RESULTS = Path(__file__).parent / "results"
WORDS = {
    "print-recursive": "all lines read, with sub-agents",
    "code-recursive": "any code, with sub-agents",
    "code-single": "any code, one agent alone",
}
_NONE = "–"

Cells = list[str]


def table(results: Path) -> list[str]:
    """Success by length, for the start and after RAO; one line for each arm, temperature and stage."""
    rows: list[Cells] = []
    for arm in ARMS:
        for stage in stages(results, arm):
            for temperature in ("0.7", "0"):
                cells = [_success(files(results, arm, stage, level, temperature)) for level in TASKS]
                if any(cell != _NONE for cell in cells):
                    rows.append([f"{WORDS[arm]}: {_stage(stage)}", temperature, *cells])
    return _lines(["answers count by; agents; policy", "T", *TASKS], rows)


def differences(results: Path) -> list[str]:
    """What RAO changed, on the same tasks, by length; greedy, and sampled as in training."""
    rows: list[Cells] = []
    for arm in ARMS:
        for stage in stages(results, arm):
            for temperature in ("0.7", "0"):
                pairs = {level: _paired(results, arm, stage, level, temperature) for level in TASKS}
                if stage == "start" or not any(pairs.values()):
                    continue
                cells = [shown(interval(*pair), sign=True) if pair else _NONE for pair in pairs.values()]
                rows.append([f"{WORDS[arm]}: {_stage(stage)}, less the start", temperature, *cells])
    return _lines(["difference", "T", *TASKS], rows)


def effort(results: Path) -> list[str]:
    """What an attempt of the last policy of each arm took, by length: greedy attempts."""
    rows: list[Cells] = []
    for arm in ARMS:
        for level in TASKS:
            found = (
                list(_all(files(results, arm, stages(results, arm)[-1], level, "0"))) if stages(results, arm) else []
            )
            if not found:
                continue
            (item,) = summarize(found)
            share = _NONE if item.concurrent_share is None else f"{item.concurrent_share:.3f}"
            critical = _NONE if item.critical_steps is None else f"{item.critical_steps:.1f}"
            rows.append(
                [
                    WORDS[arm],
                    level,
                    str(item.attempts),
                    f"{item.agents:,.0f}",
                    f"{item.depth:.1f}",
                    f"{item.completion_tokens:,.0f}",
                    f"{item.total_tokens:,.0f}",
                    f"{item.steps:,.0f}",
                    critical,
                    share,
                    f"{item.seconds:,.1f}",
                ]
            )
    heads = ["answers count by; agents", "length", "attempts", "agents", "depth", "sampled tokens", "tokens in all"]
    return _lines([*heads, "model calls", "critical steps", "concurrent launches", "seconds"], rows)


def stages(results: Path, arm: str) -> list[str]:
    """The stages of an arm that were evaluated: the start, then each budget of sampled tokens."""
    return [
        stage
        for stage in ("start", *(f"rao{budget}" for budget in ARMS[arm].budgets))
        if list(results.glob(f"{arm}-[0-9]/{stage}-*.jsonl"))
    ]


def files(results: Path, arm: str, stage: str, level: str, temperature: str) -> list[Path]:
    """The attempts of an arm at a stage, one file for each seed."""
    return sorted(results.glob(f"{arm}-[0-9]/{stage}-{level}-T{temperature}.jsonl"))


def _scores(paths: Sequence[Path]) -> list[Scores]:
    return [{each.task: each.score for each in attempts(path) if each.score is not None} for path in paths]


def _paired(
    results: Path, arm: str, stage: str, level: str, temperature: str
) -> tuple[list[Scores], list[Scores]] | None:
    after = files(results, arm, stage, level, temperature)
    before = [path for run in after if (path := run.with_name(run.name.replace(stage, "start", 1))).exists()]
    return (_scores(after), _scores(before)) if after and len(before) == len(after) else None


def _success(paths: Sequence[Path]) -> str:
    return shown(interval(_scores(paths))) if paths else _NONE


def _all(paths: Sequence[Path]) -> Iterator[Attempt]:
    for path in paths:
        yield from attempts(path)


def _stage(stage: str) -> str:
    return "start" if stage == "start" else f"RAO, {int(stage.removeprefix('rao')) // 1000}k sampled"


def _lines(heads: Cells, rows: Sequence[Cells]) -> list[str]:
    if not rows:
        return ["*(No results yet: the campaign has not come so far.)*"]
    return [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads), *(f"| {' | '.join(row)} |" for row in rows)]


def training(results: Path) -> list[str]:
    """What RAO took and how success went while training, for each run."""
    rows: list[Cells] = []
    for path in sorted(results.glob("*-[0-9]/metrics.jsonl")):
        arm, _, seed = path.parent.name.rpartition("-")
        steps = [row for line in path.read_text(encoding="utf-8").splitlines() if "reward" in (row := json.loads(line))]
        if not steps:
            continue
        third = max(1, len(steps) // 3)
        rows.append(
            [
                WORDS[arm],
                seed,
                str(sum("loss" in row for row in steps)),
                f"{max(row['rao/generated_tokens'] for row in steps) / 1000:,.0f}k",
                f"{max(row['rao/total_tokens'] for row in steps) / 1000:,.0f}k",
                f"{mean(row['reward'] for row in steps[:third]):.3f}",
                f"{mean(row['reward'] for row in steps[-third:]):.3f}",
            ]
        )
    heads = ["answers count by; agents", "seed", "updates", "sampled tokens", "tokens in all"]
    return _lines([*heads, "mean root score, first third", "last third"], rows)


def reference(results: Path) -> list[str]:
    """What the reference solver needs, with sub-agents and alone, and whether that is within the cap."""
    found = json.loads((results / "reference.json").read_text(encoding="utf-8"))
    rows = [
        [
            words,
            level,
            f"{item['tasks']:.0f}",
            f"{item['score']:.3f}",
            f"{item['agents']:,.0f}",
            f"{item['longest']:,.0f}",
            "yes" if item["longest"] <= CONTEXT_LIMIT else "no",
            f"{item['sampled']:,.0f}",
            f"{item['total']:,.0f}",
            f"{item['critical_steps']:.1f}",
            f"{item['concurrent']:.3f}" if item["agents"] > 1 else _NONE,
        ]
        for arm, words in {**WORDS, "print-single": "all lines read, one agent alone"}.items()
        for level, item in found.get(arm, {}).items()
    ]
    heads = ["answers count by; agents", "length", "tasks", "score", "agents", "longest conversation", "within the cap"]
    return _lines([*heads, "sampled tokens", "tokens in all", "critical steps", "concurrent launches"], rows)


def collect(runs: Path, results: Path) -> None:
    """Copy what the tables need of every run: whole evaluations, and the metrics."""
    for done in sorted(runs.glob("*-[0-9]/*-T*.done")):
        target = results / done.parent.name / done.with_suffix(".jsonl").name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(done.with_suffix(".jsonl"), target)
    for metrics in sorted(runs.glob("*-[0-9]/policy/metrics.jsonl")):
        if (target := results / metrics.parents[1].name).is_dir():
            shutil.copy(metrics, target / "metrics.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--collect", type=Path, metavar="RUNS")
    given = parser.parse_args()
    if given.collect:
        collect(given.collect, given.results)
    made = (
        table,
        differences,
        training,
        effort,
        *([reference] if (given.results / "reference.json").is_file() else []),
    )
    for make in made:
        print("\n".join(make(given.results)), end="\n\n")


if __name__ == "__main__":
    main()
