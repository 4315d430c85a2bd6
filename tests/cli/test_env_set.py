"""`--env-set`: arguments of an environment on the command line, and what every command records of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rao_rl.imitation.recorded import environment_of, read_successful
from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.testing import ScriptedEndpoint

from .command import run_here

EASY = "Craft the following items: 1x oak_frame"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("```python\nfinish('nothing')\n```") as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that the command ends with."""
    code, out, err = run_here(monkeypatch, capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def test_an_evaluation_records_them_and_goes_on_only_with_the_same(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "textcraft", "--model", "scripted", "--base-url", endpoint.base_url, "--level", "easy", "--json"]
    command += ["--tasks", "1", "--mode", "single", "--attempts", "a.jsonl", "--quiet", "--env-set", "names=fixed"]
    code, out, err = run_here(monkeypatch, capsys, *command)
    assert (code, err) == (0, "")
    assert json.loads(out)["environment_arguments"] == {"names": "fixed"}
    assert json.loads(out)["attempts"][0]["task"].startswith("textcraft/fixed/")
    assert run_here(monkeypatch, capsys, *command)[1] == out
    assert "environment arguments {'names': 'fixed'}, not {}" in refused(monkeypatch, capsys, *command[:-2])


def test_rollouts_are_named_by_them_and_a_model_trained_on_them_knows_them(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["rollout", "textcraft", "--model", "scripted", "--base-url", endpoint.base_url, "--level", "easy"]
    command += ["--tasks", "1", "--group", "2", "--quiet", "--out", "t", "--env-set", "mode=single"]
    assert run_here(monkeypatch, capsys, *command)[0] == 0
    assert "with --env-set mode=single, not no --env-set" in refused(monkeypatch, capsys, *command[:-2])
    learnt = environment_of(read_successful(Path("t"), threshold=0.0))
    assert learnt == EnvironmentSettings(name="textcraft", arguments={"mode": "single"})


def test_a_goal_is_run_in_the_environment_so_made(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--model", "scripted", "--base-url", endpoint.base_url]
    fixed = [*command, "--env", "textcraft", "--env-set", "names=fixed"]
    code, out, err = run_here(monkeypatch, capsys, *fixed, "Craft the following items: 1x m0_i1")
    assert (code, out) == (0, "nothing\n"), err
    assert "cannot be crafted in this world" in refused(monkeypatch, capsys, *fixed, EASY)
    assert "name it with --env" in refused(monkeypatch, capsys, *command, EASY, "--env-set", "names=fixed")


def test_they_go_over_those_of_a_specialist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = shutil.copytree(SHIPPED, tmp_path / "policy")
    settings = CheckpointSettings.load(policy)
    own = EnvironmentSettings(name="textcraft", arguments={"names": "fixed"})
    settings.model_copy(update={"environment": own}).save(policy)
    command = ["run", EASY, "--model", "./policy", "--max-steps", "1"]
    assert "m0_i" in refused(monkeypatch, capsys, *command)  # a world of fixed names
    assert "m0_i" not in run_here(monkeypatch, capsys, *command, "--env-set", "names=words")[2]
    wrong = refused(monkeypatch, capsys, *command, "--env-set", "nams=words")
    assert "textcraft has no argument 'nams'; did you mean names?" in wrong


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["eval", "--env-set", "colour=red"], "textcraft has no argument 'colour'; it takes names, mode, inventory"),
        (["rollout", "--env-set", "names=latin"], "--env-set names=latin: input should be 'words' or 'fixed'"),
        (["run", "--demo", "--env", "textcraft", "--env-set", "names"], "--env-set takes NAME=VALUE, not 'names'"),
        (["train", "traces", "--out", "o", "--env-set", "names=fixed"], "name it with --env"),
        (
            ["train", "--env", "textcraft", "--env-set", "names=5", "--model", "m", "--out", "o"],
            "input should be 'words' or 'fixed'",
        ),
        (["serve", "m", "--engine", "embedded", "--env-set", "names=fixed"], "--env-set works only with --agent"),
    ],
)
def test_what_the_environment_does_not_take_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert complaint in refused(monkeypatch, capsys, *arguments)
