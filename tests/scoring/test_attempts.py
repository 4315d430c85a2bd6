"""A judge within attempts: it scores what the session cannot, keeps references to itself, and never turns a failure into 0."""

from __future__ import annotations

import json
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rao_rl.scoring.attempts import AttemptJudge, cast, questions_of
from rao_rl.scoring.calibration import Calibration
from recursive_agent.errors import AuthenticationFailed
from recursive_agent.scoring import assess
from recursive_agent.status import Status
from recursive_agent.testing import Request, ScriptedEndpoint
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.schema import Scored
from recursive_agent.trace.tree import ExecutionTree, Node

from ..cli.command import environment, rao, run_here
from ..data.trees import tree
from .test_judge import FAIL, KEY, PASS, judging

anyio_test = pytest.mark.anyio
GOLD = "the reference-answer"


class Unsure:
    """A session that knows the score of one sub-agent only, and the answer of the root."""

    tools = ()

    async def score(self, node: Node) -> float | None:
        return 0.25 if node.id == "0.0" else None

    def reference(self, node: Node) -> str | None:
        return GOLD


class Unfit(Unsure):
    """The search failed the second sub-agent, and so the root."""

    def judgeable(self, node: Node) -> bool:
        return node.id != "0.1"

    def reference(self, node: Node) -> str | None:
        return None


def attempt() -> Node:
    return tree(
        {"id": "0", "goal": "who wrote it?", "result": "somebody"},
        {"id": "0.0", "goal": "search the shelves", "result": 1},
        {"id": "0.1", "goal": "search the cellar", "result": 2},
        {"id": "0.2", "goal": "search the roof", "status": Status.INFRA_ERROR},
    ).root


async def scores(score: Callable[[Node], Awaitable[Scored]]) -> dict[str, Scored]:
    root = attempt()
    return {node.id: await score(node) for node in root.walk()}


@anyio_test
async def test_the_judge_scores_what_the_session_does_not_know_and_the_root_against_its_reference() -> None:
    async with judging(lambda request: PASS if GOLD in request.text("user") else FAIL) as (endpoint, judge):
        events = await scores(AttemptJudge(judge).scorer(Unsure()))
    assert {name: (event.score, event.status) for name, event in events.items()} == {
        "0": (1.0, "scored"),
        "0.0": (0.25, "scored"),
        "0.1": (0.0, "scored"),
        "0.2": (None, "unknown"),
    }
    assert events["0"].source == "judge scripted against the reference"
    assert events["0.1"].source == "judge scripted: it is wrong"
    assert not any(GOLD in event.source for event in events.values())
    assert [GOLD in request.text("user") for request in endpoint.requests].count(True) == 1
    assert len(endpoint.requests) == 2


@anyio_test
async def test_agents_that_must_not_be_judged_and_roots_without_a_reference_have_no_score() -> None:
    async with judging(PASS) as (endpoint, judge):
        events = await scores(AttemptJudge(judge).scorer(Unfit()))
    assert [events[name].status for name in ("0", "0.1")] == ["unknown", "unknown"]
    assert endpoint.requests == []


@anyio_test
async def test_a_judge_that_repeats_the_reference_instead_of_a_verdict_does_not_put_it_into_the_trace() -> None:
    async with judging(f"I think that {GOLD} is nonsense") as (_, judge):
        events = await scores(AttemptJudge(judge).scorer(Unsure()))
    assert [(events[name].score, events[name].status) for name in ("0", "0.1")] == [(None, "judge_error")] * 2
    assert GOLD not in events["0"].source


@anyio_test
async def test_a_judge_that_can_never_answer_ends_the_job_and_its_key_stays_out_of_the_trace() -> None:
    async with judging(PASS, api_key="another") as (_, judge):
        asked = AttemptJudge(judge, secrets=[KEY])
        events = await scores(asked.scorer(Unsure()))
    assert events["0"].status == "judge_error"
    assert not any(KEY in event.source for event in events.values())
    with pytest.raises(AuthenticationFailed):
        asked.check()


class Broken(Unsure):
    """The environment's code fails where it should say the answer."""

    def reference(self, node: Node) -> str | None:
        raise OSError("the answers are gone")


class Strict(Unsure):
    """One of the sub-agents checks another's work."""

    def trainable(self, node: Node) -> bool:
        return node.id != "0.1"


@anyio_test
@pytest.mark.parametrize("session", [Unsure(), Unfit(), Broken(), Strict()], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("calibrated", [False, True])
async def test_a_tree_that_was_scored_in_another_process_is_judged_like_one_of_this_process(
    session: Unsure, calibrated: bool
) -> None:
    def answer(request: Request) -> str:
        return PASS if GOLD in request.text("user") or "the shelves" in request.text("user") else FAIL

    def told(events: dict[str, Scored]) -> dict[str, tuple[float | None, str, str, bool]]:
        return {name: (each.score, each.status, each.source, each.trainable) for name, each in events.items()}

    counts = [Calibration(), Calibration()] if calibrated else [None, None]
    async with judging(answer) as (_, judge):
        here = await scores(AttemptJudge(judge, calibration=counts[0]).scorer(session))
        root = attempt()
        known = {}
        for node in root.walk():
            event = known[node.id] = cast(session, node, await assess(session.score, node))
            node.score, node.score_status, node.score_source = event.score, event.status, event.source
            node.trainable = event.trainable
        asked = pickle.loads(pickle.dumps(questions_of(session, root)))
        changed = await AttemptJudge(judge, calibration=counts[1]).judge_recorded(root, asked)
    assert told(known | {event.node: event for event in changed}) == told(here)
    assert "0" not in [event.node for event in changed[:-1]], "the score of the root is the last to be written"
    assert counts[0] == counts[1]


@anyio_test
async def test_a_run_that_was_stopped_before_its_scores_is_not_judged() -> None:
    async with judging(PASS) as (endpoint, judge):
        assert await AttemptJudge(judge).judge_recorded(attempt(), questions_of(Unsure(), attempt())) == []
    assert endpoint.requests == []


LIBRARY = """
from rao_rl.envs import Task

class Shelf:
    tools = ()
    async def score(self, node):
        return None
    def reference(self, node):
        return "the reference-answer" if node.parent is None else None
    def trainable(self, node):
        return node.goal != "Question 2"

class Library:
    name, max_depth, splits, levels = "library", 1, ("test",), ("all",)
    def tasks(self, split, seed=0, level=None, limit=None):
        return [Task(id=f"{n}", goal=f"Question {n}") for n in range(3)][:limit]
    def task(self, goal, seed=0):
        return Task(id=goal, goal=goal)
    def session(self, task):
        return Shelf()
"""


def answer(request: Request) -> str:
    """The agent answers, and the judge, whose prompt holds the reference, says that all but one are right."""
    if GOLD in request.text("user"):
        return FAIL if "Question 1" in request.text("user") else PASS
    return "```python\nfinish('an answer')\n```"


def test_an_evaluation_is_judged(tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(LIBRARY)
    with ScriptedEndpoint(answer) as endpoint:
        where = ["--base-url", endpoint.base_url, "--model", "scripted", "--mode", "single", "--trace-dir", "traces"]
        judge = ["--judge", "scripted", "--judge-base-url", endpoint.base_url]
        own = {**environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = rao("eval", "library:Library", *where, *judge, "--json", cwd=tmp_path, env=own)
        assert done.returncode == 0, done.stderr
        without = rao("eval", "library:Library", *where[:-2], "--json", cwd=tmp_path, env=own)
        assert without.returncode == 0, without.stderr
    assert {row["task"]: row["score"] for row in json.loads(done.stdout)["attempts"]} == {"0": 1.0, "1": 0.0, "2": 1.0}
    assert [row["score"] for row in json.loads(without.stdout)["attempts"]] == [None] * 3
    assert "the judge scripted read" in done.stderr
    files = list(trace_files(tmp_path / "traces"))
    assert len(files) == 3
    assert not any(GOLD in path.read_text() for path in files)
    roots = [ExecutionTree.load(path).root for path in files]
    assert {root.score_source for root in roots} == {"judge scripted against the reference"}
    assert {root.goal: root.trainable for root in roots} == {
        "Question 0": True,
        "Question 1": True,
        "Question 2": False,
    }


def test_the_url_of_a_judge_needs_its_model(tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(LIBRARY)
    with ScriptedEndpoint(answer) as endpoint:
        where = ["--base-url", endpoint.base_url, "--model", "scripted"]
        done = rao("eval", "library:Library", *where, "--judge-base-url", "http://x", cwd=tmp_path, env=environment())
    assert done.returncode == 2
    assert "--judge-base-url works with --judge only" in done.stderr


EXACT = """
from rao_rl.envs import About, NeedsJudge, Task

class Desk:
    tools = ()
    async def score(self, node):
        return float(node.goal != "Question 2")

class Library:
    name, max_depth, splits, levels = "library", 1, ("test",), ("all",)
    about = About(summary="answer", sizes={"test": 3}, needs_judge=NeedsJudge(sub_agents="some"))
    def tasks(self, split, seed=0, level=None, limit=None):
        return [Task(id=f"{n}", goal=f"Question {n}") for n in range(3)][:limit]
    def task(self, goal, seed=0):
        return Task(id=goal, goal=goal)
    def session(self, task):
        return Desk()
"""


def judged(request: Request) -> str:
    """The judge is wrong about one of three answers."""
    if "goal:" in request.text("user"):
        return FAIL if "Question 1" in request.text("user") else PASS
    return "```python\nfinish('an answer')\n```"


def test_a_judge_is_calibrated_where_scores_are_exact_and_its_absence_is_said(tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(EXACT)
    own = {**environment(), "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "120"}
    with ScriptedEndpoint(judged) as endpoint:
        where = ["library:Library", "--base-url", endpoint.base_url, "--model", "scripted", "--mode", "recursive"]
        judge = ["--judge", "scripted", "--judge-base-url", endpoint.base_url, "--calibrate"]
        done = rao("eval", *where, *judge, "--json", cwd=tmp_path, env=own)
        shown = rao("eval", *where, *judge, cwd=tmp_path, env=own)
        alone = rao("eval", *where, "--json", cwd=tmp_path, env=own)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["score"] for row in report["attempts"]] == [1.0, 1.0, 0.0], "exact scores stay in force"
    found = report["calibration"]
    assert (found["roots"]["both"], found["roots"]["judge_only"], found["roots"]["verifier_only"]) == (1, 1, 1)
    assert found["depths"]["0"] == found["all"] == found["roots"]
    assert found["all"]["accuracy"] == pytest.approx(1 / 3)
    assert 0 < found["all"]["accuracy_low"] < 1 / 3 < found["all"]["accuracy_high"] < 1
    assert "scripted against known scores" in shown.stdout
    assert "0.333" in shown.stdout
    assert "without --judge MODEL" not in done.stderr
    assert "library has no verifier for some sub-agents: without --judge MODEL these get no score" in alone.stderr
    assert "calibration" not in json.loads(alone.stdout)


def test_environments_say_whom_they_need_a_judge_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_here(monkeypatch, capsys, "eval", "--list", "--json")
    needs = {row["name"]: row["needs_judge"] for row in json.loads(out) if row["needs_judge"]}
    assert code == 0
    assert needs == {
        "deepdive": "sub-agents and some roots",
        "email": "sub-agents and some roots",
        "oolong-real": "sub-agents",
        "oolong-synth-public": "sub-agents",
    }
    assert "needed for sub-agents and some roots" in run_here(monkeypatch, capsys, "eval", "--list", "email")[
        1
    ].replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["eval", "maze", "--calibrate"], "--calibrate compares a judge with exact scores: name it with --judge MODEL"),
        (["rollout", "maze", "--judge-base-url", "http://x"], "--judge-base-url works with --judge only"),
        (["train", "t", "--model", "m", "--out", "o", "--judge", "m"], "--judge has no effect on"),
        (
            ["train", "--online", "--env", "maze", "--model", "m", "--out", "o", "--set", "judge.timeout=3"],
            "settings of the judge have no effect without one",
        ),
        (
            [
                "train",
                "--online",
                "--env",
                "maze",
                "--model",
                "m",
                "--out",
                "o",
                "--judge",
                "m",
                "--set",
                "judge.model=n",
            ],
            "--judge and --set judge.model are the same setting",
        ),
    ],
)
def test_options_of_a_judge_that_make_no_sense_are_one_sentence(
    arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_here(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert complaint in err
