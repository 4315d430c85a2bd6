"""The environment in docs/extending.md, run as the guide says: from a file beside the user, with every command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.testing import Request, ScriptedEndpoint
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree
from tests.cli.command import environment, rao
from tests.envs.coins import SMALLEST
from tests.train.policies import make_checkpoint, make_tokenizer

GUIDE = Path(__file__).parents[2] / "docs" / "extending.md"
GOAL = re.compile(r"Count '([a-z]+)' on the pages from ([0-9]+) up to ([0-9]+)")
MOST = 8
"""Pages that the scripted agents count themselves; of more they give each half to a sub-agent."""


def count(request: Request) -> str:
    """What a good agent answers: the code that counts, or that delegates."""
    asked = GOAL.search(request.first)
    assert asked is not None
    word, first, end = asked[1], int(asked[2]), int(asked[3])
    if end - first <= MOST:
        code = f"pages = [await read(at, at + 4) for at in range({first}, {end}, 4)]\n"
        return f"```python\n{code}finish(sum(text.split().count({word!r}) for text in pages))\n```"
    middle = (first + end) // 2
    goals = [f"Count {word!r} on the pages from {a} up to {b}" for a, b in ((first, middle), (middle, end))]
    return f"```python\nparts = await asyncio.gather(*map(launch_subagent, {goals!r}))\nfinish(sum(parts))\n```"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(count) as endpoint:
        yield endpoint


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the code blocks of the guide as `counting.py`, as a reader would save it."""
    (tmp_path / "counting.py").write_text("\n\n".join(blocks()))
    return tmp_path


def blocks() -> list[str]:
    """The environment, and what is added to it to demonstrate its tasks."""
    code, *more = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    return [code, *more]


def test_it_is_as_short_as_the_guide_promises() -> None:
    assert len(blocks()[0].splitlines()) <= 70


def test_a_model_imitates_its_demonstrations(place: Path) -> None:
    make_checkpoint(place / "start", make_tokenizer(), shape=SMALLEST)
    quick = ["--steps", "2", "--set", "imitation.bf16=false", "--set", "imitation.demonstrations=4"]
    given = ["--env", "counting:Taught", "--objective", "imitation", "--model", "start", "--out", "taught"]
    done = rao("train", *given, *quick, cwd=place, env=environment())
    assert (done.returncode, done.stdout) == (0, "taught\n"), done.stderr
    assert "demonstrations of counting fail" not in done.stderr
    settings = CheckpointSettings.load(place / "taught")
    assert settings.environment == EnvironmentSettings(name="counting:Taught")
    trees = [ExecutionTree.load(path) for path in trace_files(place / "taught" / "demonstrations" / "minimal-fenced")]
    assert len(trees) == 4
    assert all(node.score == 1.0 for tree in trees for node in tree.walk())
    assert max(tree.max_depth for tree in trees) == 3


def test_a_small_model_is_trained_from_nothing(place: Path) -> None:
    given = ["--env", "counting:Taught", "--out", "new", "--steps", "2", "--set", "imitation.demonstrations=2"]
    done = rao("train", *given, cwd=place, env=environment())
    assert (done.returncode, done.stdout) == (0, "new\n"), done.stderr
    settings = CheckpointSettings.load(place / "new")
    assert (settings.name, settings.prompt_style) == ("rao-counting", "minimal")
    assert settings.environment == EnvironmentSettings(name="counting:Taught")
    again = rao("train", *given, "--resume", cwd=place, env=environment())
    assert again.returncode == 0, again.stderr
    options = ["--model", "new", "--mode", "recursive", "--level", "short", "--tasks", "1", "--max-steps", "2"]
    measured = rao("eval", "counting:Counting", *options, cwd=place, env=environment())
    assert measured.returncode == 0, measured.stderr


def test_rollouts_are_recorded_with_a_score_for_every_agent(place: Path, endpoint: ScriptedEndpoint) -> None:
    options = [
        "--level",
        "long",
        "--tasks",
        "1",
        "--group",
        "2",
        "--model",
        "scripted",
        "--base-url",
        endpoint.base_url,
    ]
    done = rao("rollout", "counting:Counting", *options, "--json", cwd=place, env=environment())
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["rollouts"], counts["scored"], counts["solved"]) == (2, 2, 2)
    for path in trace_files(place / "traces"):
        tree = ExecutionTree.load(path)
        assert (tree.group, tree.max_depth) == ("counting/train/train/0/long/0", 2)
        assert [node.score for node in tree.walk()] == [1.0] * 7
        assert "seed" not in json.dumps(tree.root.goal)


def test_it_is_evaluated_by_its_own_levels(place: Path, endpoint: ScriptedEndpoint) -> None:
    options = ["--tasks", "1", "--mode", "recursive", "--model", "scripted", "--base-url", endpoint.base_url, "--json"]
    done = rao("eval", "counting:Counting", *options, cwd=place, env=environment())
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["summary"]
    assert [(row["level"], row["success"], row["depth"]) for row in rows] == [("short", 1.0, 0), ("long", 1.0, 2)]


def test_a_goal_from_outside_runs_with_its_tools_and_its_score(place: Path, endpoint: ScriptedEndpoint) -> None:
    options = ["--env", "counting:Counting", "--model", "scripted", "--base-url", endpoint.base_url]
    done = rao("run", "Count 'owl' on the pages from 0 up to 16", *options, cwd=place, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()
    assert "score 1" in done.stderr
    demo = rao("run", "--demo", "--seed", "3", *options, cwd=place, env=environment())
    assert (demo.returncode, "score 1" in demo.stderr) == (0, True), demo.stderr
    refused = rao("run", "Count the owls", *options, cwd=place, env=environment())
    assert refused.returncode == 2
    assert "a goal reads like \"Count 'owl'" in refused.stderr


def test_an_environment_needs_a_model_that_knows_it(place: Path) -> None:
    refused = rao("run", "--demo", "--env", "counting:Counting", cwd=place, env=environment())
    assert refused.returncode == 2
    assert "was not trained on counting:Counting; choose another model with --model" in refused.stderr


@pytest.mark.parametrize(
    ("removed", "complaint"),
    [
        (r"    levels = .*\n", 'lacks levels (the names of its levels, such as ("easy", "hard"))'),
        (
            r"    async def score(.|\n)*?return float.*\n",
            "the session of counting is not complete: Book lacks score(node)",
        ),
    ],
)
def test_what_is_missing_is_named(place: Path, endpoint: ScriptedEndpoint, removed: str, complaint: str) -> None:
    code = (place / "counting.py").read_text()
    (place / "counting.py").write_text(re.sub(removed, "", code, count=1))
    done = rao(
        *("eval", "counting:Counting", "--split", "test", "--tasks", "1", "--model", "scripted"),
        *("--base-url", endpoint.base_url),
        cwd=place,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") <= 1 or "Traceback" not in done.stderr
