"""The tables of where delegation pays, from the files that campaigns wrote.

    python -m examples.delegation.report [RESULTS] [--collect RUNS]

`--collect` first copies the test attempts and the metrics of the runs in RUNS to RESULTS. Tables are computed from these files
and from the results of the other examples; `python -m examples.tables` writes them into the documents.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from examples import figures
from examples.delegation.comparisons import Comparison, all_comparisons
from examples.delegation.specs import MODES, SPECS
from examples.figures import Figure, Scores
from rao_rl import Attempt, Summary, summarize
from rao_rl.envs import Mode

RESULTS = Path(__file__).parent / "results"
REFERENCE = "reference.json"
"""What benchmarks/delegation_reference.py measured."""


def success(runs: Sequence[Sequence[Attempt]]) -> Figure:
    """Mean score and its 95 % interval: Wilson's of one seed, a bootstrap over seeds and tasks of several."""
    if len(runs) > 1:
        return figures.interval([scores(run) for run in runs])
    (found,) = summaries(runs[0]).values()
    return found.success or 0.0, found.low, found.high


def difference(runs: Sequence[Sequence[Attempt]], against: Sequence[Sequence[Attempt]]) -> Figure:
    """Difference of the mean scores, paired by task, and its 95 % interval: Bonett and Price's of one seed, else bootstrap."""
    one, other = [scores(run) for run in runs], [scores(run) for run in against]
    if len(one) > 1 or len(other) > 1:
        return figures.interval(one, other)
    return figures.paired([one[0][task] - other[0][task] for task in one[0] if task in other[0]])


def scores(run: Sequence[Attempt]) -> Scores:
    """Score by task of one run, which attempts each task once."""
    return {each.task: each.score for each in run if each.score is not None}


def summaries(attempts: Sequence[Attempt]) -> Mapping[Mode, Summary]:
    """What `rao eval` reports of attempts, over all their levels, by mode."""
    return {each.mode: each for each in summarize([replace(one, level="all") for one in attempts])}


def after_training(comparison: Comparison) -> Mapping[Mode, Summary]:
    """The summaries of the attempts of all seeds after training."""
    return summaries([each for mode in MODES for run in comparison.runs[mode] for each in run])


def tokens(comparison: Comparison, mode: Mode) -> str:
    """Tokens in all of one training run, mean over seeds."""
    found = [figures.spent(path, comparison.budget)[1] for path in comparison.metrics[mode] if path.exists()]
    return f"{mean(found) / 1000:,.0f}k" if found else ""


def short_table(comparisons: Sequence[Comparison] | None = None) -> list[str]:
    """Success after training and the difference, for a reader in a hurry."""
    lines = [
        "| environment | levels | seeds x tasks | single | recursive | recursive − single | tokens in all, single / recursive "
        "| launches beside a sibling | seconds, single / recursive |",
        "|" + " --- |" * 9,
    ]
    for each in all_comparisons() if comparisons is None else comparisons:
        single, recursive = each.runs["single"], each.runs["recursive"]
        lines.append(
            _row(
                f"[{each.name}](examples/{each.example}/README.md)",
                _levels(each),
                _count(each),
                figures.shown(success(single)),
                figures.shown(success(recursive)),
                figures.shown(difference(recursive, single), sign=True),
                f"{tokens(each, 'single')} / {tokens(each, 'recursive')}",
                _share(each),
                _seconds(each),
            )
        )
    return lines


def table(comparisons: Sequence[Comparison] | None = None) -> list[str]:
    """The same with the start, and what solving took."""
    lines = [
        "| environment | levels | seeds x tasks | policy | single | recursive | recursive − single |",
        "|" + " --- |" * 7,
    ]
    for each in all_comparisons() if comparisons is None else comparisons:
        for policy, runs in (
            ("start", {mode: [each.start[mode]] for mode in MODES}),
            (f"RAO, {each.budget // 1000}k sampled", each.runs),
        ):
            lines.append(
                _row(
                    each.name,
                    _levels(each),
                    _count(each) if policy != "start" else f"1 x {len(scores(each.start['single']))}",
                    policy,
                    figures.shown(success(runs["single"])),
                    figures.shown(success(runs["recursive"])),
                    figures.shown(difference(runs["recursive"], runs["single"]), sign=True),
                )
            )
    return lines


def effort_table(comparisons: Sequence[Comparison] | None = None) -> list[str]:
    """What the tasks took that both ways of working solve after training: single / recursive."""
    lines = [
        "| environment | levels | tasks both solve | seconds | model calls | critical steps | tokens sampled | tokens in all "
        "| launches beside a sibling |",
        "|" + " --- |" * 9,
    ]
    for each in all_comparisons() if comparisons is None else comparisons:
        found = after_training(each)
        single, recursive = found["single"], found["recursive"]
        lines.append(
            _row(
                each.name,
                _levels(each),
                str(single.common),
                _pair(single.common_seconds, recursive.common_seconds, 2),
                _pair(single.common_steps, recursive.common_steps, 1),
                _pair(single.common_critical_steps, recursive.common_critical_steps, 1),
                _pair(single.common_tokens, recursive.common_tokens, 0),
                _pair(single.common_total_tokens, recursive.common_total_tokens, 0),
                _share(each),
            )
        )
    return lines


def levels_table(comparisons: Sequence[Comparison] | None = None) -> list[str]:
    """Success after training of each level of this example's own comparisons."""
    lines = ["| environment | level | tasks | single | recursive | recursive − single |", "|" + " --- |" * 6]
    own = [each for each in (all_comparisons() if comparisons is None else comparisons) if each.example == "delegation"]
    for each in own:
        for level in each.levels:
            runs = {mode: [[one for one in run if one.level == level] for run in each.runs[mode]] for mode in MODES}
            mark = " (not trained)" if each.trained is False else ""
            lines.append(
                _row(
                    each.name,
                    f"{level}{mark}",
                    str(len(scores(runs["single"][0]))),
                    figures.shown(success(runs["single"])),
                    figures.shown(success(runs["recursive"])),
                    figures.shown(difference(runs["recursive"], runs["single"]), sign=True),
                )
            )
    return lines


def reference_table(results: Path = RESULTS) -> list[str]:
    """What the reference solver takes, which makes no mistake: single / recursive."""
    lines = [
        "| environment | level | tasks | solved | agents | model calls | critical steps | longest conversation "
        "| characters in all | launches beside a sibling |",
        "|" + " --- |" * 10,
    ]
    found = json.loads((results / REFERENCE).read_text(encoding="utf-8"))
    for name, levels in found.items():
        for level, modes in levels.items():
            single, recursive = (modes[mode] for mode in ("single", "recursive"))

            def pair(key: str, digits: int = 0, unit: float = 1.0) -> str:
                return _pair(single[key] / unit, recursive[key] / unit, digits)  # noqa: B023  # called at once

            lines.append(
                _row(
                    f"`{name}`",
                    level,
                    f"{recursive['tasks']}",
                    pair("score", 2),
                    pair("agents"),
                    pair("calls", 1),
                    pair("critical_steps", 1),
                    pair("longest", 1, 1000) + "k",
                    pair("total", 1, 1000) + "k",
                    f"{recursive['concurrent']:.1%}",
                )
            )
    return lines


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _levels(comparison: Comparison) -> str:
    return ", ".join(comparison.levels) + (" (not trained)" if comparison.trained is False else "")


def _count(comparison: Comparison) -> str:
    seeds = [len(comparison.runs[mode]) for mode in MODES]
    tasks = len(scores(comparison.runs["single"][0]))
    return f"{seeds[0]} x {tasks}" if seeds[0] == seeds[1] else f"{seeds[1]} / {seeds[0]} x {tasks}"


def _share(comparison: Comparison) -> str:
    share = after_training(comparison)["recursive"].concurrent_share
    return "" if share is None else f"{share:.1%}"


def _seconds(comparison: Comparison) -> str:
    found = after_training(comparison)
    pair = _pair(found["single"].common_seconds, found["recursive"].common_seconds, 2)
    return f"{pair} ({found['single'].common} tasks)" if pair else "no task solved by both"


def _pair(single: float | None, recursive: float | None, digits: int) -> str:
    return "" if single is None or recursive is None else f"{single:,.{digits}f} / {recursive:,.{digits}f}"


def collect(runs: Path, results: Path) -> None:
    """Copy what the tables need of every run."""
    for name in SPECS:
        for done in sorted((runs / name).glob("*/test-*.done")):
            source = done.with_suffix(".jsonl")
            target = results / name / done.parent.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
            if done.parent.name != "start":
                shutil.copy(done.parent / "policy" / "metrics.jsonl", target.parent / "metrics.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--collect", type=Path, metavar="RUNS")
    given = parser.parse_args()
    if given.collect:
        collect(given.collect, given.results)
    for lines in (short_table(), table(), effort_table(), levels_table(), reference_table()):
        print("\n".join(lines), end="\n\n")


if __name__ == "__main__":
    main()
