"""One reader of trace folders for scoring, RL and imitation, and the temperature that traces were sampled at."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from rao_rl.data.folder import read_folder, read_groups, temperature_of, trace_paths
from rao_rl.errors import DataError
from rao_rl.imitation.recorded import read_successful
from rao_rl.rollouts.recorded import recorded_attempts
from rao_rl.scoring.traces import score_traces, with_scorer
from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.trace.folder import TraceSummary, traces_below
from recursive_agent.trace.schema import RunEnded
from recursive_agent.trace.store import TraceWriter, read_events
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage
from tests.trace.events import run_started

from ..train.test_offline import attempt, record
from .token_trees import token_events, token_tree, turn
from .trees import write


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[Path]:
    """A folder with four complete runs, two of them in a sub-folder, and with every other kind of file."""
    (tmp_path / "day" / "one").mkdir(parents=True)
    record(tmp_path / "day" / "one", 1)
    whole = attempt(tmp_path, "g1", 0, 1.0)
    attempt(tmp_path, "g1", 1, 0.0)
    lines = whole.read_bytes().splitlines(keepends=True)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "day" / "torn.jsonl").write_bytes(lines[0].replace(b"g1/0", b"g1/9") + lines[1][:20])
    write(
        tmp_path / "rootless.jsonl",
        [run_started(run="none"), RunEnded(time=1.0, status=Status.FINISHED, usage=Usage())],
    )
    (tmp_path / "strange.jsonl").write_bytes(b"no trace\n")
    (tmp_path / "notes.txt").write_text("not a trace at all")
    with TraceWriter(tmp_path / "growing.jsonl") as writer:
        writer.append(next(iter(read_events(whole))))
        yield tmp_path


RUNS = ["g0/0", "g0/1", "g1/0", "g1/1"]
LEFT_OUT = {"cut_off": 3, "unreadable": 1, "in_progress": 1}


def test_the_same_folder_is_read_alike_for_rao_imitation_scoring_and_lists(mixed: Path) -> None:
    folder = read_folder(mixed)
    assert sorted(tree.run for tree in folder.trees.values()) == RUNS
    assert folder.left_out == LEFT_OUT
    assert [problem.count("strange.jsonl") for problem in folder.problems] == [1]
    groups = read_groups(mixed)
    assert (sorted(tree.run for tree in groups.trees), groups.left_out) == (RUNS, LEFT_OUT)
    successful = read_successful(mixed, threshold=0.0)
    assert (successful.runs, successful.left_out) == (RUNS, LEFT_OUT)
    tally = anyio.run(score_traces, trace_paths(mixed), with_scorer(lambda node: 1.0, "mine"))
    assert (tally.trees, tally.left_out) == (4, LEFT_OUT)
    listed = Counter(TraceSummary.of(path).state for path in traces_below(mixed))
    assert listed == {"complete": 4, **LEFT_OUT}


def test_attempts_that_are_recorded_are_the_complete_traces_of_a_folder(mixed: Path) -> None:
    """A run that ended without an agent, or was cut off, is attempted again; it does not stop the others."""
    seeded = [token_events([turn([1], [2])], run=f"s{seed}", group="g", scores=(1.0,), seed=seed) for seed in (0, 1)]
    write(mixed / "s0.jsonl", seeded[0])
    write(mixed / "s1.jsonl", seeded[1][:-3])
    assert [key for key, _, _ in recorded_attempts(mixed)] == [("g", 0)]


@pytest.mark.parametrize("read", [read_groups, lambda place: read_successful(place, threshold=0.0)])
def test_a_folder_without_a_whole_run_is_said_alike(read: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none does not exist; record traces with `rao rollout`"):
        read(tmp_path / "none")
    with pytest.raises(DataError, match="contains no traces; record"):
        read(tmp_path)
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(DataError, match="contains no complete run: 1 of its traces was cut off"):
        read(tmp_path)
    record(tmp_path, 1)
    shutil.copy(tmp_path / "g0-0.jsonl", tmp_path / "copy.jsonl")
    with pytest.raises(DataError, match="are the same run"):
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
    ("trees", "requested", "kind", "complaint"),
    [
        (sampled(0.5, 1.0, 1.0), None, DataError, r"different temperatures: 0.5 \(1 runs\), 1 \(2 runs\)"),
        (sampled(0.5), 1.0, ConfigurationError, "sampled at temperature 0.5, and training must use the same, not 1"),
        (sampled(0.0), None, DataError, "temperature 0"),
        (sampled(1.0, top_p=0.9), None, DataError, "top_p below 1"),
    ],
)
def test_a_temperature_that_fits_not_all_traces_is_refused(
    trees: list[ExecutionTree], requested: float | None, kind: type[Exception], complaint: str
) -> None:
    with pytest.raises(kind, match=complaint):
        temperature_of(trees, requested)
