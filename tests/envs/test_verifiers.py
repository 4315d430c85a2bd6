"""Tasksets of verifiers through a real child process, with a stand-in for the package; tests/adapters use the real one."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from rao_rl.envs import UnknownGoal, make, open_session
from rao_rl.envs.registry import about
from rao_rl.envs.verifiers import BridgeFailed, Verifiers, process
from rao_rl.envs.verifiers.session import VerifiersSession
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import rollout
from recursive_agent import ConfigurationError, Status
from recursive_agent.tools import Tool, ToolFailed

from .solving import Answered
from .worlds import caller

KEY = "56c17ccc50556156ea7e61e503ee3b5ac1226cf356f147181c9f7b1d48f8624e"
"""Of the first task."""
STUB = Path(__file__).parent / "verifiers_stub"

ONE_LOOP = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For tests that wait for processes: that both loops call the bridge alike is tested elsewhere."""


@pytest.fixture(autouse=True)
def _stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STUB))
    monkeypatch.setenv(process.VARIABLE, sys.executable)


@pytest.fixture(scope="module")
def shared() -> Iterator[Verifiers]:
    """One process for the tests that leave it alive."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(STUB))
        environment = Verifiers(taskset="sums-v1", python=sys.executable)
        list(environment.tasks("test"))
        yield environment
        environment.bridge.close()


def answered(result: Any, status: Status = Status.FINISHED, id: str = "0") -> Answered:
    return Answered(goal="", result=result, id=id, status=status)


async def call(session: VerifiersSession, name: str, *arguments: Any, node: str = "0") -> Any:
    (tool,) = (each for each in map(Tool, session.tools) if each.name == name)
    return await tool.call(caller(node), arguments, {})


def test_of_ten_tasks_in_a_row_one_is_a_test_and_one_validation(shared: Verifiers) -> None:
    tasks = {split: list(shared.tasks(split)) for split in shared.splits}
    assert {split: [task.data["index"] for task in found] for split, found in tasks.items()} == {
        "train": [*range(8), *range(10, 18)],
        "validation": [8, 18],
        "test": [9, 19],
    }
    assert tasks["test"][0].goal == "Answer with a number.\n\n9 + 18"
    assert tasks["test"][0].returns is str
    ids = [task.id for found in tasks.values() for task in found]
    assert len(set(ids)) == 20
    # The content makes the id, so it is the same on every machine.
    assert tasks["train"][0].id == f"verifiers/sums-v1/{KEY}"
    shuffled = list(shared.tasks("train", 3))
    assert shuffled == list(shared.tasks("train", 3)) != tasks["train"]
    assert list(shared.tasks("train", 3, limit=2)) == shuffled[:2]
    assert shared.task(tasks["test"][0].goal) == tasks["test"][0]
    with pytest.raises(UnknownGoal, match="a goal is the whole prompt of one of the tasks of sums-v1, not 'Sing'"):
        shared.task("Sing")


def test_the_answer_does_not_leave_the_other_process(shared: Verifiers) -> None:
    task = next(iter(shared.tasks("test")))
    assert dict(task.data) == {"index": 9, "test": False}
    assert "27" not in f"{task.goal} {task.context}"


def test_a_test_of_its_own_config_leaves_the_rest_for_training() -> None:
    environment = Verifiers(
        taskset="sums-v1", config='{"count": 12}', test_config='{"split": "test"}', most=11, prompt="context"
    )
    goals = {split: [task.context[-9:] for task in environment.tasks(split)] for split in environment.splits}
    assert [len(found) for found in goals.values()] == [10, 1, 11]
    assert goals["test"][0].endswith("100 + 0")
    (task,) = environment.tasks("test", limit=1)
    assert task.goal.startswith("Read `context`")
    assert anyio.run(environment.session(task).score, answered("100")) == 0.75
    environment.bridge.close()


@pytest.mark.anyio
async def test_rewards_score_the_root_and_nobody_else(shared: Verifiers) -> None:
    (task,) = shared.tasks("test", limit=1)
    session = shared.session(task)
    assert await session.score(answered("27")) == 0.75
    assert session.metrics(answered("27")) == {"messages": 3.0, "right": 1.0, "used_tool": 0.0}
    assert await session.score(answered("28")) == 0.0
    assert await session.score(answered(27)) == 0.75  # as the text that it is
    assert await session.score(answered("27", Status.STEP_LIMIT)) == 0.0
    assert await session.score(answered("27", Status.INFRA_ERROR)) is None
    assert await session.score(answered("27", id="0.1")) is None
    assert session.judgeable(answered("27", id="0.1"))


@pytest.mark.anyio
async def test_tools_are_called_there_and_rewards_see_the_calls(shared: Verifiers) -> None:
    (task,) = shared.tasks("test", limit=1)
    session = open_session(shared, task)
    assert isinstance(session, VerifiersSession)
    assert [Tool(each).signature for each in session.tools] == [
        "adder_add(number: int) -> Any",
        "adder_crash(how: str) -> Any",
    ]
    assert Tool(session.tools[0]).description == "Add a number to the first one."
    assert await call(session, "adder_add", 5, node="0.1") == {"sum": 14, "calls": 1}
    assert await call(session, "adder_add", 6) == {"sum": 15, "calls": 2}
    assert await call(shared.session(task), "adder_add", 6) == {"sum": 15, "calls": 1}  # of another attempt
    with pytest.raises(ToolFailed, match="LookupError: nothing here"):
        await call(session, "adder_crash", "raise")
    with pytest.raises(ToolFailed, match="valid integer"):
        await call(session, "adder_add", "five")
    assert [(each.node, each.tool) for each in session.ledger] == [
        ("0.1", "adder_add"),
        ("0", "adder_add"),
        ("0", "adder_crash"),
    ]
    assert await session.score(answered("27")) == 1.0
    assert session.metrics(answered("27"))["messages"] == 2 + 3 * 2 + 1


@pytest.mark.anyio
async def test_an_agent_with_a_sub_agent_solves_a_task(shared: Verifiers) -> None:
    def expert(goal: str, context: object) -> list[str]:
        if goal == "Call the tool.":
            return ["found = await adder_add(18)\nfinish(found['sum'])"]
        return ["finish(str(await launch_subagent('Call the tool.')))"]

    (task,) = shared.tasks("test", limit=1)
    result = await rollout(shared, task, ExpertModel(expert, MINIMAL))
    assert (result.output, {id: node.score for id, node in result.tree.nodes.items()}) == (
        "27",
        {"0": 1.0, "0.0": None},
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        ("raise", BridgeFailed, "the taskset sums-v1: its rewards failed .ZeroDivisionError: a faulty reward"),
        ("nan", ConfigurationError, "the reward nan is not a finite number"),
        (
            "much",
            ConfigurationError,
            "the reward 6 lies outside 0 to 1; give the lowest and the highest reward with --env-set",
        ),
    ],
)
async def test_a_reward_that_is_none_is_never_a_0(
    shared: Verifiers, reply: str, error: type[Exception], message: str
) -> None:
    (task,) = shared.tasks("test", limit=1)
    with pytest.raises(error, match=message):
        await shared.session(task).score(answered(reply))


@ONE_LOOP
@pytest.mark.anyio
async def test_what_dies_hangs_or_takes_too_long_costs_that_score_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.5)
    environment = Verifiers(taskset="sums-v1", timeout=20.0)
    (task,) = environment.tasks("test", limit=1)
    with pytest.raises(BridgeFailed, match="ended with status 9"):
        await environment.session(task).score(answered("die"))
    assert await environment.session(task).score(answered("27")) == 0.75  # by another process
    environment = Verifiers(taskset="sums-v1", timeout=0.5)
    environment._tools = {"{}": []}
    environment.bridge._alive()
    with pytest.raises(BridgeFailed, match=r"its rewards took longer than 0\.5 seconds"):
        await environment.session(task).score(answered("slow"))
    with pytest.raises(BridgeFailed, match=r"gave no answer within 1 seconds"):
        await environment.session(task).score(answered("hang"))
    environment.bridge.close()


@ONE_LOOP
@pytest.mark.anyio
async def test_a_process_that_dies_under_a_tool_leaves_the_tree_without_score() -> None:
    environment = Verifiers(taskset="sums-v1")
    (task,) = environment.tasks("test", limit=1)
    session, other = environment.session(task), environment.session(task)
    await call(other, "adder_add", 1)
    with pytest.raises(ToolFailed, match="ended with status 7; it said last: out of memory"):
        await call(session, "adder_crash", "die")
    with pytest.raises(ToolFailed, match="ended with status 7"):
        await call(session, "adder_add", 1)
    with pytest.raises(ToolFailed, match="was started anew and has forgotten what was done before"):
        await call(other, "adder_add", 1)
    for each in (session, other):
        assert not each.judgeable(answered("27"))
        with pytest.raises(BridgeFailed):
            await each.score(answered("27"))
    environment.bridge.close()


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("pair", "it is run by an environment of its own .Pair., which plays several agents or the user"),
        ("container", r"its tasks \(Container\) need a container"),
        ("setup", r"its tasks \(Prepared.setup\) prepare or read a runtime"),
        ("runtime", "its reward tests_pass needs the runtime that the answer was written in"),
        ("stop", r"watch every message of the model \(Stopping.enough is a @vf.stop\)"),
        ("state", r"its tools \(Counter\) keep a state that is shared with the harness \(Counted\)"),
        ("reserved", "a tool is called 'finish', which agents cannot write in Python or which rao uses itself"),
        ("no reward", "task 0 has no reward"),
        ("no prompt", "task 0 has no prompt: a simulated user opens the conversation"),
        ("image", r"task 1 needs a runtime \(image\)"),
        ("picture", "the prompt of task 0 has parts that are not text"),
        ("conversation", "goes on with a conversation .a message of role assistant"),
        ("none", "it has no tasks"),
        ("faulty", "its tasks cannot be read .FileNotFoundError: no such data set"),
        ("plain", "the taskset odd-v1 has no tasks for the split 'test'"),
    ],
)
def test_what_cannot_be_mapped_is_refused_before_any_attempt(
    odd: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAO_TEST_ODD", odd)
    environment = Verifiers(taskset="odd-v1")
    with pytest.raises(ConfigurationError, match=message):
        environment.tasks("test")
    environment.bridge.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"taskset": None}, "needs the name of a taskset: --env-set taskset=NAME"),
        ({"python": "/nowhere/python"}, "there is no Python that can be run at /nowhere/python"),
        ({"config": "count=3"}, "config must be a JSON object"),
        ({"config": "[3]"}, "config must be a JSON object"),
        ({"test_config": "3"}, "test_config must be a JSON object"),
        (
            {"low": 1.0},
            "low and high are the lowest and the highest reward, two numbers of which low is the smaller, not 1.0",
        ),
        ({"high": float("nan")}, "low and high"),
        ({"most": 0}, "most must be a whole number from 1 on, not 0"),
        ({"depth": -1}, "depth must be a whole number from 0 on"),
        ({"timeout": 0.0}, "timeout must be a number of seconds"),
        ({"mode": "both"}, "mode must be one of single, recursive"),
        ({"prompt": "file"}, "prompt must be one of goal, context"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make("verifiers", **{"taskset": "sums-v1", **arguments})


def test_without_a_python_it_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(process.VARIABLE)
    with pytest.raises(ConfigurationError, match="VF/bin/pip install verifiers"):
        Verifiers(taskset="sums-v1")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo Welcome; cat", "answered nonsense .'Welcome'"),
        ("echo nothing to run >&2; exit 3", "ended with status 3; it said last: nothing to run"),
        (
            'echo \'{"ready": false, "problem": "No module named verifiers"}\'',
            "has no verifiers that rao can use .No module",
        ),
        (
            'echo \'{"ready": true, "problem": null}\'; read line; echo \'{"id": 1, "error": "oh"}\'; cat',
            'answered nonsense .\'{"id": 1, "error": "oh"}\'',
        ),
        (
            'echo \'{"ready": true, "problem": null}\'; read line; echo \'{"id": 1, "value": 7}\'; cat >/dev/null',
            "answered nonsense .7",
        ),
    ],
)
def test_an_interpreter_that_is_none_is_named(tmp_path: Path, script: str, message: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    environment = Verifiers(taskset="sums-v1", python=str(python))
    with pytest.raises(ConfigurationError, match=message):
        environment.tasks("test")
    environment.bridge.close()


def test_a_python_without_verifiers_and_an_old_one_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"No module named 'verifiers'.*-m pip install 'verifiers>=0.4'"):
        Verifiers(taskset="sums-v1").tasks("test")
    (tmp_path / "verifiers").mkdir()
    (tmp_path / "verifiers" / "__init__.py").write_text("__version__ = '0.1.9'\n")
    with pytest.raises(ConfigurationError, match=r"verifiers 0\.1\.9 is too old"):
        Verifiers(taskset="sums-v1").tasks("test")


def test_unknown_tasksets_splits_and_tasks_of_others_are_refused(shared: Verifiers) -> None:
    other = Verifiers(taskset="no-such-set")
    with pytest.raises(ConfigurationError, match=r"there is no taskset 'no-such-set' .*; install it for"):
        other.tasks("test")
    other.bridge.close()
    faulty = Verifiers(taskset="sums-v1", config='{"colour": "red"}')
    with pytest.raises(ConfigurationError, match=r"it does not take this config: .*colour"):
        faulty.tasks("test")
    faulty.bridge.close()
    for wrong in ({"split": "dev"}, {"split": "test", "level": "hard"}, {"split": "test", "limit": -1}):
        with pytest.raises(ConfigurationError):
            shared.tasks(**wrong)  # type: ignore[arg-type]
    from rao_rl.envs import Task

    with pytest.raises(ConfigurationError, match="was not made by this environment"):
        shared.session(Task(id="x", goal="x"))


def test_it_is_listed_without_any_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(process.VARIABLE)
    described = about("verifiers")
    assert described is not None
    assert "RAO_VERIFIERS_PYTHON" in str(described.data)


def test_the_process_ends_with_its_environment() -> None:
    environment = Verifiers(taskset="sums-v1")
    environment.tasks("test")
    number = environment.bridge.generation
    os.kill(number, 0)
    del environment
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
