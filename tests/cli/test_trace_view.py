"""`rao trace view` as users start it: a file is written, its path printed, and whatever is wrong is one sentence."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from recursive_agent.trace.schema import Event
from recursive_agent.trace.store import TraceWriter
from tests.data.trees import events

from .command import environment, rao


def write(path: Path, told: list[Event], secrets: tuple[str, ...] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TraceWriter(path, secrets=secrets) as writer:
        for event in told:
            writer.append(event)
    return path


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    for number, score in enumerate((1.0, 0.0)):
        told = events(
            {"id": "0", "goal": "say <b>hi</b>", "result": "key sk-secret-1"},
            {"id": "0.0"},
            run=f"run{number}",
            group="g",
            scores={"0": score, "0.0": 1.0},
        )
        write(tmp_path / f"traces/2026-run{number}.jsonl", told, ("sk-secret-1",))
    return tmp_path / "traces"


def data_of(page: Path | str) -> dict[str, Any]:
    text = page if isinstance(page, str) else page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert isinstance(data, dict)
    return data


def test_one_run_beside_its_trace_with_the_credit_of_its_group(traces: Path) -> None:
    done = rao("trace", "view", "traces/2026-run0.jsonl", cwd=traces.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "traces/2026-run0.view.html\n"
    page = traces / "2026-run0.view.html"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text()
    assert "sk-secret-1" not in text
    assert "<b>hi" not in text
    data = data_of(text)
    assert (data["kind"], data["title"], data["runs"][0]["id"]) == ("run", "say <b>hi</b>", "run0")
    root = data["runs"][0]["nodes"][0]
    assert root["credit"]["advantage"] == 1.0
    assert root["credit"]["why"][1] == "baseline 0 = mean reward of 1 other root of the group: 0"
    assert rao("trace", "ls", "traces", cwd=traces.parent).stdout.count("run") == 3  # the page is no trace


def test_part_of_an_id_out_and_stdout(traces: Path) -> None:
    done = rao("trace", "view", "run1", "--out", "page.html", cwd=traces.parent)
    assert done.stdout == "page.html\n"
    again = rao("trace", "view", "run1", "-o", "-", cwd=traces.parent)
    assert again.stdout == (traces.parent / "page.html").read_text()
    assert not list(traces.glob("*.html"))
    assert not list(traces.parent.glob(".rao-*"))


def test_a_folder_is_a_table_with_its_runs_and_other_settings_of_credit(traces: Path) -> None:
    (traces / "bad.jsonl").write_text("nonsense\n")
    done = rao("trace", "view", "--set", "credit.delegation_bonus=0.5", cwd=traces.parent)
    assert done.stdout == "traces/traces.view.html\n", done.stderr
    text = (traces / "traces.view.html").read_text()
    data = data_of(text)
    assert [(row["run"], row["reward"]) for row in data["rows"]] == [("run0", 1.5), ("run1", 0.5), (None, None)]
    assert re.findall('data-run="([^"]*)"', text) == ["run0", "run1"]
    assert "credit.delegation_bonus=0.5" in text


def test_two_runs_are_compared(traces: Path) -> None:
    done = rao("trace", "view", "run0", "run1", cwd=traces.parent)
    assert done.stdout == "traces/2026-run0-and-2026-run1.view.html\n", done.stderr
    data = data_of(traces.parent / done.stdout.strip())
    assert (data["kind"], data["compare"]["left"], data["compare"]["right"]) == ("compare", "run0", "run1")
    assert [run["id"] for run in data["runs"]] == ["run0", "run1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere is not a file, a folder, or the id of a run in traces"),
        (["bad.jsonl"], "not a trace of rao"),
        (["empty"], "no trace in this folder"),
        (["traces", "--out", "missing/page.html"], "missing/page.html: the page cannot be written (No such file"),
        (["traces", "--out", "empty"], "empty: the page cannot be written (Is a directory)"),
        (["run0", "run0"], "the same run"),
        (["run0", "--port", "1"], "add --serve"),
        (["run0", "run1", "--serve"], "--serve takes no TRACE2"),
        (["traces", "--set", "credit.baselin=goal"], "did you mean credit.baseline?"),
        (["traces", "--training", "empty"], "is not the folder of a training run"),
    ],
)
def test_what_is_wrong_is_one_sentence(traces: Path, arguments: list[str], sentence: str) -> None:
    here = traces.parent
    (here / "bad.jsonl").write_text("nonsense\n")
    (here / "empty").mkdir()
    done = rao("trace", "view", *arguments, cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(here.rglob("*.html"))


def test_without_traces_it_says_what_to_name(tmp_path: Path) -> None:
    done = rao("trace", "view", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no folder traces: name a trace or a folder" in done.stderr


def test_where_it_cannot_be_written_beside_the_trace_it_goes_to_the_temp_folder(traces: Path, tmp_path: Path) -> None:
    (traces / "2026-run0.view.html").mkdir()
    (tmp_path / "temporary").mkdir()
    done = rao("trace", "view", "run0", cwd=traces.parent, env=environment(TMPDIR=str(tmp_path / "temporary")))
    page = Path(done.stdout.strip())
    assert page.is_relative_to(tmp_path / "temporary")
    assert data_of(page)["kind"] == "run"
