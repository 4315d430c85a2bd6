"""What a learning curve shows of metrics files: worked out by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.evaluation.curves import TOKENS, curve, read_metrics, running_mean
from recursive_agent.errors import ConfigurationError


def write(path: Path, rows: Sequence[Mapping[str, object]], end: str = "\n") -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + end)
    return path


def test_rows_of_a_step_are_one_and_the_last_value_counts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.jsonl",
        [
            {"step": 2, "loss": 1.0, TOKENS: 20},
            {"step": 1, "loss": 3.0, "note": "words", "flag": True},
            {"step": 2, "eval/success/easy": 0.5},
            {"train_runtime": 3.0},
            {"step": 2, "loss": 2.0, "entropy": float("nan")},
        ],
    )
    read = read_metrics(path)
    assert list(read) == [1, 2]
    assert read[1] == {"step": 1.0, "loss": 3.0}
    assert read[2] == {"step": 2.0, "loss": 2.0, TOKENS: 20.0, "eval/success/easy": 0.5}


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", [{"step": 1, "loss": 1.0}], end='\n{"step": 2, "lo')
    assert list(read_metrics(path)) == [1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "contains no metrics"), ('{"loss": 1}\n', "contains no metrics"), ('{"step": 1}\nwhat\n{}\n', "line 2")],
)
def test_what_is_no_metrics_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        read_metrics(path)
    assert str(path) in str(caught.value)


def test_seeds_at_the_same_steps_give_mean_and_range() -> None:
    line = curve([{0: {"y": 0.0}, 10: {"y": 0.4}}, {0: {"y": 0.2}, 10: {"y": 0.8}}], "y", "step")
    assert line is not None
    assert (line.runs, line.measured) == (2, True)
    assert line.x.tolist() == [0, 10]
    assert line.mean.tolist() == pytest.approx([0.1, 0.6])
    assert (line.low.tolist(), line.high.tolist()) == ([0.0, 0.4], [0.2, 0.8])


def test_seeds_are_compared_at_equal_tokens_and_only_where_all_have_come() -> None:
    first = {0: {TOKENS: 0.0, "y": 0.0}, 10: {TOKENS: 100.0, "y": 1.0}}
    second = {0: {TOKENS: 0.0, "y": 0.0}, 10: {TOKENS: 200.0, "y": 1.0}}
    line = curve([first, second], "y", "tokens")
    assert line is not None
    assert not line.measured
    assert line.x.tolist() == [0, 100]
    assert (line.low.tolist(), line.high.tolist(), line.mean.tolist()) == ([0.0, 0.5], [0.0, 1.0], [0.0, 0.75])


def test_runs_without_the_metric_or_without_tokens_are_left_out() -> None:
    line = curve([{0: {"y": 1.0}}, {0: {"z": 5.0}}], "y", "step")
    assert line is not None
    assert (line.runs, line.mean.tolist()) == (1, [1.0])
    assert curve([{0: {"y": 1.0}}], "y", "tokens") is None
    assert curve([{0: {"y": 1.0}}, {5: {"y": 1.0}}], "y", "step") is None  # no step that both have reached


def test_running_mean_by_hand() -> None:
    assert running_mean(np.array([3.0, 0.0, 6.0, 9.0]), 3).tolist() == [1.5, 3.0, 5.0, 7.5]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.integers(0, 10))
def test_running_mean_stays_within_the_values_and_keeps_a_constant(values: list[float], half: int) -> None:
    smooth = running_mean(np.array(values), 2 * half + 1)
    assert len(smooth) == len(values)
    assert smooth.min() >= min(values) - 1e-6
    assert smooth.max() <= max(values) + 1e-6
