"""marble-v1, a taskset of the package registry, with the real verifiers: a marble falls past pieces that the agent places."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rao_rl.envs.verifiers import Verifiers
from rao_rl.envs.verifiers.process import VARIABLE
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import rollout
from recursive_agent import ConfigurationError, Status
from recursive_agent.tools import Tool
from tests.envs.solving import Answered
from tests.envs.worlds import caller

from .conftest import python_of

_SOLUTION = """
import json, sys, verifiers.v1 as vf
for task in vf.load_taskset(vf.taskset_config_type("marble-v1")(id="marble-v1")):
    if task.data.idx == int(sys.argv[1]):
        print(json.dumps([{**piece, "x": piece["x"], "y": piece["y"]} for piece in task.data.solution]))
        break
"""
_LOOKUP = '''
import verifiers.v1 as vf

class Config(vf.ToolsetConfig):
    pass

class Atlas(vf.Toolset[Config]):
    """Capitals."""

    @vf.tool
    async def capital(self, country: str) -> str:
        """The capital of a country."""
        return {"France": "Paris", "Peru": "Lima"}[country]

class Data(vf.TaskData):
    answer: str

class Question(vf.Task[Data]):
    @vf.reward(weight=0.5)
    async def right(self, trace: vf.Trace) -> float:
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=0.5)
    async def looked_up(self, trace: vf.Trace) -> float:
        return float(any(message.content == self.data.answer for message in trace.tool_messages))

    @vf.metric
    async def turns(self, trace: vf.Trace) -> float:
        return trace.num_turns

    @classmethod
    def toolsets(cls, config):
        return [Atlas(Config())]

class Settings(vf.TasksetConfig):
    countries: list[str] = ["France", "Peru"]

class Capitals(vf.Taskset[Question, Settings]):
    def load(self):
        for number in range(10):
            name = self.config.countries[number % len(self.config.countries)]
            answer = {"France": "Paris", "Peru": "Lima"}[name]
            yield Question(Data(prompt=f"The capital of {name}?", answer=answer), self.config.task)

__all__ = ["Capitals"]
'''


@pytest.fixture(scope="module")
def python() -> str:
    return python_of(VARIABLE, "verifiers")


@pytest.fixture(scope="module")
def marbles(python: str) -> Iterator[Verifiers]:
    environment = Verifiers(taskset="marble-v1", python=python, most=20)
    yield environment
    environment.bridge.close()


@pytest.mark.anyio
async def test_an_agent_is_scored_by_the_physics_of_the_taskset(python: str, marbles: Verifiers) -> None:
    tasks = list(marbles.tasks("test"))
    assert [task.data["index"] for task in tasks] == [9, 19]
    assert tasks[0].id == "verifiers/marble-v1/c13ef6c769e04a9f48817a0883a4a1722891616961ffd3ef6a0b1d5853e4f0d1"
    assert tasks[0].goal.startswith("A marble rolls off a fixed ramp")
    found = subprocess.run([python, "-c", _SOLUTION, "9"], capture_output=True, text=True, check=True).stdout
    assert json.dumps(json.loads(found)[0]["x"]) not in tasks[0].goal

    def expert(goal: str, context: object) -> list[str]:
        layout = f"```json\n{found.strip()}\n```"
        if goal == "Solve it.":
            return [f"finish({layout!r})"]
        return ["found = await launch_subagent('Solve it.')\nfinish(found)"]

    result = await rollout(marbles, tasks[0], ExpertModel(expert, MINIMAL))
    assert result.status is Status.FINISHED, result.reason
    assert {id: node.score for id, node in result.tree.nodes.items()} == {"0": 1.0, "0.0": None}
    session = marbles.session(tasks[0])
    moved = [{**piece, "y": piece["y"] - 4000} for piece in json.loads(found)]
    for answer in ("I do not know.", json.dumps(moved)):
        assert await session.score(Answered(goal="", result=answer)) == 0.0
    assert session.metrics(Answered(goal="", result=""))["answered_legally"] == 1.0


@pytest.mark.anyio
async def test_a_taskset_with_tools(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "capitals_v1.py").write_text(_LOOKUP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = Verifiers(taskset="capitals-v1", python=python, config='{"countries": ["Peru"]}')
    (task,) = environment.tasks("test")
    session = environment.session(task)
    (tool,) = map(Tool, session.tools)
    assert (tool.signature, tool.description) == ("atlas_capital(country: str) -> Any", "The capital of a country.")
    assert await session.score(Answered(goal="", result="Lima")) == 0.5
    assert await tool.call(caller("0.0"), ("Peru",), {}) == "Lima"
    assert await session.score(Answered(goal="", result="Lima")) == 1.0
    assert session.metrics(Answered(goal="", result="Lima")) == {"turns": 2.0, "right": 1.0, "looked_up": 1.0}
    environment.bridge.close()


@pytest.mark.parametrize(
    ("taskset", "config", "message"),
    [
        ("no-such-set", None, "there is no taskset 'no-such-set'"),
        ("marble-v1", '{"colour": "red"}', "it does not take this config: .*colour"),
        ("openenv", '{"base_url": "http://localhost:9"}', r"run by an environment of its own \(OpenEnvEnv\)"),
    ],
)
def test_what_cannot_be_run_is_refused(
    python: str, marbles: Verifiers, taskset: str, config: str | None, message: str
) -> None:
    environment = Verifiers(taskset=taskset, python=python, config=config)
    environment._usual = replace(environment._usual, bridge=marbles.bridge)  # its import of verifiers takes seconds
    with pytest.raises(ConfigurationError, match=message):
        environment.tasks("test")
