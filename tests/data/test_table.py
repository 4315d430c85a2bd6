"""Rows as a table for other trainers: every column of every row, in both kinds of files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.data.rows import Sample, node_rows
from rao_rl.data.table import export_rows, to_table
from recursive_agent.errors import ConfigurationError

from .test_rows import Turn, batch, conversations, node


def expected(made: Sample) -> dict[str, Any]:
    return {
        "input_ids": made.input_ids.tolist(),
        "completion_mask": made.completion_mask.astype(int).tolist(),
        "old_log_probs": made.logprobs.tolist(),
        "advantage": made.advantage,
        "weight": made.weight,
        "coefficient": made.coefficient,
        "model_version": made.row.version,
        "group_id": made.group,
        "rollout": made.rollout,
        "node": made.node,
        "parent": made.parent,
        "depth": made.depth,
    }


def test_both_kinds_of_files_hold_every_row(tmp_path: Path) -> None:
    made = batch()
    parquet = export_rows(made, tmp_path / "new" / "rows.parquet")
    lines = export_rows(made, tmp_path / "new" / "rows.jsonl")
    assert pq.read_table(parquet).to_pylist() == [expected(each) for each in made]
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [expected(each) for each in made]
    assert Counter(path.name for path in parquet.parent.iterdir()) == {"rows.parquet": 1, "rows.jsonl": 1}


@given(st.lists(conversations(), max_size=4))
def test_a_table_holds_the_rows_of_any_conversation(talks: list[list[Turn]]) -> None:
    made = [
        Sample(row=row, advantage=0.5, weight=2.0, group="g", rollout="r", node=str(number), parent=None, depth=0)
        for number, talk in enumerate(talks)
        for row in node_rows(node(*talk))
    ]
    assert to_table(made).to_pylist() == [expected(each) for each in made]


def test_trl_rows_can_be_made_of_a_table() -> None:
    trl = pytest.importorskip("trl.experimental.async_grpo.async_rollout_worker")
    table = to_table(batch()).select(
        ["input_ids", "completion_mask", "old_log_probs", "advantage", "model_version", "group_id"]
    )
    made = [trl.RolloutSample(prompt=[], completion=[], metrics={}, **record) for record in table.to_pylist()]
    assert made[0].input_ids == [1, 2, 3, 4]


def test_nothing_is_left_behind_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "folder.jsonl", tmp_path / "file" / "rows.parquet"):
        with pytest.raises(ConfigurationError, match="cannot be written"):
            export_rows(batch(), path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.jsonl"]
    with pytest.raises(ConfigurationError, match=r"\.parquet or \.jsonl files, not to rows\.csv"):
        export_rows(batch(), tmp_path / "rows.csv")
