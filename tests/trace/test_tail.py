"""Following a trace file while it is being written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recursive_agent.errors import TraceError
from recursive_agent.trace import tail as tail_module
from recursive_agent.trace.schema import Event, RunResumed, Scored
from recursive_agent.trace.store import TraceWriter, append_events, read_events
from recursive_agent.trace.tail import TraceTail
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage

from .events import model_called, node_ended, node_started, run_started, runs


def _all(tail: TraceTail) -> list[Event]:
    found: list[Event] = []
    while events := tail.read():
        found += events
    return found


def _write(path: Path, events: list[Event]) -> bytes:
    with TraceWriter(path) as writer:
        for event in events:
            writer.append(event)
    return path.read_bytes()


_RUN: list[Event] = [
    run_started(),
    node_started(time=1.0, context="x" * 6000),
    model_called(time=2.0, text="y" * 6000),
    node_ended(time=3.0, result="x" * 6000),
]


def test_events_come_as_they_are_written_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    tail = TraceTail(path)
    assert (tail.read(), tail.exists) == ([], False)
    with TraceWriter(path) as writer:
        for event in _RUN:
            writer.append(event)
            assert tail.read() == [event]
            assert tail.read() == []
    assert (tail.exists, tail.generation) == (True, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(events=runs(), cuts=st.lists(st.floats(0, 1), max_size=6))
def test_a_file_that_grows_by_any_bytes_gives_its_events_in_order(
    tmp_path: Path, events: list[Event], cuts: list[float]
) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "run.jsonl"
    for old in (whole, path):
        old.unlink(missing_ok=True)
    data = _write(whole, events)
    tail, found, written = TraceTail(path), [], 0
    with path.open("ab", buffering=0) as file:
        for share in [*sorted(cuts), 1.0]:
            file.write(data[written : int(share * len(data))])
            written = int(share * len(data))
            found += _all(tail)
    found += _all(tail)
    assert found == events
    assert ExecutionTree.from_events(found).root.status is ExecutionTree.load(whole).root.status


def test_a_long_file_comes_in_parts_and_a_line_longer_than_a_part_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "_AT_ONCE", 1000)
    path = tmp_path / "run.jsonl"
    _write(path, _RUN)
    tail = TraceTail(path)
    first = tail.read()
    assert 0 < len(first) < len(_RUN)
    assert first + _all(tail) == _RUN


def test_a_torn_line_is_left_out_and_the_run_that_is_resumed_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    _write(path, _RUN[:2])
    with path.open("ab") as file:
        file.write(b'{"kind": "model_ca')
    tail = TraceTail(path)
    assert _all(tail) == _RUN[:2]
    assert [tail.read() for _ in range(3)] == [[], [], []]
    resumed = RunResumed(time=9, at=9, usage=Usage(), model="m")
    writer, _ = TraceWriter.reopen(path)
    with writer:
        writer.append(resumed)
        assert _all(tail) == [resumed]
    assert tail.generation == 0


def test_a_last_line_without_its_newline_counts_once_its_writer_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    data = _write(path, _RUN)
    path.write_bytes(data[:-1])
    tail = TraceTail(path)
    found = _all(tail)
    found += [event for _ in range(3) for event in tail.read()]
    assert found == _RUN
    scored = Scored(time=9, node="0", score=1.0)
    append_events(path, [scored])
    assert _all(tail) == [scored]
    assert list(read_events(path)) == [*_RUN, scored]


def test_a_removed_file_gives_nothing_more_and_another_one_in_its_place_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    _write(path, _RUN)
    tail = TraceTail(path)
    assert _all(tail) == _RUN
    path.unlink()
    assert (tail.read(), tail.exists, tail.generation) == ([], False, 0)
    other: list[Event] = [
        run_started(run="r2"),
        *_RUN[1:],
        *[model_called(step=n, text="z" * 9000) for n in range(2, 5)],
    ]
    _write(path, other)
    assert (_all(tail), tail.generation) == (other, 1)


def test_a_file_that_is_written_over_in_place_begins_anew(tmp_path: Path) -> None:
    path, longer = tmp_path / "run.jsonl", tmp_path / "longer.jsonl"
    _write(path, _RUN)
    tail = TraceTail(path)
    assert _all(tail) == _RUN
    other: list[Event] = [run_started(run="r2"), *_RUN[1:], model_called(step=2, text="z" * 20_000)]
    inode = path.stat().st_ino
    path.write_bytes(_write(longer, other))
    assert path.stat().st_ino == inode
    assert path.stat().st_size > longer.stat().st_size - 1
    assert (_all(tail), tail.generation) == (other, 1)
    path.write_bytes(b"")
    assert (tail.read(), tail.generation) == ([], 2)


@pytest.mark.parametrize("bad", [b"not json\n", b'{"kind": "blob"}\n', b'{"kind": "of the future", "time": 1}\n'])
def test_a_malformed_line_is_named_after_the_events_before_it(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "run.jsonl"
    _write(path, _RUN[:2])
    lines = len(path.read_bytes().splitlines())
    with path.open("ab") as file:
        file.write(bad)
    tail = TraceTail(path)
    assert tail.read() == _RUN[:2]
    for _ in range(2):
        with pytest.raises(TraceError, match=f"line {lines + 1}: "):
            tail.read()


def test_a_file_that_is_no_trace_or_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"a": 1}\n')
    with pytest.raises(TraceError, match=r"notes\.jsonl, line 1: not a trace of rao"):
        TraceTail(path).read()
    with pytest.raises(TraceError, match="cannot be read"):
        TraceTail(tmp_path).read()
    with pytest.raises(TraceError, match="cannot be read"):
        TraceTail("a\0b").read()


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.jsonl"
    read = 0
    pread = os.pread

    def counting(fd: int, most: int, at: int) -> bytes:
        nonlocal read
        data = pread(fd, most, at)
        read += len(data)
        return data

    monkeypatch.setattr(tail_module.os, "pread", counting)
    tail = TraceTail(path)
    with TraceWriter(path) as writer:
        for event in [*_RUN[:2], *[model_called(step=n, text=f"{n}" * 3000) for n in range(1, 200)]]:
            writer.append(event)
            assert tail.read() == [event]
    size = path.stat().st_size
    assert size > 250_000
    assert read < size + 202 * 2 * 4096  # the beginning of the file is looked at again, to know whether it is the same
