"""`rao run`, `eval`, `rollout`, `train`, `serve` and `doctor` with the folder of a model that rao did not write."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree, Node
from tests.weights.foreign import REWRITES, write_foreign

from .command import environment, rao, run_here
from .serving import serving

HOW = "runs in this process with torch (llama model, float32 on the CPU"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the folder `theirs`, of a model whose answers are noise."""
    write_foreign(tmp_path / "theirs", max_position_embeddings=8192)
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "RAO_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """`rao` in this process."""
    return lambda *arguments: run_here(monkeypatch, capsys, *arguments)


def test_run_says_in_one_line_how_it_runs_and_runs(there: Path, here: Here) -> None:
    status, out, err = here("run", "say hello", "--model", "theirs", "--max-steps", "2", "--max-tokens", "9000")
    assert (status, out) == (1, "")
    assert [line for line in err.splitlines() if "theirs" in line] == [
        line for line in err.splitlines() if line.startswith(f"rao: theirs {HOW}")
    ]
    assert "rao serve theirs" in err
    (path,) = trace_files(there / "traces")
    tree = ExecutionTree.load(path)
    assert tree.settings["prompt_style"] == "rich"
    assert all(step.model and step.model.token_ids for step in tree.root.steps)


def test_the_prompt_can_be_chosen(there: Path, here: Here) -> None:
    here(
        "run", "say hello", "--model", "theirs", "--max-steps", "1", "-q", "--prompt-style", "minimal", "--action-format",
        "tags",
    )  # fmt: skip
    (path,) = trace_files(there / "traces")
    settings = ExecutionTree.load(path).settings
    assert (settings["prompt_style"], settings["action_format"]) == ("minimal", "tags")
    status, _, err = here("run", "--demo", "--prompt-style", "rich")
    assert status == 2
    assert "the built-in model knows one prompt only" in err


def test_quiet_leaves_the_line_out(there: Path, here: Here) -> None:
    _, _, err = here("run", "say hello", "--model", "theirs", "--max-steps", "1", "--quiet")
    assert "torch" not in err


def test_eval_rollout_and_train_take_a_folder_without_agent_json_and_graph(there: Path, here: Here) -> None:
    """The policy that the package ships, as a model that rao never saw: it crafts when it is prompted as it was trained."""
    shutil.copytree(SHIPPED, there / "crafter", ignore=shutil.ignore_patterns("agent.json", "model.onnx"))
    how = "rao: crafter runs in this process with torch (qwen3 model, float32 on the CPU)"
    asked = ("textcraft", "--tasks", "2", "--level", "easy", "--model", "crafter", "--prompt-style", "minimal")
    status, out, err = here("eval", *asked, "--mode", "recursive", "--temperature", "0", "--json")
    assert status == 0, err
    assert how in err
    figures = json.loads(out)
    assert figures["model"] == "crafter"
    assert all(attempt["score"] == 1 for attempt in figures["attempts"])
    status, _, err = here("rollout", *asked, "--group", "3", "--out", "traces")
    assert status == 0, err
    assert how in err
    assert len(trace_files(there / "traces")) == 6
    status, _, err = here("score", "traces", "--with", "tests.cli.test_foreign:by_tokens", "--again")
    assert status == 0, err
    status, _, err = here("train", "traces", "--model", "crafter", "--out", "better", "--steps", "1")
    assert status == 0, err
    assert CheckpointSettings.load(there / "better").name == "crafter"


def by_tokens(node: Node) -> float:
    """A score that differs between attempts."""
    return sum(sum(step.model.token_ids or ()) for step in node.steps if step.model) % 97 / 97


@pytest.mark.parametrize("command", [("eval", "textcraft"), ("rollout", "textcraft"), ("run", "goal")])
def test_a_misspelt_folder_is_neither_a_folder_nor_an_endpoint(
    there: Path, here: Here, command: tuple[str, str]
) -> None:
    for name, says in (
        ("thiers", "neither a folder nor an endpoint for 'thiers' was found"),
        ("./thiers", "there is no such directory"),
    ):
        status, out, err = here(*command, "--model", name)
        assert (status, out) == (2, "")
        assert says in err
        assert err.count("\n") == 1
    (there / "empty").mkdir()
    status, _, err = here(*command, "--model", "empty")
    assert status == 2
    assert "empty contains no model: it has neither agent.json nor config.json" in err


def test_a_name_at_an_endpoint_is_not_a_folder_that_happens_to_have_it(there: Path, here: Here) -> None:
    status, _, err = here("run", "x", "--model", "theirs", "--base-url", "http://127.0.0.1:9/v1", "--quiet")
    assert status == 3, err
    assert "cannot be reached" in err or "127.0.0.1:9" in err


def test_serve_and_its_clients(there: Path) -> None:
    write_foreign(there / "rewriting", template=REWRITES, max_position_embeddings=8192)
    with serving("rewriting", "--engine", "embedded", "--port", "0", "--max-batch", "96", cwd=there) as server:
        url = server.url()
        assert url, server.errors
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        asked = {"model": "rewriting", "max_tokens": 5, "temperature": 0}
        chat = client.chat.completions.create(messages=[{"role": "user", "content": "hello"}], **asked)  # type: ignore[call-overload]
        assert chat.usage.completion_tokens == 5
        done = rao(
            "run", "say hello", "--model", "./rewriting", "--base-url", url, "--max-steps", "2", "--max-tokens", "9000",
            cwd=there, env=environment(),
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert "not finished" in done.stderr
        assert server.stop(signal.SIGTERM) == 0
    assert HOW in server.errors
    assert "changes earlier turns" in server.errors
    (path,) = trace_files(there / "traces")
    assert all(step.model and step.model.logprobs for step in ExecutionTree.load(path).root.steps)


def test_the_doctor_says_what_a_folder_is(there: Path) -> None:
    done = rao("doctor", "--model", "theirs", cwd=there, env=environment())
    assert "\nok    folder       theirs: a llama model of 8,192 tokens, without agent.json" in done.stdout
