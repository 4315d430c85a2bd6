"""A folder as a page: a row for every file whatever is in it, and its runs as long as one page can hold them."""

import json
from pathlib import Path

import pytest

from recursive_agent.errors import TraceError
from recursive_agent.trace.folder import read_trace
from recursive_agent.trace.schema import Event
from recursive_agent.trace.store import TraceWriter
from recursive_agent.viewer import folder as folder_module
from recursive_agent.viewer.folder import folder_page, open_folder
from tests.data.trees import events


def write(path: Path, told: list[Event]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TraceWriter(path) as writer:
        for event in told:
            writer.append(event)
    return path


def test_broken_files_are_rows_with_their_problem(tmp_path: Path) -> None:
    whole = write(
        tmp_path / "deeper/a.jsonl", events({"id": "0", "goal": "one"}, {"id": "0.0"}, run="r1", scores={"0": 0.5})
    )
    lines = whole.read_bytes().splitlines(keepends=True)
    (tmp_path / "b-cut.jsonl").write_bytes(b"".join(lines[:3]).replace(b'"r1"', b'"r2"') + lines[3][:10])
    (tmp_path / "c-empty.jsonl").touch()
    (tmp_path / "d-foreign.jsonl").write_text('{"text": "a data set"}\n')
    (tmp_path / "e-damaged.jsonl").write_bytes(lines[0].replace(b'"r1"', b'"r3"') + b"{nonsense\n" + lines[1])
    (tmp_path / "f-bytes.jsonl").write_bytes(b"\xff\xfe\0" * 100)
    (tmp_path / "g-copy.jsonl").write_bytes(whole.read_bytes())
    data, runs = folder_page(open_folder(tmp_path))
    rows = {row["file"]: row for row in data["rows"]}
    first = rows["deeper/a.jsonl"]
    assert (first["run"], first["goal"], first["agents"], first["score"], first["problem"]) == (
        "r1",
        "one",
        2,
        0.5,
        None,
    )
    assert first["size"] == whole.stat().st_size
    assert (rows["b-cut.jsonl"]["state"], rows["b-cut.jsonl"]["run"]) == ("cut_off", "r2")
    assert rows["c-empty.jsonl"]["problem"].startswith("The trace is empty")
    assert "not a trace of rao" in rows["d-foreign.jsonl"]["problem"]
    assert rows["e-damaged.jsonl"]["problem"].startswith("line 2: not a line of JSON")
    assert rows["f-bytes.jsonl"]["problem"] is not None
    assert rows["g-copy.jsonl"]["problem"] == "the same run as deeper/a.jsonl"
    assert {name: json.loads(text)["id"] for name, text in runs} == {"r1": "r1", "r2": "r2"}
    assert data["note"] is None


def test_credit_goes_to_its_agents_and_the_root_s_reward_into_the_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", events({"id": "0"}, run="r1"))
    data, [(_, text)] = folder_page(open_folder(tmp_path), [read_trace(path)], {path: {"0": {"reward": 0.75}}})
    assert data["rows"][0]["reward"] == 0.75
    assert json.loads(text)["nodes"][0]["credit"] == {"reward": 0.75}


@pytest.mark.parametrize("most", ["MOST_EMBEDDED", "MOST_READ"])
def test_a_folder_that_is_too_large_is_listed_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str
) -> None:
    for run in ("r1", "r2"):
        write(tmp_path / f"{run}.jsonl", events({"id": "0"}, run=run))
    monkeypatch.setattr(folder_module, most, 10)
    data, runs = folder_page(open_folder(tmp_path))
    assert [row["run"] for row in data["rows"]] == ["r1", "r2"]
    assert runs == []
    assert "`rao trace view --serve" in data["note"]


def test_an_empty_folder_and_none_at_all_are_errors(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no trace in this folder"):
        open_folder(tmp_path)
    with pytest.raises(TraceError, match="cannot be read"):
        open_folder(tmp_path / "nowhere")
