"""`rao eval --list`, `--compare`, `--repeat` and `--prices`, and what a newcomer gets wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from recursive_agent.testing import ScriptedEndpoint

from .command import environment, rao, run_here

MODULE = """
from rao_rl.envs import About, Task

class Session:
    tools = ()
    async def score(self, node): return 0.75 if "1" in node.goal else 1.0
    def metrics(self, node): return {"length": len(str(node.result))}

class Graded:
    about = About(summary="guess a number", sizes={"test": 4}, data="get it [here] first")
    name, max_depth, splits, levels = "graded", 1, ("test",), ("one", "two")
    def tasks(self, split, seed=0, level=None, limit=None):
        return [Task(id=f"{level}/{n}", goal=f"Guess {n}", level=level) for n in range(2)][:limit]
    def task(self, goal, seed=0): return Task(id=goal, goal=goal)
    def session(self, task): return Session()

class Silent(Graded):
    about = None

class Wrong(Graded):
    def session(self, task):
        session = Session()
        session.metrics = lambda node: 1 / 0
        return session
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rao_test_graded.py").write_text(MODULE)
    metadata = tmp_path / "rao_test_graded-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rao-test-graded\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[rao_rl.environments]\ngraded = rao_test_graded:Graded\nsilent = rao_test_graded:make\ngone = rao_nowhere:X\n"
    )
    (tmp_path / "rao_test_graded.py").write_text(f"{MODULE}\ndef make(): return Graded()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("```python\nfinish('nothing')\n```") as endpoint:
        yield endpoint


def test_every_environment_is_listed_with_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_here(monkeypatch, capsys, "eval", "--list")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert "graded agents guess a number splits test (4) levels one, two data get it [here] first" in words
    assert "levels easy, medium, hard, extreme data none: every task is generated" in words
    assert "silent no description" in words
    assert "'gone' cannot be loaded" in words
    listed = {item["name"]: item for item in json.loads(run_here(monkeypatch, capsys, "eval", "--list", "--json")[1])}
    assert (listed["textcraft"]["built_in"], listed["graded"]["built_in"]) == (True, False)
    assert (listed["graded"]["splits"], listed["graded"]["levels"]) == ({"test": 4}, ["one", "two"])
    assert listed["silent"]["summary"] is None
    (one,) = json.loads(run_here(monkeypatch, capsys, "eval", "graded", "--list", "--json")[1])
    assert one == listed["graded"]


def test_graded_scores_repeats_metrics_and_cost_are_reported_and_compared(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = len(endpoint.requests)
    command = ["eval", "graded", "--model", "scripted", "--base-url", endpoint.base_url, "--quiet"]
    command += ["--attempts", "a.jsonl", "--prices", "prompt=1,completion=2"]
    assert run_here(monkeypatch, capsys, *command)[0] == 0
    assert len(endpoint.requests) - asked == 8
    code, out, err = run_here(monkeypatch, capsys, *command, "--repeat", "2", "--out", "a.json", "--plots", "plots")
    assert (code, err, len(endpoint.requests) - asked) == (0, "", 16)  # the first of each are there
    assert len({request.seed for request in endpoint.requests[asked:]}) == 8  # both modes share them
    assert "Student's t" in out
    assert "Repeats" in out
    assert "length" in out
    assert "cost" in out
    rows = json.loads(Path("a.json").read_text())["summary"]
    assert {(row["success"], row["interval"], row["repeats"]) for row in rows} == {(0.875, "t", 2)}
    assert all(row["metrics"] == {"length": 7.0} and row["cost"] > 0 and row["critical_steps"] == 1 for row in rows)
    code, out, err = run_here(monkeypatch, capsys, "eval", "--compare", "a.jsonl", "a.json", "--plots", "plots")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "all recursive 4 0.88 0.88 +0.000" in " ".join(out.split())
    assert {"compare_single.png", "compare_recursive.png", "success.png"} <= {
        path.name for path in Path("plots").iterdir()
    }
    data = json.loads(run_here(monkeypatch, capsys, "eval", "--compare", "a.jsonl", "a.json", "--json")[1])
    assert [(row["mode"], row["tasks"], row["p"]) for row in data["differences"] if row["level"] == "all"] == [
        ("recursive", 4, 1.0),
        ("single", 4, 1.0),
    ]


def test_metrics_that_fail_are_missing_and_said_and_the_attempt_counts(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "rao_test_graded:Wrong", "--model", "scripted", "--base-url", endpoint.base_url, "--json"]
    code, out, err = run_here(monkeypatch, capsys, *command, "--tasks", "1", "--level", "one", "--mode", "single", "-q")
    assert code == 0
    (attempt,) = json.loads(out)["attempts"]
    assert (attempt["score"], attempt["metrics"]) == (1.0, {})
    assert "the metrics of Session are missing" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--compare", "nowhere", "nothing"], "nowhere cannot be read (No such file or directory)"),
        (["--compare", "rao_test_graded.py", "x"], "rao_test_graded.py is not a file of `rao eval --attempts`"),
        (["--compare", "x"], "--compare needs two values"),
        (["textcraft", "--compare", "x", "y"], "ENV has no effect with --compare; leave it out"),
        (["--list", "--tasks", "3"], "--tasks has no effect with --list; leave it out"),
        (["--list", "elsewhere"], "there is no environment 'elsewhere'"),
        (["--out", "rao_test_graded.py/x.json"], "x.json cannot be written"),
        (["--attempts", "rao_test_graded.py/x.jsonl"], "cannot be written"),
        (["--prices", "cheap"], "--prices takes prompt=P,completion=P"),
        (["--prices", "prompt=1"], "--prices takes prompt=P,completion=P"),
        (["--repeat", "0"], "--repeat must be at least 1"),
    ],
)
def test_what_a_newcomer_gets_wrong_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    code, out, err = run_here(monkeypatch, capsys, "eval", *arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_a_model_of_another_environment_is_said_to_be_one(tmp_path: Path) -> None:
    options = ["--tasks", "1", "--level", "2k", "--mode", "single", "--max-steps", "1"]
    done = rao("eval", "sequence", *options, cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr
    said = "rao-textcraft was trained for textcraft, not for sequence; --model or --base-url names another"
    assert said in done.stderr
    assert said not in rao("eval", "textcraft", "--level", "easy", *options[:2], cwd=tmp_path, env=environment()).stderr
