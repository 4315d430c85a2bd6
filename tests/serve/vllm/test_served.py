"""A checkpoint at an endpoint that serves it: the same agent as where it is run in this process."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from rao_cli.models import Checkpoint, find_checkpoint, open_model

from recursive_agent import Agent, ConfigurationError
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel
from recursive_agent.model.served import ServedCheckpoint
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree

from ...cli.command import environment, rao
from ..engine.engines import Served

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAO_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


async def test_an_agent_is_prompted_as_the_checkpoint_says(engine: Served) -> None:
    model = ServedCheckpoint(SHIPPED, f"{engine.url}/v1")
    here = EmbeddedModel()
    async with Agent(model) as agent:
        there, own = agent, Agent(here)
        assert (
            (there.prompt_style, there.action_format) == (own.prompt_style, own.action_format) == ("minimal", "fenced")
        )
        assert there.sampling == own.sampling
        assert await model.context_length() == await here.context_length()
    await model.aclose()


async def test_the_smaller_window_of_checkpoint_and_endpoint_counts(engine: Served, tmp_path: Path) -> None:
    for path in SHIPPED.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "agent.json").unlink()
    ServedCheckpoint(SHIPPED, f"{engine.url}/v1").settings.model_copy(update={"context_length": 96}).save(tmp_path)
    model = ServedCheckpoint(tmp_path, f"{engine.url}/v1")
    assert await model.context_length() == 96
    await model.aclose()


@pytest.mark.parametrize("arguments", [["--demo"], ["GOAL"]])
async def test_rao_run_solves_a_task_of_a_served_specialist(
    engine: Served, tmp_path: Path, arguments: list[str]
) -> None:
    """With `--model DIR --base-url URL`, and with the two variables that `rao serve` prints."""
    given: Any = ["--model", str(SHIPPED), "--base-url", f"{engine.url}/v1"]
    configured = environment()
    if arguments == ["GOAL"]:
        arguments, given = await _a_goal(tmp_path), []
        configured = environment(RAO_MODEL=str(SHIPPED), OPENAI_BASE_URL=f"{engine.url}/v1")
    done = await anyio.to_thread.run_sync(partial(rao, "run", *arguments, *given, cwd=tmp_path, env=configured))
    assert done.returncode == 0, done.stderr
    assert "Unclosed" not in done.stderr
    assert "served at" in done.stderr
    (path,) = trace_files(tmp_path / "traces")
    tree = ExecutionTree.load(path)
    assert (tree.interface, tree.settings["prompt_style"]) == ("tokens", "minimal")
    assert tree.root.score == 1.0
    call = tree.root.steps[0].model
    assert call is not None
    assert call.token_ids
    assert call.logprobs is not None


async def test_rollouts_and_evaluations_are_sampled_where_the_checkpoint_is_served(
    engine: Served, tmp_path: Path
) -> None:
    there = (
        "--model",
        str(SHIPPED),
        "--base-url",
        f"{engine.url}/v1",
        "--difficulty",
        "easy",
        "--tasks",
        "1",
        "--json",
    )
    made = partial(rao, "rollout", "textcraft", *there, "--group", "2", "--out", "rolled", cwd=tmp_path)
    done = await anyio.to_thread.run_sync(made)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored"] == 2
    for path in trace_files(tmp_path / "rolled"):
        tree = ExecutionTree.load(path)
        assert (tree.interface, tree.settings["prompt_style"]) == ("tokens", "minimal")
        assert all(step.model and step.model.logprobs for node in tree.nodes.values() for step in node.steps)
    tried = partial(rao, "eval", "textcraft", *there, "--mode", "recursive", cwd=tmp_path)
    done = await anyio.to_thread.run_sync(tried)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["interface"] == "tokens"


async def _a_goal(folder: Path) -> list[str]:
    """A goal of the world in which `rao run` without a seed sets its tasks."""
    call = partial(rao, "run", "--demo", "--trace-dir", "other", "--max-steps", "1", cwd=folder)
    await anyio.to_thread.run_sync(call)
    (path,) = trace_files(folder / "other")
    return [ExecutionTree.load(path).root.goal]


def test_which_checkpoint_a_command_line_means(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://localhost:8000/v1"
    assert find_checkpoint(str(SHIPPED), None) == Checkpoint(SHIPPED)
    assert find_checkpoint(str(SHIPPED), url) == Checkpoint(SHIPPED, url)
    assert find_checkpoint("gpt-5", url) is None
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    assert find_checkpoint(str(SHIPPED), None) == Checkpoint(
        SHIPPED
    )  # named alone it runs here, whatever is configured
    monkeypatch.setenv("RAO_MODEL", str(SHIPPED))
    assert find_checkpoint(None, None) == Checkpoint(SHIPPED, url)
    assert isinstance(open_model(), ServedCheckpoint)
    assert isinstance(open_model(str(SHIPPED)), EmbeddedModel)
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert isinstance(open_model(), EmbeddedModel)


def test_a_directory_that_is_no_checkpoint_takes_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"it has neither agent\.json nor config\.json"):
        ServedCheckpoint(tmp_path, "http://localhost:8000/v1")
