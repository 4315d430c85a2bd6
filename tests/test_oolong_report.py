"""The tables of oolong-synth under a context cap: what they show of hand-written attempts, and that the campaign fits."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="reports need the extra train")

from examples.oolong_rao import campaign, report
from rao_rl import Attempt
from rao_rl.envs import Mode, make

BUDGET = campaign.ARMS["print-recursive"].budgets[-1]


def write(path: Path, level: str, scores: list[float], mode: Mode = "recursive") -> None:
    attempts = [
        Attempt(
            task=f"{level}/{number}",
            level=level,
            mode=mode,
            status="finished",
            score=score,
            agents=9,
            depth=1,
            steps=17,
            completion_tokens=500,
            prompt_tokens=2500,
            seconds=4.0,
            concurrent_share=0.75,
            launches=8,
            critical_steps=3,
        )
        for number, score in enumerate(scores)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"about": {}}, *map(asdict, attempts)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_tables_show_lengths_stages_and_differences(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / f"print-recursive-{seed}"
        write(folder / "start-2k-T0.jsonl", "2k", [0.0, 0.5])
        write(folder / f"rao{BUDGET}-2k-T0.jsonl", "2k", [1.0, 0.5])
        write(folder / f"rao{BUDGET}-64k-T0.jsonl", "64k", [1.0, 1.0])
        rows = [
            {"reward": reward, "loss": 0.1, "rao/generated_tokens": 9e3, "rao/total_tokens": 5e4}
            for reward in (0.2, 0.4, 0.6)
        ]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [{"step": 1}, *rows]))
    start, trained = report.table(tmp_path)[2:]
    assert "start | 0 | 0.250 (0.00 to 0.50) | –" in start
    assert "0.750 (0.50 to 1.00)" in trained
    assert "1.000 (1.00 to 1.00)" in trained
    (changed,) = report.differences(tmp_path)[2:]
    assert "| 0 | +0.500 (+0.00 to +1.00) | – |" in changed  # no start at 64k, so no difference
    first, second = report.training(tmp_path)[2:]
    assert first.endswith("| 0 | 3 | 9k | 50k | 0.200 | 0.600 |")
    assert "| 1 | 3 |" in second
    short, long = report.effort(tmp_path)[2:]
    assert "| 2k | 4 | 9 | 1.0 | 500 | 3,000 | 17 | 3.0 | 0.750 | 4.0 |" in short
    assert "| 64k | 4 |" in long


def test_nothing_is_shown_of_what_was_not_run(tmp_path: Path) -> None:
    for table in (report.table, report.differences, report.training, report.effort):
        assert "No results yet" in "".join(table(tmp_path))


def test_whole_evaluations_alone_are_collected(tmp_path: Path) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results"
    write(runs / "code-single-0" / "start-2k-T0.jsonl", "2k", [1.0], "single")
    write(runs / "code-single-0" / "start-8k-T0.jsonl", "8k", [1.0], "single")
    (runs / "code-single-0" / "start-2k-T0.done").touch()
    report.collect(runs, results)
    assert [path.name for path in results.rglob("*.jsonl")] == ["start-2k-T0.jsonl"]


@pytest.mark.parametrize("name", campaign.ARMS)
def test_every_arm_names_lengths_of_its_environment(name: str) -> None:
    arm = campaign.ARMS[name]
    values = dict(option.removeprefix("--env-set=").split("=") for option in arm.environment)
    environment = make("oolong-synth", lengths=values["lengths"], reading=arm.reading, mode=arm.mode, leaf=arm.leaf)
    assert {*arm.taught, *campaign.TRAINED, *campaign.TASKS} <= {*environment.levels}
    assert [level for level, _ in campaign.evaluations("16k")] == ["2k", "2k", "8k", "8k", "16k"]
    assert environment.max_depth == (0 if arm.mode == "single" else 6)
