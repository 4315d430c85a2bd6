"""What a run writes about itself: lines of figures, alarms, the time that it took over all its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from rao_rl.errors import TrainingStopped
from rao_rl.evaluation.alarms import Alarm
from rao_rl.train.record import Record

FINE = {"entropy": 0.4, "loss": 0.1, "sampling/importance_sampling_ratio/mean": 1.0}


class Heard:
    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.alarms: list[Alarm] = []
        self.closed = 0

    def figures(self, step: int, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def alarm(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)

    def close(self) -> None:
        self.closed += 1


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_goes_to_the_file_and_to_every_reporter_with_the_alarms_that_last(tmp_path: Path) -> None:
    heard, said = Heard(), list[str]()
    record = Record(tmp_path, said.append, reporters=[heard])
    for step, entropy in enumerate((0.4, 0.001, 0.001, 0.4), start=1):
        record.write({"step": step, **FINE, "entropy": entropy})
        assert record.lasting == (["Collapse"] if entropy < 0.1 else [])
    rows = lines(tmp_path / "metrics.jsonl")
    assert heard.rows == rows
    assert [row.get("alarms/entropy") for row in rows] == [None, 1.0, 1.0, 0.0]
    (alarm,) = lines(tmp_path / "alarms.jsonl")
    assert (alarm["step"], alarm["name"], alarm["severity"]) == (2, "entropy", "error")
    assert [each.text for each in heard.alarms] == [alarm["text"]]
    assert said == [f"step 2: {alarm['text']}"]


def test_the_time_of_a_run_goes_on_where_it_is_resumed(tmp_path: Path) -> None:
    record = Record(tmp_path, rows=[{"step": 3, "time/elapsed": 100.0}])
    record.write({"step": 4, **FINE})
    (row,) = lines(tmp_path / "metrics.jsonl")
    assert 100 <= row["time/elapsed"] < 160


def test_a_resumed_run_forgets_the_alarms_of_steps_that_come_again_and_that_it_had_ended(tmp_path: Path) -> None:
    path = tmp_path / "alarms.jsonl"
    kept = [{"step": 1, "name": "provenance", "text": "x"}, {"step": 5, "name": "equal", "text": "y"}]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in [*kept, {"step": 3, "name": "ended", "text": "z"}]) + '{"st'
    )
    Record(tmp_path, rows=[{"step": 3}])
    assert lines(path) == kept[:1]
    Record(tmp_path)  # it begins anew
    assert lines(path) == []


def test_why_a_run_ended_is_written_down_unless_somebody_stopped_it(tmp_path: Path) -> None:
    heard = Heard()
    record = Record(tmp_path, reporters=[heard])
    with pytest.raises(RuntimeError), record.ending():
        raise RuntimeError("the endpoint\nis gone")
    (alarm,) = lines(tmp_path / "alarms.jsonl")
    assert (alarm["name"], alarm["text"], heard.closed) == ("ended", "the endpoint is gone", 1)
    with pytest.raises(TrainingStopped), record.ending():
        raise TrainingStopped(SIGTERM, 3)
    assert len(lines(tmp_path / "alarms.jsonl")) == 1


def test_of_several_processes_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "alarms.jsonl"
    path.write_text('{"step": 1, "name": "equal", "text": "x"}\n')
    record = Record(tmp_path, writes=False)
    with pytest.raises(RuntimeError), record.ending():
        raise RuntimeError("the other process has this error too")
    assert len(lines(path)) == 1
