"""Environments of OpenEnv servers, against a real websocket server; tests/adapters use a server of the real package."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from rao_rl.envs import Task, make, open_session
from rao_rl.envs.openenv import OpenEnv, ServerFailed
from rao_rl.envs.openenv.session import OpenEnvSession
from rao_rl.envs.registry import about
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import rollout
from recursive_agent import ConfigurationError, Status
from recursive_agent.tools import Tool, ToolFailed
from tests.waiting import until

from .openenv_server import Counting, counting
from .solving import Answered
from .worlds import caller


@pytest.fixture
def served() -> Iterator[tuple[Counting, str]]:
    with counting() as found:
        yield found


def ended(status: Status = Status.FINISHED, id: str = "0") -> Answered:
    return Answered(goal="", result="done", id=id, status=status)


async def call(session: OpenEnvSession, name: str, *arguments: Any, node: str = "0", **named: Any) -> Any:
    (tool,) = (each for each in map(Tool, session.tools) if each.name == name)
    return await tool.call(caller(node), arguments, named)


def first(environment: OpenEnv) -> OpenEnvSession:
    (task,) = environment.tasks("test", limit=1)
    session = open_session(environment, task)
    assert isinstance(session, OpenEnvSession)
    return session


def test_a_task_is_a_seed_and_splits_have_their_own(served: tuple[Counting, str]) -> None:
    environment = OpenEnv(url=served[1], reset='{"level": 2}')
    tasks = {split: list(environment.tasks(split)) for split in environment.splits}
    assert {split: len(found) for split, found in tasks.items()} == {"train": 512, "validation": 64, "test": 64}
    assert tasks["test"][0].id == "openenv/counting/test/0/0"
    assert dict(tasks["test"][0].data) == {"reset": {"seed": 293167442, "level": 2}}
    seeds = [task.data["reset"]["seed"] for found in tasks.values() for task in found]
    assert len(set(seeds)) == len(seeds)
    assert len(list(environment.tasks("test", limit=70))) == 70
    assert tasks["test"][0].goal.startswith("Act in the environment counting (Count to 10.) so that you get")
    assert next(iter(OpenEnv(url=served[1], goal="Count.").tasks("train"))).goal == "Count."
    assert environment.task("Go to 9.", 4).data["reset"]["level"] == 2


@pytest.mark.anyio
async def test_actions_are_typed_and_rewards_score_the_root(served: tuple[Counting, str]) -> None:
    world, url = served
    session = first(OpenEnv(url=url + "/ws"))
    assert [Tool(each).signature for each in session.tools] == [
        "observe() -> dict[str, Any]",
        "step(amount: int, way: Literal['up', 'down'] = 'up') -> Any",
    ]
    assert not world.seeds  # the episode begins when an agent calls a tool
    assert await call(session, "observe") == {"observation": {"count": 0}, "done": False}
    assert [each["seed"] for each in world.seeds] == [293167442]
    assert await call(session, "step", 4, node="0.1") == {"observation": {"count": 4}, "done": False}
    assert await call(session, "step", amount=2, way="down") == {"observation": {"count": 2}, "done": False}
    assert await call(session, "observe", node="0.0") == {"observation": {"count": 2}, "done": False}
    with pytest.raises(ToolFailed, match="valid integer"):
        await call(session, "step", "far")
    assert [(each.node, each.action, each.reward) for each in session.ledger] == [
        ("0.1", {"amount": 4, "way": "up"}, 0.4),
        ("0", {"amount": 2, "way": "down"}, 0.2),
    ]
    assert await session.score(ended(id="0.1")) is None
    assert await session.score(ended()) == pytest.approx(0.6)
    assert session.metrics(ended()) == {"actions": 2.0, "return": pytest.approx(0.6)}
    with pytest.raises(ToolFailed, match="the episode is over"):
        await call(session, "step", 1)  # by a call that outlived its tree


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "score"),
    [({"reward": "last"}, 0.2), ({"reward": "best"}, 0.4), ({"low": -1.0}, 0.8), ({"high": 2.0}, 0.3)],
)
async def test_a_return_and_its_range_are_said_by_arguments(
    served: tuple[Counting, str], arguments: dict[str, Any], score: float
) -> None:
    session = first(OpenEnv(url=served[1], **arguments))
    await call(session, "step", 4)
    await call(session, "step", 2)
    assert await session.score(ended()) == pytest.approx(score)


@pytest.mark.anyio
async def test_a_return_outside_the_range_is_refused_and_not_cut(served: tuple[Counting, str]) -> None:
    session = first(OpenEnv(url=served[1]))
    await call(session, "step", 12)
    with pytest.raises(
        ConfigurationError, match=r"the reward 1\.2 lies outside 0 to 1; give the lowest and the highest"
    ):
        await session.score(ended())


@pytest.mark.anyio
async def test_who_does_nothing_or_does_not_finish_has_0(served: tuple[Counting, str]) -> None:
    world, url = served
    environment = OpenEnv(url=url, low=-1.0)
    assert await first(environment).score(ended()) == 0.0
    session = first(environment)
    await call(session, "step", 10)
    with pytest.raises(ToolFailed, match="the episode is over: no further action is possible"):
        await call(session, "step", 1)
    assert await session.score(ended(Status.STEP_LIMIT)) == 0.0
    assert await session.score(ended(Status.INFRA_ERROR)) is None
    world.fault = "no rewards"
    session = first(environment)
    await call(session, "step", 1)
    assert await session.score(ended()) is None  # the episode is done, and the environment says nothing of it


@pytest.mark.anyio
async def test_a_tree_shares_its_episode(served: tuple[Counting, str]) -> None:
    def expert(goal: str, context: object) -> list[str]:
        if goal == "Go up.":
            return ["await step(3)\nfinish('went')"]
        return [
            "await launch_subagent('Go up.')\nawait launch_subagent('Go up.')\nseen = await observe()\nfinish(seen)"
        ]

    environment = OpenEnv(url=served[1])
    (task,) = environment.tasks("test", limit=1)
    result = await rollout(environment, task, ExpertModel(expert, MINIMAL))
    assert result.output == {"observation": {"count": 6}, "done": False}
    assert {id: node.score for id, node in result.tree.nodes.items()} == {
        "0": pytest.approx(0.6),
        "0.0": None,
        "0.1": None,
    }
    calls = [call.name for node in result.tree.nodes.values() for step in node.steps for call in step.calls]
    assert calls.count("step") == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # that both loops call tools alike is tested elsewhere
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nonsense", "answered nonsense .'<html>502</html>'"),
        ("list", "answered nonsense"),
        ("other kind", "answered 'state' where 'observation' was due"),
        ("no observation", "the server's answer is no observation"),
        ("nan", "the server's reward is not a finite number .nan"),
        ("text", "the server's reward is not a finite number .'good'"),
        ("broken", r"failed \(SESSION_ERROR: out of memory\)"),
        ("dies", "closed the connection"),
        ("slow", r"gave no answer within 1 seconds"),
    ],
)
@pytest.mark.parametrize("at", [0, 2])
async def test_a_server_out_of_order_is_nobodys_failure(
    served: tuple[Counting, str], fault: str, message: str, at: int
) -> None:
    world, url = served
    world.fault, world.at = fault, at
    environment = OpenEnv(url=url, timeout=30.0)
    environment._described()
    environment._timeout = 1.0 if fault == "slow" else 30.0
    session = first(environment)
    if at:
        await call(session, "step", 4)
    with pytest.raises(ToolFailed, match=message):
        await call(session, "step", 4)
    with pytest.raises(ToolFailed, match=message):
        await call(session, "observe") if at == 0 else await call(session, "step", 1)
    world.release.set()
    assert not session.judgeable(ended())
    with pytest.raises(ServerFailed, match=message):
        await session.score(ended())
    assert await session.score(ended(id="0.1")) is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "message"),
    [("refused", r"Invalid message \(amount: too much\)"), ("raised", "the wall is in the way")],
)
async def test_an_action_that_is_refused_is_told_to_the_agent(
    served: tuple[Counting, str], fault: str, message: str
) -> None:
    world, url = served
    session = first(OpenEnv(url=url))
    await call(session, "step", 3)
    world.fault, world.at = fault, 2
    with pytest.raises(ToolFailed, match=message):
        await call(session, "step", 4)
    world.fault = None
    await call(session, "step", 1)
    assert await session.score(ended()) == pytest.approx(0.4)


@pytest.mark.anyio
async def test_an_attempt_waits_for_a_place(served: tuple[Counting, str]) -> None:
    world, url = served
    world.places = 1
    environment = OpenEnv(url=url)
    one, two = first(environment), first(environment)
    await call(one, "step", 1)
    environment._timeout = 1.5
    full = first(environment)
    with pytest.raises(ToolFailed, match=r"had no place within 1\.5 seconds .*; run fewer attempts at once"):
        await call(full, "observe")
    with pytest.raises(ServerFailed):
        await full.score(ended())
    await one.score(ended())
    assert (await call(two, "observe"))["done"] is False
    await two.score(ended())


@pytest.mark.anyio
async def test_actions_that_are_calls_of_tools_become_tools(served: tuple[Counting, str]) -> None:
    world, url = served
    world.mcp = True
    session = first(OpenEnv(url=url, state=True))
    assert [Tool(each).name for each in session.tools] == ["observe", "go", "state"]
    assert await call(session, "go", 3) == 3
    assert world.asked[-1] == {"type": "call_tool", "tool_name": "go", "arguments": {"amount": 3}}
    assert await call(session, "state") == {"step_count": 1}
    with pytest.raises(ToolFailed, match="only up"):
        await call(session, "go", -1)
    assert await session.score(ended()) == pytest.approx(0.2)
    world.fault = "transport"
    session = first(OpenEnv(url=url))
    with pytest.raises(ToolFailed, match=r"cannot reach its tools \(lost\)"):
        await call(session, "go", 1)
    with pytest.raises(ServerFailed):
        await session.score(ended())


@pytest.mark.anyio
async def test_an_episode_that_nobody_scores_is_closed_all_the_same(served: tuple[Counting, str]) -> None:
    world, url = served
    session = first(OpenEnv(url=url))
    await call(session, "observe")
    assert world.open == 1
    del session

    def closed() -> bool:
        gc.collect()  # a frame that has just ended may still hold it
        return world.open == 0

    await until(closed)


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"metadata": None}, "is not one of OpenEnv: .*/metadata answers 404 and no JSON object"),
        ({"action": None}, "is not one of OpenEnv: its /schema has no action"),
        (
            {"action": {"properties": {"from": {"type": "string"}}}},
            "a parameter of the tool step is called 'from', which agents cannot write in Python",
        ),
    ],
)
def test_a_server_that_agents_cannot_use_is_refused_before_any_attempt(
    served: tuple[Counting, str], spoilt: dict[str, Any], message: str
) -> None:
    world, url = served
    for name, value in spoilt.items():
        setattr(world, name, value)
    with pytest.raises(ConfigurationError, match=message):
        OpenEnv(url=url).tasks("test")


def test_a_server_that_is_down_is_named_before_any_attempt() -> None:
    with counting() as (_, url):
        pass
    with pytest.raises(ConfigurationError, match=f"there is no server at {url} .*; start it, or name another"):
        OpenEnv(url=url).tasks("test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": None}, "openenv needs a running server: --env-set url=http://localhost:8000"),
        ({"url": "localhost:8000"}, "url must look like http://localhost:8000, not 'localhost:8000'"),
        ({"url": "http://localhost:port"}, "url must look like"),
        ({"reset": "seed=3"}, "reset must be a JSON object"),
        ({"reward": "mean"}, "reward must be one of sum, last, best"),
        ({"low": 2.0}, "low and high are the lowest and the highest reward"),
        ({"timeout": -1.0}, "timeout must be a number of seconds"),
        ({"depth": 1.5}, "depth must be a whole number"),
        ({"state": "yes"}, "state must be true or false"),
        ({"mode": "both"}, "mode must be one of"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make("openenv", **{"url": "http://127.0.0.1:9", **arguments})


def test_unknown_splits_and_tasks_of_others_are_refused(served: tuple[Counting, str]) -> None:
    environment = OpenEnv(url=served[1])
    for wrong in ({"split": "dev"}, {"split": "test", "level": "hard"}, {"split": "test", "limit": -1}):
        with pytest.raises(ConfigurationError):
            environment.tasks(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="was not made by this environment"):
        environment.session(Task(id="x", goal="x"))
    with pytest.raises(ConfigurationError, match="the goal is empty"):
        environment.task(" ")
    assert about("openenv") is not None
