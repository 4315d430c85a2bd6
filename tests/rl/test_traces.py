"""One reader of trace folders for scoring, RL and imitation, and the temperature that traces were sampled at."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rao_rl.lessons import read_successful
from rao_rl.traces import read_finished, read_groups, temperature_of
from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.store import TraceWriter, read_events
from recursive_agent.trace.tree import ExecutionTree

from .test_offline import attempt, record
from .token_trees import token_tree, turn


def test_the_same_folder_is_read_alike_by_all(tmp_path: Path) -> None:
    (tmp_path / "day" / "one").mkdir(parents=True)
    record(tmp_path / "day" / "one", 1)
    whole = attempt(tmp_path, "g1", 0, 1.0)
    attempt(tmp_path, "g1", 1, 0.0)
    lines = whole.read_bytes().splitlines(keepends=True)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "torn.jsonl").write_bytes(lines[0].replace(b"g1/0", b"g1/9") + lines[1][:20])
    (tmp_path / "strange.jsonl").write_bytes(b"no trace\n")
    (tmp_path / "notes.txt").write_text("not a trace at all")
    with TraceWriter(tmp_path / "growing.jsonl") as writer:
        writer.append(next(iter(read_events(whole))))
        left_out = {"incomplete": 2, "unreadable": 1, "in_progress": 1}
        runs = ["g0/0", "g0/1", "g1/0", "g1/1"]
        finished = read_finished(tmp_path)
        assert sorted(tree.run for tree in finished.trees.values()) == runs
        assert finished.left_out == left_out
        assert [problem.count("strange.jsonl") for problem in finished.problems] == [1]
        groups = read_groups(tmp_path)
        assert (sorted(tree.run for tree in groups.trees), groups.left_out) == (runs, left_out)
        successful = read_successful(tmp_path, threshold=0.0)
        assert (successful.runs, successful.left_out) == (runs, left_out)


@pytest.mark.parametrize("read", [read_groups, lambda place: read_successful(place, threshold=0.0)])
def test_a_folder_without_a_whole_run_is_said_alike(read: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no traces"):
        read(tmp_path)
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(ConfigurationError, match="holds no whole run: 1 of its traces was cut off"):
        read(tmp_path)
    record(tmp_path, 1)
    shutil.copy(tmp_path / "g0-0.jsonl", tmp_path / "copy.jsonl")
    with pytest.raises(ConfigurationError, match="are the same run"):
        read(tmp_path)


def sampled(*temperatures: Any, **more: Any) -> list[ExecutionTree]:
    return [
        token_tree([turn([1], [2])], run=f"r{number}", settings={"temperature": temperature, **more})
        for number, temperature in enumerate(temperatures)
    ]


def test_the_temperature_is_that_of_the_traces() -> None:
    assert temperature_of(sampled(0.5, 0.5)) == 0.5
    assert temperature_of(sampled(0.5, 0.5), 0.5) == 0.5
    assert temperature_of(sampled(0.7, None)) == 0.7
    assert temperature_of(sampled(None)) == 1.0
    assert temperature_of(sampled(None), 0.8) == 0.8
    assert temperature_of(sampled(1, top_p=1.0)) == 1.0


@pytest.mark.parametrize(
    ("trees", "given", "complaint"),
    [
        (sampled(0.5, 1.0, 1.0), None, r"different temperatures: 0.5 \(1 runs\), 1 \(2 runs\)"),
        (sampled(0.5), 1.0, "sampled at temperature 0.5, and cannot be trained at 1"),
        (sampled(0.0), None, "temperature 0"),
        (sampled(1.0, top_p=0.9), None, "top_p below 1"),
    ],
)
def test_a_temperature_that_fits_not_all_traces_is_refused(
    trees: list[ExecutionTree], given: float | None, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        temperature_of(trees, given)
