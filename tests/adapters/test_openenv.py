"""Servers of the real openenv-core: the package's own template, and an environment whose actions are calls of tools."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rao_rl.envs.openenv import OpenEnv, ServerFailed
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import AttemptSettings
from rao_rl.rollouts.many import PlannedAttempt, run_attempts
from recursive_agent import ConfigurationError
from recursive_agent.tools import Tool, ToolFailed
from tests.envs.solving import Answered
from tests.envs.worlds import caller

from .conftest import python_of

VARIABLE = "RAO_OPENENV_PYTHON"


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The server's URL, and its process."""
    command = [python_of(VARIABLE, "openenv"), str(Path(__file__).parent / "served.py"), kind, str(folder)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, subprocess.Popen[str]]]]:
    """Both, started together: most of the time goes into their imports."""
    with serving("template", tmp_path_factory.mktemp("template")) as one:
        with serving("tools", tmp_path_factory.mktemp("tools")) as two:
            yield {"template": one, "tools": two}


@pytest.mark.anyio
async def test_agents_act_in_the_template_one_after_the_other(
    servers: dict[str, tuple[str, subprocess.Popen[str]]],
) -> None:
    def expert(goal: str, context: object) -> list[str]:
        if goal == "Say it.":
            return ["seen = await step('hello')\nfinish(seen['observation']['echoed_message'])"]
        return ["await observe()\nsaid = await launch_subagent('Say it.')\nfinish(said)"]

    environment = OpenEnv(url=servers["template"][0])
    tasks = list(environment.tasks("test", limit=3))
    assert "Act in the environment" in tasks[0].goal
    assert Tool(environment.session(tasks[0]).tools[1]).signature == "step(message: str) -> Any"
    planned = [PlannedAttempt(task=task, group=task.id, seed=0) for task in tasks]
    # The template takes one session at a time, so two of the three wait for a place.
    results = await run_attempts(
        environment, planned, ExpertModel(expert, MINIMAL), AttemptSettings(concurrency=3), lambda _, result: result
    )
    assert [result.output for result in results] == ["hello"] * 3
    # Five characters, a tenth of a point for each.
    assert [{id: node.score for id, node in result.tree.nodes.items()} for result in results] == [
        {"0": 0.5, "0.0": None}
    ] * 3


@pytest.mark.anyio
async def test_what_the_template_refuses_and_a_return_outside_the_range(
    servers: dict[str, tuple[str, subprocess.Popen[str]]],
) -> None:
    environment = OpenEnv(url=servers["template"][0], state=True)
    (task,) = environment.tasks("test", limit=1)
    session = environment.session(task)
    step, state = (Tool(each) for each in session.tools[1:])
    await step.call(caller(), ("a message of more than ten characters",), {})
    assert (await state.call(caller(), (), {}))["step_count"] == 1
    with pytest.raises(ConfigurationError, match=r"the reward 3\.7 lies outside 0 to 1"):
        await session.score(Answered(goal="", result=""))


@pytest.mark.anyio
async def test_tools_of_an_environment_and_a_server_that_is_killed(
    servers: dict[str, tuple[str, subprocess.Popen[str]]],
) -> None:
    url, process = servers["tools"]
    environment = OpenEnv(url=url)
    (task,) = environment.tasks("test", limit=1)
    session, other = environment.session(task), environment.session(task)
    observe, turn = map(Tool, session.tools)
    assert (turn.signature, turn.description) == (
        "turn(digit: int) -> Any",
        "Try the next digit: whether it was right.",
    )
    assert (await observe.call(caller(), (), {}))["done"] is False
    for digit in str(task.data["reset"]["seed"])[-3:]:
        assert await turn.call(caller("0.1"), (int(digit),), {}) is True
    with pytest.raises(ToolFailed, match="the episode is over"):
        await turn.call(caller(), (1,), {})
    assert await session.score(Answered(goal="", result="")) == pytest.approx(1.0)
    with pytest.raises(ToolFailed, match="a digit is from 0 to 9"):
        await Tool(other.tools[1]).call(caller(), (12,), {})
    process.kill()
    with pytest.raises(ToolFailed, match="closed the connection"):
        await Tool(other.tools[1]).call(caller(), (1,), {})
    with pytest.raises(ServerFailed):
        await other.score(Answered(goal="", result=""))
    with pytest.raises(ConfigurationError, match="there is no server at"):
        OpenEnv(url=url).tasks("test")
