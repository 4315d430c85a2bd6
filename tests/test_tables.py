"""Tables of the documents show what the raw files beside them say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="reports need the extra train")

from examples import tables
from examples.figures import interval

ROOT = Path(__file__).parents[1]


def test_every_table_is_what_its_files_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.tables", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_table_is_shown_somewhere() -> None:
    text = "".join((ROOT / name).read_text() for name in tables.DOCUMENTS)
    assert [name for name in tables.TABLES if f"<!-- table: {name} -->" not in text] == []


def test_a_table_that_says_something_else_is_found() -> None:
    text = "before\n<!-- table: open-model -->\n| wrong |\n<!-- end -->\nafter\n"
    assert tables.filled(text) != text
    assert tables.filled(tables.filled(text)) == tables.filled(text)


def test_intervals_cover_seeds_and_tasks() -> None:
    same = [{"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.0}]
    value, low, high = interval(same)
    assert (value, low, high) == (0.5, 0.0, 1.0)  # two tasks, which may both be the one or the other
    assert interval(same, same)[0] == 0
    better = [{"a": 1.0, "b": 1.0}]
    assert interval(better, same) == (0.5, 0.0, 1.0)
    sure = [{str(n): 1.0 for n in range(50)}]
    assert interval(sure, [{str(n): 0.0 for n in range(50)}]) == (1.0, 1.0, 1.0)
