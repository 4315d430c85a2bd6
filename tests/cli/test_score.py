"""`rao score`, as a process and in this one: what it prints, what it appends, and how it exits."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rao_cli.main import main

from recursive_agent.testing import Answer, Fault, Request, ScriptedEndpoint
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree
from tests.data.trees import events, write

from .command import KEY, environment, rao

APP = """
def score(node):
    return node.result == 'right'

async def careful(node):
    if node.result == 'odd':
        raise ValueError('odd \\x1b[31m result')
    return None if node.parent else 0.75

def percent(node):
    return 100

def broken(node):
    raise RuntimeError('no rules')
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two attempts at one task and one at another, a run that was cut off, and an application's scorer."""
    for name, goal, result in (("a", "one", "right"), ("b", "one", "wrong"), ("c", "two", "right")):
        nodes = ({"id": "0", "goal": goal, "result": result}, {"id": "0.0", "result": "odd"})
        write(tmp_path / "traces" / f"{name}.jsonl", events(*nodes, run=name))
    write(tmp_path / "traces" / "d.jsonl", events({"id": "0"}, run="d")[:-2])
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


class Here:
    """`rao score` in this process, which starts in no time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr("sys.path", list(sys.path))
        self._monkeypatch.delitem(sys.modules, "app", raising=False)
        self._monkeypatch.setattr("sys.argv", ["rao", "score", *arguments])
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as stopped:
            main()
        sys.modules.pop("app", None)
        captured = self._capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, captured.out, captured.err


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    return Here(monkeypatch, capsys)


def scores(folder: Path) -> list[float | None]:
    return [node.score for path in trace_files(folder / "traces") for node in ExecutionTree.load(path).walk()]


def test_an_applications_function_scores_its_runs(folder: Path) -> None:
    done = rao("score", "traces/", "--with", "app:score", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "6 agents of 3 runs scored, mean 0.333 (roots 0.667)",
        "1 run cut off, left",
        "2 groups of attempts at one task in 3 runs",
    ]
    assert "1 run of 3 without another attempt at the same task" in done.stderr
    assert scores(folder) == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, None]


def test_the_summary_as_json(here: Here) -> None:
    here("traces/a.jsonl", "--with", "app:score")
    code, out, _ = here("traces", "--with", "app:score", "--json")
    summary = json.loads(out)
    assert (code, summary["scored"], summary["kept"], summary["groups"], summary["alone"]) == (0, 4, 2, 2, 1)
    assert (summary["incomplete"], summary["mean"], summary["root_mean"]) == (1, 0.25, 0.5)


def test_a_scorer_that_fails_is_a_warning_and_the_rest_is_scored(here: Here, folder: Path) -> None:
    code, out, err = here("traces/a.jsonl", "--with", "app:careful")
    assert code == 0
    assert "rao: a.jsonl, agent 0.0: no score (ValueError: odd \\x1b[31m result)" in err
    assert "1 agent without a score: the scorer failed" in out
    assert scores(folder)[:2] == [0.75, None]
    code, _, _ = here("traces/a.jsonl", "--with", "app:score", "--again")
    assert (code, scores(folder)[:2]) == (0, [1.0, 0.0])


def test_a_scorer_that_always_fails_is_no_success(here: Here, folder: Path) -> None:
    code, out, _ = here("traces/", "--with", "app:broken", "--quiet")
    assert code == 1
    assert "6 agents without a score" in out
    assert set(scores(folder)) == {None}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give the traces to score"),
        (["traces"], "choose one scorer"),
        (["traces", "--with", "app:score", "--judge", "m"], "choose one scorer"),
        (["traces", "--with", "app:score", "--calibrate"], "work with --judge only"),
        (["traces", "--judge", "m", "--calibrate", "--again"], "leave out --again"),
        (["nowhere", "--with", "app:score"], "nowhere does not exist"),
        ([".", "--with", "app"], "module:function"),
        (["traces", "--with", "app:missing"], "app has no missing"),
        (["traces", "--with", "app:percent"], "100 is not a score: return a number between 0 and 1, or None"),
        (["traces", "--judge", "m"], "No endpoint is configured"),
        (["traces", "--judge", "m", "--base-url", "http://localhost:1/v1", "--cache", "."], "verdicts cannot be kept"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(here: Here, folder: Path, arguments: list[str], complaint: str) -> None:
    code, out, err = here(*arguments, "--quiet")
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1
    assert set(scores(folder)) == {None}


def test_a_folder_without_a_run_that_ended_is_no_success(here: Here) -> None:
    code, _, err = here("traces/d.jsonl", "--with", "app:score", "--quiet")
    assert code == 1
    assert "none of these traces holds a complete run" in err


# --- the judge ---


def verdict(request: Request) -> Answer:
    if "| odd" in request.text("user").partition("result:")[2]:
        return Fault.http(400, "flagged")
    right = "| right" in request.text("user")
    return json.dumps({"reason": "as it says", "success": right})


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(verdict, models=("judge-model",), api_key=KEY) as endpoint:
        yield endpoint


Judged = Callable[..., tuple[int, str, str]]


@pytest.fixture
def judged(here: Here, endpoint: ScriptedEndpoint) -> Judged:
    def run(*arguments: str) -> tuple[int, str, str]:
        return here(
            *("traces", "--judge", "judge-model", *arguments), OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY
        )

    return run


def test_a_judge_scores_and_is_asked_about_the_same_content_once(folder: Path, endpoint: ScriptedEndpoint) -> None:
    env = environment(OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY, XDG_CACHE_HOME=str(folder / "cache"))
    judge = ("score", "traces", "--judge", "judge-model")
    done = rao(*judge, "--concurrency", "1", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 agents of 3 runs scored, mean 0.667 (roots 0.667)")
    assert done.stderr.count("agent 0.0: no score (BadRequest: ") == 3
    assert scores(folder) == [1.0, None, 0.0, None, 1.0, None, None]
    source = ExecutionTree.load(folder / "traces" / "a.jsonl").root.score_source
    assert source == "judge judge-model: as it says"
    asked = len(endpoint.requests)
    assert (folder / "cache" / "rao" / "verdicts.db").is_file()
    rao(*judge, "--again", "--quiet", cwd=folder, env=env)
    others = endpoint.requests[asked:]
    assert others, "what failed is asked again"
    assert all("| odd" in request.text("user").partition("result:")[2] for request in others)


def test_calibration_prints_the_agreement_and_adds_nothing(here: Here, judged: Judged, folder: Path) -> None:
    (folder / "app.py").write_text("def score(node):\n    return node.goal == 'two' or None\n")
    here("traces", "--with", "app:score")
    here("traces/b.jsonl", "--with", "builtins:any")  # fails: no verifier's score
    before = [path.read_bytes() for path in trace_files(folder / "traces")]
    code, out, err = judged("--calibrate")
    assert code == 0, err
    one, none = ["1", "1", "0", "0", "0", "1.000", "0.21–1.00", "–"], ["0", "0", "0", "0", "0", "–", "–", "–"]
    assert [line.split() for line in out.splitlines()[3:]] == [
        ["roots", *one],
        ["sub-agents", *none],
        ["depth", "0", *one],
        ["leaves", *none],
        ["delegators", *one],
        ["all", *one],
    ]
    assert [path.read_bytes() for path in trace_files(folder / "traces")] == before
    _, out, _ = judged("--calibrate", "--json")
    assert json.loads(out)["all"]["accuracy"] == 1.0


def test_calibration_needs_scores_to_compare_with(judged: Judged) -> None:
    code, _, err = judged("--calibrate", "--quiet")
    assert code == 1
    assert "nothing to compare: no agent here finished and has a score but a judge's" in err


def test_a_judge_nobody_knows_is_one_sentence_and_the_key_is_kept(
    here: Here, folder: Path, endpoint: ScriptedEndpoint
) -> None:
    for model, key, complaint in (
        ("other", KEY, "has no model 'other'; on offer: judge-model"),
        ("judge-model", "sk-wrong-0123456789", "refused the API key"),
    ):
        code, out, err = here(
            *("traces", "--judge", model, "--base-url", endpoint.base_url, "--quiet"), OPENAI_API_KEY=key
        )
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert complaint in err
        assert key not in err
    assert set(scores(folder)) == {None}
