"""Scores for recorded runs: what is asked about, what is appended, what is left; and which runs form a group."""

import os
import random
import select
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from rao_rl.data.folder import trace_paths
from rao_rl.data.groups import group_of, group_sizes
from rao_rl.scoring.traces import Tally, load_scorer, score_traces, with_scorer
from recursive_agent.errors import ConfigurationError
from recursive_agent.scoring import Scorer
from recursive_agent.trace.schema import ROOT, Scored
from recursive_agent.trace.store import TraceWriter, in_progress, read_events
from recursive_agent.trace.tree import ExecutionTree, Node

from ..data.trees import events, tree, write

NODES = ({"id": "0", "result": 7}, {"id": "0.0", "result": 3}, {"id": "0.1", "result": 4})


def third(node: Node) -> float:
    return 1.0 if node.id == "0" else 0.25


async def score(*files: Path, by: Scorer = third, **settings: Any) -> Tally:
    return await score_traces(files, with_scorer(by, "mine:by"), **settings)


def scores(path: Path) -> list[tuple[str, float | None, str]]:
    return [(e.node, e.score, e.status) for e in read_events(path) if isinstance(e, Scored)]


@pytest.mark.anyio
async def test_every_agent_of_every_whole_tree_gets_a_score_and_nothing_is_rewritten(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.jsonl", events(*NODES, run=name)) for name in "ab"]
    before = [path.read_bytes() for path in paths]
    tally = await score(*paths)
    assert (tally.trees, tally.scored, tally.kept, tally.mean, tally.root_mean) == (2, 6, 0, 0.5, 1.0)
    for path, old in zip(paths, before, strict=True):
        assert path.read_bytes().startswith(old)
        assert scores(path) == [("0.0", 0.25, "scored"), ("0.1", 0.25, "scored"), ("0", 1.0, "scored")]
        assert ExecutionTree.load(path).root.score_source == "mine:by"


@pytest.mark.anyio
async def test_agents_with_a_score_are_left_unless_all_are_asked_about_again(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", events(*NODES, scores={"0.0": 1.0}))
    tally = await score(path)
    assert (tally.scored, tally.kept) == (2, 1)
    assert [node.score for node in ExecutionTree.load(path).walk()] == [1.0, 1.0, 0.25]
    size = path.stat().st_size
    assert (await score(path)).kept == 3
    assert path.stat().st_size == size, "a second time adds nothing"
    assert (await score(path, again=True)).scored == 3
    assert [node.score for node in ExecutionTree.load(path).walk()] == [1.0, 0.25, 0.25], "the last one counts"


@pytest.mark.anyio
async def test_what_nobody_could_tell_is_asked_again_and_said_once(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", events(*NODES))

    async def unsure(node: Node) -> float | None:
        return None if node.id == "0.0" else 0.5

    tally = await score(path, by=unsure)
    assert (tally.scored, tally.unknown) == (2, 1)
    size = path.stat().st_size
    assert (await score(path, by=unsure)).unknown == 1
    assert path.stat().st_size == size
    assert (await score(path)).scored == 1
    assert ExecutionTree.load(path).nodes["0.0"].score == 0.25


@pytest.mark.anyio
async def test_a_scorer_that_raises_costs_that_agent_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", events(*NODES))

    def fragile(node: Node) -> float:
        return 1 / (int(node.result) - 3) > 0

    lines: list[str] = []
    tally = await score(path, by=fragile, warn=lines.append)
    assert (tally.scored, tally.judge_errors) == (2, 1)
    assert lines == ["t.jsonl, agent 0.0: no score (ZeroDivisionError: division by zero)"]
    child = ExecutionTree.load(path).nodes["0.0"]
    assert (child.score, child.score_status) == (None, "judge_error")
    assert (await score(path)).scored == 1, "a scorer that was mended is asked again"


@pytest.mark.anyio
async def test_a_score_that_is_none_ends_it_and_leaves_the_tree_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", events(*NODES))
    with pytest.raises(ConfigurationError, match=r"7 is not a score"):
        await score(path, by=lambda node: node.result if node.id == "0" else 1.0)
    assert scores(path) == []


@pytest.mark.anyio
async def test_runs_under_way_and_runs_cut_off_are_counted_and_left(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.jsonl", events(*NODES))
    cut = write(tmp_path / "b.jsonl", events(*NODES)[:-2])
    empty = tmp_path / "c.jsonl"
    empty.touch()
    torn = tmp_path / "d.jsonl"
    torn.write_bytes(whole.read_bytes()[:20])
    bad = tmp_path / "e.jsonl"
    bad.write_text('{"kind": "run_started", "schema_version": 99}\n')
    lines: list[str] = []
    with TraceWriter(tmp_path / "f.jsonl") as writer:
        for event in events(*NODES):
            writer.append(event)
        before = {path: path.read_bytes() for path in trace_paths(tmp_path)}
        tally = await score(*before, warn=lines.append)
        assert in_progress(writer.path)
    assert (tally.trees, tally.left_out) == (1, {"cut_off": 3, "unreadable": 1, "in_progress": 1})
    assert [path for path, old in before.items() if path.read_bytes() != old] == [whole]
    assert len(lines) == 1
    assert "e.jsonl" in lines[0]
    assert "schema version 99" in lines[0]
    assert scores(cut) == []


@pytest.mark.anyio
async def test_secrets_do_not_reach_the_trace(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", events(*NODES))

    def leaky(_: Node) -> float:
        raise RuntimeError("the key sk-0123456789 was refused")

    await score(path, by=leaky, secrets=["sk-0123456789"])
    assert b"sk-0123456789" not in path.read_bytes()
    assert len(scores(path)) == 3


# --- the process may be killed at any instant ---

_ENDLESS = """
import sys, os, anyio
from pathlib import Path
from rao_rl.scoring.traces import score_traces, with_scorer
from rao_rl.data.folder import trace_paths

def score(node):
    os.write(1, b".")
    return 0.5

anyio.run(score_traces, trace_paths(Path(sys.argv[1])), with_scorer(score, "mine:score"))
"""


def test_scores_survive_a_kill_at_any_instant_and_the_next_run_completes_them(tmp_path: Path) -> None:
    many = [{"id": "0"}, *({"id": f"0.{number}"} for number in range(40))]
    paths = [write(tmp_path / f"{number:02}.jsonl", events(*many)) for number in range(30)]
    whole = {path: path.read_bytes() for path in paths}
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    chance = random.Random(5)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, str(tmp_path)], env=environment, cwd=root, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            left = chance.randrange(
                1, 400
            )  # an instant: so many agents on; the third time more than the trees at once have
            while left and (dots := os.read(process.stdout.fileno(), left)):
                left -= len(dots)
            select.select([], [], [], chance.random() * 0.01)
            process.send_signal(signal.SIGKILL)
        for path, old in whole.items():
            assert path.read_bytes().startswith(old)
            scored = {node for node, *_ in scores(path)}
            assert len(scored) == 41 or ROOT not in scored, "a tree with a scored root is scored as a whole"
    begun = sum(len(scores(path)) for path in paths)
    tally = anyio.run(partial(score, *paths))
    assert begun > 0
    assert tally.kept == begun
    assert all(len(scores(path)) == 41 for path in paths), "and never twice"


# --- the scorer's name ---


def test_a_scorer_is_found_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_scorer_a.py").write_text("class Rules:\n    def score(node): return 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_scorer("own_scorer_a:Rules.score").__name__ == "score"


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("app", "module:function"),
        ("app.py:score", "module:function"),
        ("app.parts:score", "the module app cannot be found"),
        (":score", "module:function"),
        ("app:", "module:function"),
        ("a-b:score", "module:function"),
        ("json:nothing", "json has no nothing"),
        ("math:pi", "must be a function"),
        ("own_scorer_b:f", "ModuleNotFoundError|No module named 'not_there'"),
        ("own_scorer_c:f", "importing own_scorer_c failed: ZeroDivisionError"),
        ("own_scorer_d:f", "importing own_scorer_d failed: SyntaxError"),
        ("own_scorer_e:f", "importing own_scorer_e failed: SystemExit"),
    ],
)
def test_a_scorer_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, complaint: str
) -> None:
    (tmp_path / "own_scorer_b.py").write_text("import not_there\n")
    (tmp_path / "own_scorer_c.py").write_text("1 / 0\n")
    (tmp_path / "own_scorer_d.py").write_text("def\n")
    (tmp_path / "own_scorer_e.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigurationError, match=complaint):
        load_scorer(reference)


# --- groups ---


def test_the_group_a_run_was_recorded_with_counts() -> None:
    assert group_of(tree({"id": "0"}, group="task-7")) == "task-7"


def test_attempts_at_the_same_task_share_a_group() -> None:
    def group(goal: str = "go", context: Any = None, **run: Any) -> str:
        return group_of(tree({"id": "0", "goal": goal, "context": context}, **run))

    assert group() == group(run="another", seed=4, model="n")
    assert group(context={"a": 1, "b": [2]}) == group(context={"b": [2], "a": 1})
    contexts: list[Any] = ["", "go", 0, False, [], {}, {"a": 1}, {"a": "1"}, {1: 1}, {"1": 1}, b"go"]
    contexts += [[["list"]], ["list"], ["bytes", "676f"], "\ud800", float("inf")]
    different = [group(), group("go on"), *(group(context=context) for context in contexts)]
    assert len(set(different)) == len(different)


def test_runs_without_another_attempt_are_counted() -> None:
    assert group_sizes(["a", "b", "a", "c"]) == (3, 4, 2)
    assert group_sizes([]) == (0, 0, 0)
