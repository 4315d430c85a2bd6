"""`rao trace export`: recorded runs as rows for other trainers, or one sentence that says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rao_cli.main import main

from recursive_agent.status import Status
from recursive_agent.trace.folder import trace_path
from recursive_agent.trace.schema import RunEnded, Scored
from recursive_agent.trace.store import TraceWriter
from recursive_agent.usage import Usage
from tests.trace.events import model_called, node_ended, node_started, run_started

from .command import rao

EXACT: dict[str, Any] = {"prompt_token_ids": [1, 2], "token_ids": [3, 4], "logprobs": [-0.5, -1.5], "version": "7"}


def record(
    folder: Path,
    run: str,
    *scores: float,
    group: str | None = "g",
    ended: bool = True,
    call: dict[str, Any] = EXACT,
) -> Path:
    """A run of a root and its children, one call each; as many scores as agents."""
    names = ["0", *(f"0.{number}" for number in range(max(0, len(scores) - 1)))]
    with TraceWriter(trace_path(folder, run, 100.0)) as writer:
        writer.append(run_started(run=run, group=group, interface="tokens"))
        for name in names:
            writer.append(node_started(name))
            writer.append(model_called(name, **call))
        if not ended:
            return writer.path
        for name in reversed(names):
            writer.append(node_ended(name))
        writer.append(RunEnded(time=1.0, status=Status.FINISHED, usage=Usage()))
        for name, score in zip(names, scores, strict=False):
            writer.append(Scored(time=2.0, node=name, score=score))
    return writer.path


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    record(folder, "good", 1.0, 1.0)
    record(folder / "deeper", "bad", 0.0, 0.0, 0.0)
    record(folder, "killed", ended=False)
    (folder / "killed-at-once.jsonl").touch()
    record(folder, "lonely", 1.0, group="other")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["rao", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err


def test_rows_are_written_and_what_was_left_out_is_told(traces: Path, tmp_path: Path) -> None:
    done = rao("trace", "export", "traces", "--out", "new/rows.parquet", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "new/rows.parquet\n")
    assert done.stderr == (
        "rao: 5 runs in 2 groups: 3 scored, 2 exported; left out: 2 cut off, 1 group too small\n"
        "rao: 6 agents: 6 scored, 5 exported; left out: 1 group too small\n"
        "rao: 5 rows: 20 tokens, 10 of them sampled\n"
    )
    rows = pq.read_table(tmp_path / "new" / "rows.parquet").to_pylist()
    # b = 0 for the good run, 1 for the bad one; N_0 = 2, N_1 = 3, so w_0 = 5/4 and w_1 = 5/6.
    told = [(row["rollout"], row["node"], row["advantage"], row["weight"]) for row in rows]
    assert sorted(told) == [
        ("bad", "0", -1.0, 5 / 4),
        ("bad", "0.0", -1.0, 5 / 6),
        ("bad", "0.1", -1.0, 5 / 6),
        ("good", "0", 1.0, 5 / 4),
        ("good", "0.0", 1.0, 5 / 6),
    ]
    assert all(
        (row["input_ids"], row["completion_mask"], row["old_log_probs"], row["model_version"], row["group_id"])
        == ([1, 2, 3, 4], [0, 0, 1, 1], [0.0, 0.0, -0.5, -1.5], "7", "g")
        for row in rows
    )


def test_the_options_are_those_of_credit_assignment(traces: Path, tmp_path: Path) -> None:
    options = ["--lambda", "0.5", "--baseline", "root_success", "--depth-weighting", "none"]
    done = rao("trace", "export", "--out", "rows.jsonl", *options, cwd=tmp_path)  # traces/ is what is read by default
    assert (done.returncode, done.stdout) == (0, "rows.jsonl\n")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    (root,) = [row for row in rows if (row["rollout"], row["node"]) == ("good", "0")]
    assert (root["advantage"], root["weight"], root["coefficient"]) == (1.5, 1.0, 1.5)
    done = rao("trace", "export", "--out", "rows.jsonl", "--reward", "root", "--max-length", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert "6 too long" in done.stderr
    assert done.stderr.endswith(
        "rao: no agent in traces can be trained on, for the reasons above, so no file was written\n"
    )
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 5


def text_only(folder: Path) -> None:
    record(folder, "text", 1.0, call={})


def other_version(folder: Path) -> None:
    path = record(folder, "newer", 1.0)
    path.write_text(path.read_text().replace('"schema_version":1', '"schema_version":2', 1))


def twice(folder: Path) -> None:
    path = record(folder, "twin", 1.0)
    path.with_name("copy.jsonl").write_bytes(path.read_bytes())


def unscored(folder: Path) -> None:
    record(folder, "a")
    record(folder, "b")


def one_attempt(folder: Path) -> None:
    record(folder, "a", 1.0, group="one")
    record(folder, "b", 0.0, group="two")


def cut_off(folder: Path) -> None:
    record(folder, "a", ended=False)


def nothing_to_learn(folder: Path) -> None:
    record(folder, "a", 1.0)
    record(folder, "b", 1.0)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (Path.mkdir, "contains no traces"),
        (text_only, "run text, agent 0, step 1: the trace lacks token ids"),
        (other_version, "line 1: the trace has schema version 2, this rao knows 1"),
        (twice, "are the same run"),
        (unscored, "no agent in traces has a score; give them one with `rao score traces`"),
        (one_attempt, "the largest group in traces has 1 attempt, but training compares at least 2"),
        (cut_off, "contains no complete run: 1 of its traces was cut off"),
        (nothing_to_learn, "left out: 2 zero advantage"),
    ],
)
def test_traces_that_teach_nothing_are_refused_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "traces")
    code, out, err = run(monkeypatch, capsys, "trace", "export", "traces", "--out", "rows.jsonl")
    assert (code, out) == (2, "")
    assert complaint in err
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (["--out", "rows.csv"], ".parquet or .jsonl files, not to rows.csv"),
        (["--baseline", "mean"], "--baseline must be root, root_success, depth, "),
        (["--lambda", "-1"], "delegation_bonus must be a number from 0 on"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: list[str], complaint: str
) -> None:
    code, out, err = run(monkeypatch, capsys, "trace", "export", "nowhere", *option)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1
