"""Two results paired by task: what is compared, what is refused, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rao_rl.evaluation.compare import between_modes, differences
from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.results import check_comparable, read_results
from rao_rl.evaluation.summary import report, summarize
from recursive_agent import ConfigurationError
from recursive_agent.limits import Prices

from .test_summary import attempt

ABOUT = {"environment": "textcraft", "environment_arguments": {}, "split": "test", "seed": 0}


def several(scores: dict[str, float | None], **more: Any) -> list[Attempt]:
    return [attempt(task=task, score=score, **more) for task, score in scores.items()]


def test_differences_are_paired_by_task_level_and_mode() -> None:
    first = several({"a": 0, "b": 0, "c": 1, "d": 1, "lost": None})
    second = several({"a": 1, "b": 1, "c": 1, "e": 1, "lost": 1})
    (found,) = differences(first, second)
    assert (found.level, found.mode, found.tasks, found.only_first, found.only_second) == ("easy", "recursive", 3, 1, 1)
    assert (found.unscored, found.first, found.second) == (1, pytest.approx(1 / 3), 1.0)
    assert (found.difference, found.better, found.worse, found.p) == (pytest.approx(2 / 3), 2, 0, 0.5)


def test_several_attempts_at_a_task_are_one_task() -> None:
    first = [*several({"a": 0, "b": 0}), *several({"a": 1, "b": 0}, repeat=1)]
    second = [*several({"a": 1, "b": 1}), *several({"a": 1, "b": 0}, repeat=1)]
    (found,) = differences(first, second)
    assert (found.tasks, found.first, found.second, found.p) == (2, 0.25, 0.75, 0.5)


def test_two_modes_of_one_evaluation_are_compared() -> None:
    both = [*several({"a": 0, "b": 1}, mode="single"), *several({"a": 1, "b": 1})]
    (found,) = between_modes(both)
    assert (found.mode, found.tasks, found.difference) == ("single → recursive", 2, 0.5)
    assert between_modes(several({"a": 1})) == []


def write(path: Path, attempts: Sequence[Attempt], **about: Any) -> Path:
    rows = [{"about": {**ABOUT, **about}}, *map(asdict, attempts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_both_kinds_of_files_are_read(tmp_path: Path) -> None:
    made = several({"a": 0, "b": 1})
    log = read_results(write(tmp_path / "a.jsonl", made))
    (tmp_path / "a.json").write_text(json.dumps(report(made, Prices(prompt=1, completion=2), **ABOUT), indent=1))
    out = read_results(tmp_path / "a.json")
    assert (log.attempts, out.attempts) == (made, made)
    assert (log.about, out.about) == (ABOUT, ABOUT)


@pytest.mark.parametrize(
    ("about", "tasks", "complaint"),
    [
        ({"environment": "oolong"}, "ab", "the environment is textcraft in the first and oolong in the second"),
        (
            {"environment_arguments": {"scoring": "strict"}},
            "ab",
            "--env-set scoring is the default in the first and st",
        ),
        ({"split": "train"}, "bc", "the split is test in the first and train in the second, and their tasks are not"),
        ({"seed": 1}, "bc", "the seed is 0 in the first and 1 in the second"),
        ({}, "cd", "they have no task in common"),
        ({"split": "train", "seed": 3}, "ab", None),
        ({"environment_arguments": {"data": "/elsewhere"}}, "ab", None),
        ({}, "bc", None),
    ],
)
def test_only_the_same_tasks_are_compared(
    tmp_path: Path, about: dict[str, Any], tasks: str, complaint: str | None
) -> None:
    first = read_results(write(tmp_path / "a", several({"a": 0, "b": 1})))
    second = read_results(write(tmp_path / "b", several(dict.fromkeys(tasks, 1.0)), **about))
    if complaint is None:
        check_comparable(first, second)
        return
    with pytest.raises(ConfigurationError, match=complaint):
        check_comparable(first, second)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "nonsense", '{"about": 5}\n', '{"about": {}}\n', '{"attempts": [1]}']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(ConfigurationError, match="x"):
        read_results(tmp_path / "x")


def test_rows_of_older_files_are_read_and_altered_ones_are_refused() -> None:
    row = asdict(attempt())
    for name in ("repeat", "cached_tokens", "critical_steps", "metrics"):
        del row[name]
    assert Attempt.from_row(row).key[1:] == ("recursive", 0)
    for name, value in (("score", "high"), ("steps", None), ("status", 5), ("metrics", {"x": "y"})):
        with pytest.raises(TypeError, match=name):
            Attempt.from_row({**row, name: value})


def test_repeats_time_limits_metrics_and_cost_are_summarized() -> None:
    made = [
        attempt(task="a", score=1.0, metrics={"precision": 0.5}, critical_steps=4),
        attempt(task="b", score=0.0, status="tree_timeout", metrics={"precision": 1.0}, critical_steps=2),
        attempt(task="a", score=1.0, repeat=1, metrics={"precision": 0.7}, critical_steps=4),
        attempt(task="b", score=1.0, repeat=1, critical_steps=2),
    ]
    (row,) = summarize(made, Prices(prompt=10, completion=20))
    assert (row.tasks, row.attempts, row.repeats, row.success, row.interval) == (2, 4, 2, 0.75, "t")
    assert (row.repeat_low, row.repeat_high, row.repeat_deviation) == (0.5, 1.0, pytest.approx(0.3536, abs=1e-4))
    assert (row.timed_out, row.success_if_failed, row.success_if_solved) == (1, 0.75, 1.0)
    assert row.metrics == {"precision": pytest.approx(0.8)}  # task a has the mean 0.6, task b 1.0
    assert (row.critical_steps, row.total_tokens) == (3.0, 400)
    assert row.cost == pytest.approx((300 * 10 + 100 * 20) / 1e6)
