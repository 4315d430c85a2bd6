"""The table of where delegation pays: what its figures are, by hand-worked attempts, and which examples it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="reports need the extra train")

from examples.delegation import report
from examples.delegation.comparisons import Comparison, all_comparisons
from examples.delegation.specs import MODES, SPECS
from examples.open_model.models import MODELS
from rao_rl import Attempt
from rao_rl.envs import Mode, make
from rao_rl.evaluation.statistics import paired_interval


def attempt(task: str, mode: Mode, score: float, **more: float) -> Attempt:
    given = {"agents": 1, "depth": 0, "steps": 1, "completion_tokens": 10, "prompt_tokens": 20, "seconds": 1.0}
    shares = {"concurrent_share": 0.0, "launches": 0, "critical_steps": 1}
    values = {**given, **shares, **more}
    return Attempt(task=task, level="low", mode=mode, status="finished", score=score, **values)  # type: ignore[arg-type]


def write(path: Path, attempts: list[Attempt]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"about": {}}, *(asdict(each) for each in attempts)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def comparison(*seeds: dict[Mode, list[Attempt]]) -> Comparison:
    return Comparison(
        name="`made`",
        example="delegation",
        budget=60_000,
        levels=["low"],
        trained=True,
        start={mode: [attempt(str(n), mode, 0.0) for n in range(4)] for mode in MODES},
        runs={mode: [seed[mode] for seed in seeds] for mode in MODES},
        metrics={mode: [] for mode in MODES},
    )


ONE: dict[Mode, list[Attempt]] = {
    "single": [attempt("0", "single", 1.0, seconds=2.0), *(attempt(str(n), "single", 0.0) for n in (1, 2, 3))],
    "recursive": [
        attempt("0", "recursive", 1.0, seconds=5.0, launches=3, concurrent_share=1.0, steps=7, critical_steps=4),
        attempt("1", "recursive", 1.0, seconds=9.0, launches=1, concurrent_share=0.0),
        *(attempt(str(n), "recursive", 0.0) for n in (2, 3)),
    ],
}


def test_figures_of_one_seed_by_hand() -> None:
    found = comparison(ONE)
    assert report.success(found.runs["recursive"])[0] == 0.5
    value, low, high = report.difference(found.runs["recursive"], found.runs["single"])
    assert value == 0.25  # one task of four
    assert low < 0 < high < 1
    assert (low, high) == pytest.approx(paired_interval([0, 1, 0, 0]))
    after = report.after_training(found)
    assert after["recursive"].concurrent_share == 0.75  # three launches of four
    assert (after["single"].common, after["single"].common_seconds, after["recursive"].common_seconds) == (1, 2.0, 5.0)
    (row,) = report.short_table([found])[2:]
    assert "| 1 x 4 |" in row
    assert "| 75.0% | 2.00 / 5.00 (1 tasks) |" in row
    (row,) = report.effort_table([found])[2:]
    assert "| 1 | 2.00 / 5.00 | 1.0 / 7.0 | 1.0 / 4.0 |" in row


def test_seeds_are_averaged_and_their_number_is_shown() -> None:
    other: dict[Mode, list[Attempt]] = {mode: [attempt(str(n), mode, 1.0) for n in range(4)] for mode in MODES}
    found = comparison(ONE, other)
    assert report.success(found.runs["single"])[0] == (0.25 + 1) / 2
    assert report.difference(found.runs["recursive"], found.runs["single"])[0] == 0.125
    assert "| 2 x 4 |" in report.short_table([found])[2]


def test_a_comparison_that_solves_nothing_in_common_says_so() -> None:
    none: dict[Mode, list[Attempt]] = {mode: [attempt(str(n), mode, 0.0) for n in range(4)] for mode in MODES}
    (row,) = report.short_table([comparison(none)])[2:]
    assert row.endswith("|  | no task solved by both |")


def test_rows_come_from_the_results_of_each_example(tmp_path: Path) -> None:
    assert all_comparisons(tmp_path) == []
    name, spec = next((name, spec) for name, spec in SPECS.items() if len(spec.budgets) > 1)
    place = tmp_path / "delegation" / "results" / name
    harder = [level for level in spec.tasks if level not in spec.trained]
    for mode in MODES:
        attempts = [
            Attempt(**{**asdict(attempt(level, mode, 1.0)), "level": level}) for level in [*spec.trained, *harder]
        ]
        write(place / "start" / f"test-{mode}.jsonl", attempts)
        write(place / f"{mode}-0" / f"test-{spec.budgets[0]}.jsonl", attempts)
    first, second = all_comparisons(tmp_path)
    assert (first.trained, list(first.levels)) == (True, list(spec.trained))
    assert (second.trained, list(second.levels)) == (False, harder)
    write(place / "single-0" / f"test-{spec.budgets[1]}.jsonl", attempts)  # one mode alone is no comparison
    assert {each.budget for each in all_comparisons(tmp_path)} == {spec.budgets[0]}


@pytest.mark.parametrize("name", SPECS)
def test_every_row_names_levels_of_its_environment(name: str) -> None:
    spec = SPECS[name]
    environment = make(spec.environment)
    assert {*spec.trained, *spec.tasks} <= {*environment.levels}
    assert {*spec.trained} <= {*spec.tasks}
    assert spec.start_of is None or spec.start_of in SPECS
    assert spec.base is None or spec.base in MODELS


def test_a_row_of_an_open_model_is_refused_without_the_model(tmp_path: Path) -> None:
    row = next(name for name, spec in SPECS.items() if spec.base is not None)
    command = [sys.executable, "-m", "examples.delegation.campaign", f"--out={tmp_path}", "--only", row]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{row} ({SPECS[row].base}) needs --base" in done.stderr
    assert not any(tmp_path.iterdir())


def test_lengths_in_files_of_their_own_are_one_comparison(tmp_path: Path) -> None:
    for mode in MODES:
        place = tmp_path / "oolong_rao" / "results" / f"code-{mode}-0"
        for level in ("16k", "2k", "8k") if mode == "single" else ("16k", "2k"):
            for stage in ("start", "rao400", "rao200"):
                given = {**asdict(attempt(level, mode, float(stage == "rao400"))), "level": level}
                write(place / f"{stage}-{level}-T0.7.jsonl", [Attempt(**given)])
    (found,) = all_comparisons(tmp_path)
    assert (found.budget, list(found.levels)) == (400, ["2k", "16k"])  # the levels of both modes
    assert [report.success(found.runs[mode])[0] for mode in MODES] == [1, 1]
    assert report.success([found.start["single"]])[0] == 0
    assert report._levels(found) == "2k, 16k"
