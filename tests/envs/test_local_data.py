"""A local copy of a public data set: read as it is, and refused with one sentence where it is not what it should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rao_rl.envs.local_data import LocalData
from recursive_agent.errors import ConfigurationError

DATA = LocalData(
    name="birds",
    columns={"id": int, "name": str, "seen": list[str]},
    sizes={"test": 3, "train": 1},
    obtain="Download birds/birds.",
)
ROWS = [{"id": number, "name": f"bird {number}", "seen": ["a"], "more": "unused"} for number in range(3)]
USED = [{name: row[name] for name in DATA.columns} for row in ROWS]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_file_or_a_folder_of_files_gives_the_used_columns_in_order(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"data/test-00000-of-00002{suffix}", ROWS[:2])
    write(tmp_path / f"data/test-00001-of-00002{suffix}", ROWS[2:])
    write(tmp_path / f"data/train-00000-of-00001{suffix}", ROWS[:1])
    (tmp_path / "README.md").write_text("test")
    assert list(DATA.rows(tmp_path, "test")) == USED
    assert list(DATA.rows(write(tmp_path / f"own{suffix}", ROWS), "test")) == USED


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "test.jsonl", ROWS)
    file.write_text(file.read_text() + "{")
    rows = DATA.rows(tmp_path, "test")
    assert [next(rows) for _ in ROWS] == USED
    with pytest.raises(ConfigurationError, match="cannot be read"):
        next(rows)


def broken(place: Path, kind: str) -> None:
    if kind == "cut":
        file = write(place / "test.parquet", ROWS)
        file.write_bytes(file.read_bytes()[:-20])
    elif kind == "column":
        write(place / "test.jsonl", [{"id": 1, "seen": []}])
    elif kind == "type":
        write(place / "test.parquet", [{**row, "seen": 1} for row in ROWS])
    elif kind == "item":
        write(place / "test.jsonl", [{**row, "seen": [1]} for row in ROWS])
    elif kind == "text":
        (place / "test.jsonl").write_bytes(b"\xff\xfe\n")
    elif kind == "list":
        (place / "test.jsonl").write_text("[1]\n")
    elif kind == "few":
        write(place / "test.parquet", ROWS[:2])
    elif kind == "none":
        write(place / "test.jsonl", [])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut", "may be cut short"),
        ("column", r"test\.jsonl has no column name; it has id, seen\. Download"),
        ("type", r"row 0: seen must be list\[str\], not 1"),
        ("item", r"row 0: seen must be list\[str\], not \[1\]"),
        ("text", "cannot be read"),
        ("list", "line 1 is not a JSON object"),
        ("few", "has 2 rows where the public set has 3"),
        ("none", "has 0 rows"),
        ("absent", "no file of the split 'test'"),
    ],
)
def test_what_is_not_the_data_set_is_refused_in_a_sentence(tmp_path: Path, kind: str, words: str) -> None:
    broken(tmp_path, kind)
    with pytest.raises(ConfigurationError, match=words) as caught:
        list(DATA.rows(tmp_path, "test"))
    assert "birds" in str(caught.value)


def test_without_a_copy_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    for path in (None, tmp_path / "absent"):
        with pytest.raises(ConfigurationError, match="Download birds/birds"):
            DATA.rows(path, "test")


def test_a_subset_is_allowed_where_it_is_meant(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", ROWS[:2])
    assert list(DATA.rows(tmp_path, "test", subset=True)) == USED[:2]
