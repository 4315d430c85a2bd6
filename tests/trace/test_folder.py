"""Trace files in folders: names, states, summaries, and finding one."""

from __future__ import annotations

from pathlib import Path

import pytest

from recursive_agent.errors import TraceError
from recursive_agent.status import Status
from recursive_agent.trace.folder import TraceState, TraceSummary, find_trace, read_trace, trace_path
from recursive_agent.trace.schema import RunEnded
from recursive_agent.trace.store import TraceWriter, append_events
from recursive_agent.usage import Usage

from .events import node_ended, node_started, run_started
from .test_store import RUN, SCORE, _write


def test_file_names_sort_by_time_and_stay_inside_their_folder(tmp_path: Path) -> None:
    times = [0.0, 1.0005, 1.002, 1e9, 1.7e9]
    names = [trace_path(tmp_path, chr(ord("z") - i), time).name for i, time in enumerate(times)]
    assert names == sorted(names)
    assert trace_path(tmp_path, "../../etc/x y", 0.0).parent == tmp_path
    assert trace_path(tmp_path, "abc").name.endswith("-abc.jsonl")


def test_a_summary_tells_a_trace_at_a_glance_and_what_is_wrong_with_a_bad_one(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl")
    append_events(path, [SCORE])
    summary = TraceSummary.of(path)
    assert (
        summary.run,
        summary.status,
        summary.goal,
        summary.nodes,
        summary.depth,
        summary.score,
        summary.problem,
    ) == (
        "r1",
        Status.FINISHED,
        "goal 0",
        1,
        0,
        1.0,
        None,
    )
    (tmp_path / "b.jsonl").write_bytes(b"")
    assert "empty" in (TraceSummary.of(tmp_path / "b.jsonl").problem or "")


def test_a_trace_is_found_by_file_folder_or_run(tmp_path: Path) -> None:
    old, new = (_write(trace_path(tmp_path, run, time)) for run, time in (("abc1", 1.0), ("abd2", 2.0)))
    assert find_trace(old, tmp_path) == old
    assert find_trace(tmp_path, "elsewhere") == new
    assert find_trace("abc1", tmp_path) == old
    assert find_trace("abd", tmp_path) == new
    deeper = _write(trace_path(tmp_path / "later" / "still", "xyz9", 3.0))
    assert find_trace("xyz9", tmp_path) == deeper
    assert find_trace(tmp_path, "elsewhere") == deeper, "the newest, whatever folder it is in"
    with pytest.raises(TraceError, match="2 runs match"):
        find_trace("ab", tmp_path)
    with pytest.raises(TraceError, match="is not a file, a folder"):
        find_trace("xyzz", tmp_path)
    with pytest.raises(TraceError, match="is not a file, a folder"):
        find_trace("xyz", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match="no trace in this folder"):
        find_trace(tmp_path / "empty", tmp_path)


def test_a_file_is_complete_in_progress_cut_off_or_unreadable(tmp_path: Path) -> None:
    whole = _write(tmp_path / "whole.jsonl")
    started = _write(tmp_path / "started.jsonl", RUN[:2])
    rootless = _write(tmp_path / "rootless.jsonl", [run_started(), RUN[-1]])
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "strange.jsonl").write_bytes(b"no trace\n")
    with TraceWriter(tmp_path / "growing.jsonl") as writer:
        assert _state(writer.path) == (TraceState.IN_PROGRESS, 0, True), "nothing is written yet"
        for event in RUN[:2]:
            writer.append(event)
        assert _state(writer.path) == (TraceState.IN_PROGRESS, 1, False)
    assert _state(writer.path) == (TraceState.CUT_OFF, 1, False)
    assert _state(whole) == (TraceState.COMPLETE, 1, False)
    assert _state(started) == (TraceState.CUT_OFF, 1, False)
    assert _state(rootless) == (TraceState.CUT_OFF, 0, False)
    assert _state(tmp_path / "empty.jsonl") == (TraceState.CUT_OFF, 0, True)
    assert _state(tmp_path / "strange.jsonl") == (TraceState.UNREADABLE, 0, True)
    assert _state(tmp_path / "none.jsonl") == (TraceState.UNREADABLE, 0, True)
    assert "none.jsonl" in (read_trace(tmp_path / "none.jsonl").problem or "")


def test_wherever_a_process_is_killed_its_trace_is_cut_off_and_never_unreadable(tmp_path: Path) -> None:
    """The file of a killed process ends anywhere within what it wrote."""
    data = _write(tmp_path / "whole.jsonl", [*_SMALL, SCORE]).read_bytes()
    end = data.index(b'"run_ended"')
    path = tmp_path / "cut.jsonl"
    states = {}
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        states[size] = read_trace(path).state
    whole = [size for size, state in states.items() if state is TraceState.COMPLETE]
    assert set(states.values()) == {TraceState.COMPLETE, TraceState.CUT_OFF}
    assert end < whole[0] <= data.index(b"\n", end)
    assert whole == list(range(whole[0], len(data) + 1))


_SMALL = [run_started(), node_started(), node_ended(), RunEnded(time=2.0, status=Status.FINISHED, usage=Usage())]


def _state(path: Path) -> tuple[TraceState, int, bool]:
    """State, number of agents, and whether there is a problem instead of a tree."""
    file = read_trace(path)
    assert (file.tree is None) == (file.problem is not None)
    assert file.complete == (file.state is TraceState.COMPLETE)
    return file.state, 0 if file.tree is None else len(file.tree.nodes), file.tree is None
