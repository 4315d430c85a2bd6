"""`rao run` with several models, and what `rao trace show` says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rao_cli.model_sets import parse_choose, parse_models

from recursive_agent import ConfigurationError, ModelChoice
from recursive_agent.testing import ScriptedEndpoint, by_goal

from .command import rao

ROOT = """```python
finish(await asyncio.gather(*[launch_subagent('count the words', context='a b') for _ in range(2)]))
```"""


def test_models_and_depths_are_read() -> None:
    assert parse_models(None) == {}
    assert parse_models(["fast=small, far=org/m:1@https://x.example/v1", "at=a@b"]) == {
        "fast": ModelChoice(model="small"),
        "far": ModelChoice(model="org/m:1", base_url="https://x.example/v1"),
        "at": ModelChoice(model="a@b"),
    }
    assert parse_choose(None) is None
    assert parse_choose("0=big, 1=fast") == {0: "big", 1: "fast"}


@pytest.mark.parametrize("text", ["fast", "=m", "fast=", "fast=@http://x/v1", "a=b,,c=d", "a=b,a=c"])
def test_wrong_models_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--models"):
        parse_models([text])


@pytest.mark.parametrize("text", ["fast", "x=fast", "1=", "-1=fast", "1.5=fast", ""])
def test_wrong_depths_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--choose"):
        parse_choose(text)


def test_a_run_of_two_models_with_a_shared_agent(tmp_path: Path) -> None:
    with (
        ScriptedEndpoint(by_goal({"the task": ROOT}), models=["large"]) as large,
        ScriptedEndpoint(by_goal({"count the words": "```python\nfinish(2)\n```"}), models=["small"]) as small,
    ):
        done = rao(
            *("run", "the task", "--model", "large", "--base-url", large.base_url, "--require", "none"),
            *("--models", f"fast=small@{small.base_url}", "--choose", "0=large,1=fast", "--share-identical"),
            cwd=tmp_path,
        )
        assert (done.returncode, done.stdout) == (0, "[2, 2]\n"), done.stderr
        assert len(small.requests) == 1
        assert f"fast {small.ledger.total_tokens:,}" in done.stderr
    assert "1 shared" in done.stderr
    (trace,) = (tmp_path / "traces").glob("*.jsonl")
    shown = rao("trace", "show", str(trace), cwd=tmp_path).stdout
    assert "large: the task" in shown
    assert "fast: count the words" in shown
    in_full = rao("trace", "show", str(trace), "--node", "0", cwd=tmp_path).stdout
    assert "[agent 0.0]" in in_full
    assert "[agent 0.0, shared]" in in_full


def test_a_demo_has_one_model(tmp_path: Path) -> None:
    done = rao("run", "--demo", "--models", "fast=m", cwd=tmp_path)
    assert done.returncode == 2
    assert "--models and --choose work only with a goal of your own" in done.stderr
