"""`rao trace` in process, on files written by the real writer."""

import json
import subprocess
from pathlib import Path

import pytest

from recursive_agent.model.base import Message
from recursive_agent.status import Status
from recursive_agent.trace.folder import trace_path
from recursive_agent.trace.schema import Event, HostCalled, RunEnded, Scored
from recursive_agent.trace.store import TraceWriter, append_events
from recursive_agent.usage import Usage
from tests.trace.events import cell_ran, model_called, node_ended, node_started, run_started

from .command import RAO, environment
from .command import run_here as run

RUN: list[Event] = [
    run_started(100.0, run="abc123", seed=4),
    node_started("0", 100.0, goal="write a \x1b[31mpoem", context={"style": "haiku"}),
    model_called(
        "0", 1, 100.0, 101.0, messages=(Message("system", "be brief"), Message("user", "a poem")), text="hm\x07"
    ),
    node_started("0.0", 101.0, goal="find a rhyme", step=1, call=1),
    node_ended("0.0", 102.0, status=Status.STEP_LIMIT, reason="20 steps were used"),
    HostCalled(
        time=102.0, node="0", step=1, call=1, started=101.0, name="launch_subagent", error="no rhyme", child="0.0"
    ),
    cell_ran(
        "0", 1, 101.0, 103.0, code="x = 1\nprint(x)", output="1\n", error="SubagentError: no rhyme", status="error"
    ),
    HostCalled(
        time=103.0, node="0", step=1, call=2, started=102.0, name="echo", kwargs={"a\x1b[31m": 1}, error="no \x1b[31m"
    ),
    node_ended("0", 104.0, result={"lines": ["a", "b"]}, usage=Usage(calls=1, prompt_tokens=10, completion_tokens=5)),
    RunEnded(time=104.0, status=Status.FINISHED, usage=Usage(calls=1)),
]


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "traces"
    with TraceWriter(trace_path(folder, "abc123", 100.0)) as writer:
        for event in RUN:
            writer.append(event)
    append_events(writer.path, [Scored(time=200.0, node="0", score=0.5, source="a judge\x1b[31m")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    return folder


@pytest.mark.parametrize("reference", [None, "traces", "abc123", "abc"])
def test_show_draws_every_agent_with_result_or_reason(
    traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reference: str | None
) -> None:
    code, out, _ = run(monkeypatch, capsys, "trace", "show", *([] if reference is None else [reference]))
    about, path, head, root, child = out.splitlines()
    assert code == 0
    assert "run abc123" in about
    assert "seed 4" in about
    assert path.startswith("critical path 2.0 s through 0 · 0% of launches concurrent")
    assert head.startswith("2 agents · depth 1 · 1 model call")
    assert all(part in root for part in ("✓ write a \\x1b[31mpoem [0.5]", '{"lines": ["a", "b"]}', "step 1", "15 tok"))
    assert all(part in child for part in ("└ ✗ find a rhyme", "20 steps were used", "step limit", "1.0 s"))


def test_show_node_tells_conversation_code_calls_and_output(
    traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, "trace", "show", "traces", "--node", "0")
    assert code == 0
    for part in ("be brief", "a poem", "hm\\x07", "print(x)", "SubagentError: no rhyme", '{"style": "haiku"}', "0.5"):
        assert part in out
    assert "launch_subagent() [agent 0.0] → raised no rhyme" in out
    assert "echo(a\\x1b[31m=1) → raised no \\x1b[31m" in out
    assert "scored by a judge\\x1b[31m" in out
    assert not any(c in out for c in "\x07\x1b")
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_show_json_is_the_tree_as_data(
    traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(monkeypatch, capsys, "trace", "show", "--json")
    data = json.loads(out)
    assert (data["run"], data["complete"], data["max_depth"]) == ("abc123", True, 1)
    root, child = data["nodes"]
    assert (root["result"], root["score"], root["children"]) == ({"lines": ["a", "b"]}, 0.5, ["0.0"])
    assert (child["status"], child["launched_at"]) == ("step_limit", {"step": 1, "call": 1})
    _, out, _ = run(monkeypatch, capsys, "trace", "show", "--json", "--node", "0")
    (step,) = json.loads(out)["steps"]
    assert step["cell"]["code"] == "x = 1\nprint(x)"
    assert step["model"]["messages"][0]["content"] == "be brief"


def test_ls_lists_good_and_bad_files(
    traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (traces / "zzz.jsonl").write_text("nonsense\n")
    code, out, _ = run(monkeypatch, capsys, "trace", "ls", "traces")
    _, good, bad = out.splitlines()
    assert code == 0
    assert all(part in good for part in ("finished", "abc123", "poem", "0.5"))
    assert all(part in bad for part in ("unreadable", "zzz.jsonl", "line 1"))
    _, out, _ = run(monkeypatch, capsys, "trace", "ls", "--json")
    good_data, bad_data = (json.loads(line) for line in out.splitlines())
    assert (good_data["run"], good_data["nodes"], good_data["score"]) == ("abc123", 2, 0.5)
    assert "not a trace" in bad_data["problem"]


def test_ls_and_show_reach_sub_folders_and_tell_the_state_of_each_file(
    traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = traces / "000001" / "more"
    with TraceWriter(trace_path(deeper, "dead1", 50.0)) as writer:
        for event in RUN[:2]:
            writer.append(event)
    (traces / "000001" / "zz-empty.jsonl").touch()
    with TraceWriter(trace_path(traces / "000001", "live1", 70.0)) as live:
        live.append(RUN[0])
        live.append(RUN[1])
        code, out, _ = run(monkeypatch, capsys, "trace", "ls", "traces")
        _, data, _ = run(monkeypatch, capsys, "trace", "ls", "traces", "--json")
        _, shown, _ = run(monkeypatch, capsys, "trace", "show", "live1")
    assert code == 0
    states = [line.split()[2] for line in out.splitlines()[1:4]]
    assert states == ["killed", "running", "finished"], "oldest first, whatever folder each is in"
    assert all(part in out.splitlines()[4] for part in ("killed", "zz-empty.jsonl", "empty"))
    told = [json.loads(line) for line in data.splitlines()]
    assert [each["state"] for each in told] == ["cut_off", "in_progress", "complete", "cut_off"]
    assert "still running" in shown
    _, shown, _ = run(monkeypatch, capsys, "trace", "show", "dead1")
    assert "no end was written" in shown


def test_ls_of_an_empty_folder_says_so_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(monkeypatch, capsys, "trace", "ls", str(tmp_path))
    assert (code, out) == (0, "")
    assert "no traces" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["show", "nowhere"], "is not a file, a folder, or the id of a run"),
        (["show", "traces", "--node", "0.7"], "no agent 0.7; the tree has 0, 0.0"),
        (["ls", "nowhere"], "cannot be read"),
        (["show", __file__], "not a trace of rao"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    traces: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    code, out, err = run(monkeypatch, capsys, "trace", *arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_a_reader_that_leaves_early_gets_no_traceback(traces: Path) -> None:
    with subprocess.Popen(
        [*RAO, "trace", "show"], cwd=traces.parent, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (1, b"")
