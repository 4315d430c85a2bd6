"""Watching a training run from the command line: the page as a file, and served while runs go on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from .command import environment, run_here


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows = [{"step": step, "reward": 0.1 * step, "loss": 0.5} for step in range(4)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "foreign").mkdir()
    return tmp_path


def data_of(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])["training"]  # type: ignore[no-any-return]


def test_a_page_of_runs_is_one_file_that_needs_nothing_else(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plot", "a", "b", "--label", "one", "--label", "other", "--page", "new/t.html"]
    assert run_here(monkeypatch, capsys, *command) == (0, "new/t.html\n", "")
    page = Path("new/t.html").read_text()
    training = data_of(page)
    assert [run["label"] for run in training["runs"]] == ["one", "other"]  # type: ignore[attr-defined]
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:)', page)


def test_trace_view_shows_the_folder_of_a_training_run(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(monkeypatch, capsys, "trace", "view", "a") == (0, "a/training.view.html\n", "")
    page = Path("a/training.view.html")
    assert [run["label"] for run in data_of(page.read_text())["runs"]] == ["a"]  # type: ignore[attr-defined]
    assert page.stat().st_mode & 0o777 == 0o600
    code, out, err = run_here(monkeypatch, capsys, "trace", "view", "a", "--out", "-")
    assert (code, err) == (0, "")
    assert out == page.read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["plot", "a"], "say what to make: --out DIR for charts, --page FILE for a page, or --view"),
        (["plot", "a", "--page", "t.html", "--view-port", "8000"], "--view-port is the port of the page of --view"),
        (
            ["plot", "foreign", "--page", "t.html"],
            "foreign is not the folder of a training run: it contains no metrics",
        ),
        (["plot", "nowhere", "--view"], "nowhere is not the folder of a training run: there is no such folder"),
        (["plot", "a", "--page", "a"], "a cannot be written"),
        (["trace", "view", "a", "--set", "credit.baseline=goal"], "a is a training run, whose page has no credit"),
        (["trace", "view", "a", "--port", "1"], "--port is the port of --serve"),
        (["trace", "view", "a", "--serve", "--out", "t.html"], "--serve takes no --out"),
        (["train", "a", "--model", "m", "--out", "o", "--view-port", "1"], "--view-port is the port of the page of"),
        (
            ["train", "a", "--model", "m", "--out", "o", "--report-to", "none", "--set", "update.report_to=wandb"],
            "--report-to and --set update.report_to are the same setting",
        ),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    code, out, err = run_here(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_the_page_is_served_until_ctrl_c(runs: Path) -> None:
    command = [sys.executable, "-m", "rao_cli", "plot", ".", "--view"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stderr is not None
        found = re.search(r"watch the training at (http://127\.0\.0\.1:\d+/\S+)", process.stderr.readline())
        assert found is not None
        process.stderr.readline()  # it listens for Ctrl-C now
        with urllib.request.urlopen(found[1], timeout=60) as answer:
            training = data_of(answer.read().decode())
        assert len(training["runs"]) == 2  # type: ignore[arg-type]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
