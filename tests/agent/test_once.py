"""Identical goals of one tree, solved once (`Agent(share_identical=True)`)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from recursive_agent import ExecutionTree, NodeEnded, Status
from recursive_agent.once import key_of
from recursive_agent.testing import Reply, ScriptedEndpoint, by_goal
from recursive_agent.trace.node import LAUNCH
from tests.waiting import until

from .helpers import after, agent_on, observations, py

pytestmark = pytest.mark.anyio

BOTH = py("finish(await asyncio.gather(launch_subagent('left'), launch_subagent('right')))")


def asked(endpoint: ScriptedEndpoint, goal: str) -> int:
    """Conversations that were begun with this goal."""
    return sum(f"Goal: {goal}" in request.first and request.step == 0 for request in endpoint.requests)


@pytest.mark.parametrize("sandbox", ["process", "inprocess"])
@pytest.mark.filterwarnings("ignore::recursive_agent.TrustedCodeWarning")
async def test_two_askers_share_one_agent(tmp_path: Path, sandbox: str) -> None:
    changes = py(
        "got = await launch_subagent('same', context={'x': [1]}, returns=list[int])\ngot.append(9)\nfinish(got)"
    )
    script = by_goal({"root": BOTH, "left": changes, "right": changes, "same": py("finish([3])")})
    with ScriptedEndpoint(script) as endpoint:
        agent = agent_on(endpoint, share_identical=True, trace_dir=tmp_path, sandbox=sandbox)
        result = await agent.solve("root")
        assert asked(endpoint, "same") == 1
        assert result.usage.total_tokens == endpoint.ledger.total_tokens
    assert result.output == [[3, 9], [3, 9]]
    assert result.trace_path is not None
    for tree in (result.tree, ExecutionTree.load(result.trace_path)):
        first, second = sorted(tree.nodes["0"].children, key=lambda node: len(node.children), reverse=True)
        (own,) = first.children
        assert not second.children
        assert (tree.launches, tree.shared_launches, tree.refused_launches) == (3, 1, 0)
        calls = [[c for step in node.steps for c in step.calls if c.name == LAUNCH] for node in (first, second)]
        assert [(c.child, c.shared) for (c,) in calls] == [(own.id, False), (own.id, True)]
        assert tree.settings["share_identical"] is True
        assert tree.concurrent_share == pytest.approx(2 / 3)
        assert tree.critical_steps == 1 + 1 + 1
        assert tree.critical_path.seconds <= tree.duration


async def test_who_asks_later_gets_the_result_and_takes_no_place_in_the_tree() -> None:
    root = [
        py("a = await launch_subagent('same', max_steps=3)"),
        py("finish([a, await launch_subagent('same', max_steps=3)])"),
    ]
    with ScriptedEndpoint(by_goal({"root": root, "same": py("finish(5)")})) as endpoint:
        result = await agent_on(endpoint, share_identical=True, max_agents=2, max_children=1).solve("root")
    assert result.output == [5, 5]
    assert len(result.tree.nodes) == 2


async def test_it_is_off_by_default() -> None:
    root = py("finish([await launch_subagent('same'), await launch_subagent('same')])")
    with ScriptedEndpoint(by_goal({"root": root, "same": py("finish(5)")})) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert len(result.tree.nodes) == 3
    assert "share_identical" not in result.tree.settings


async def test_another_context_type_limit_or_model_is_another_goal() -> None:
    root = py(
        """
        calls = [dict(), dict(context=1), dict(context=True), dict(context=1.0), dict(returns=int), dict(max_steps=2),
                 dict(max_tokens=50_000), dict(model='other'), dict(), dict(max_steps=20)]
        finish(await asyncio.gather(*[launch_subagent('same', **call) for call in calls]))
        """
    )
    with ScriptedEndpoint(by_goal({"root": root, "same": py("finish(5)")}), models=["scripted", "other"]) as endpoint:
        result = await agent_on(endpoint, share_identical=True, models={"other": "other"}).solve("root")
    assert result.output == [5] * 10
    assert len(result.tree.nodes) == 1 + 8  # the last two ask for what the first asked for


async def test_those_who_wait_get_the_failure_and_who_asks_again_a_new_agent() -> None:
    catches = """
        calls = [asyncio.create_task(launch_subagent('same', max_steps=1)) for _ in range(2)]
        await both_wait()
        found = await asyncio.gather(*calls, return_exceptions=True)
        print([(type(e).__name__, e.status, e.message) for e in found])
        """
    root = [py(catches), py("finish(await launch_subagent('same', max_steps=1))")]
    tries: list[str] = []
    waiting = threading.Event()

    def same(request: object) -> str:
        tries.append("try")
        waiting.wait(30)  # else it might fail before the second one asks
        return py("finish(6)" if len(tries) > 1 else "print('no')")

    async def both_wait() -> None:
        waiting.set()

    with ScriptedEndpoint(by_goal({"root": root, "same": same})) as endpoint:
        result = await agent_on(endpoint, share_identical=True, tools=[both_wait]).solve("root")
    assert result.output == 6
    assert observations(result)[0].count("('SubagentError', 'step_limit'") == 2
    assert [node.status for node in result.tree.root.children] == [Status.STEP_LIMIT, Status.FINISHED]


async def test_a_goal_that_launches_itself_is_not_waited_for() -> None:
    again = py(
        """
        try:
            finish(1 + await launch_subagent('again'))
        except LaunchRefused:
            finish(1)
        """
    )
    with ScriptedEndpoint(by_goal({"root": again, "again": again})) as endpoint:
        result = await agent_on(endpoint, share_identical=True, max_depth=3).solve("root")
    assert result.output == 4
    assert result.tree.shared_launches == 0


async def test_agents_that_would_wait_for_each_other_do_not() -> None:
    """left asks for right and right for left, while both are under way."""

    def other(goal: str) -> list[str]:
        return [
            py(f"await here()\ntry:\n    finish(await launch_subagent('{goal}'))\nexcept LaunchRefused:\n    finish(0)")
        ]

    arrived: list[str] = []

    async def here() -> None:
        """Say that an agent is under way, and wait for two."""
        arrived.append("")
        await until(lambda: len(arrived) > 1)

    with ScriptedEndpoint(by_goal({"root": BOTH, "left": other("right"), "right": other("left")})) as endpoint:
        result = await agent_on(endpoint, share_identical=True, max_depth=3, tools=(here,), timeout=60).solve("root")
    assert result.status is Status.FINISHED
    assert result.tree.shared_launches >= 1


async def test_work_goes_on_for_the_second_asker_when_the_first_is_cancelled() -> None:
    root = py(
        """
        left = asyncio.create_task(launch_subagent('left', max_tokens=20_000))
        await seen('left')
        right = asyncio.create_task(launch_subagent('right'))
        await seen('right')
        left.cancel()
        await gone()
        finish(await right)
        """
    )
    asks = "work = asyncio.create_task(launch_subagent('same'))\nawait asyncio.sleep(0)\nawait say('{}')\nfinish(await work)"
    said: set[str] = set()
    ended: set[str] = set()

    async def say(name: str) -> None:
        """Say that the goal was asked for."""
        said.add(name)

    async def seen(name: str) -> None:
        """Wait until that was said."""
        await until(lambda: name in said)

    async def gone() -> None:
        """Wait until the left agent has ended."""
        await until(lambda: "0.0" in ended)

    async def left_has_ended() -> None:
        await until(lambda: "0.0" in ended)

    script = by_goal(
        {
            "root": root,
            "left": py(asks.format("left")),
            "right": py(asks.format("right")),
            "same": after(left_has_ended, Reply(py("finish(8)"))),
        }
    )
    with ScriptedEndpoint(script) as endpoint:
        agent = agent_on(endpoint, share_identical=True, tools=(say, seen, gone), max_tokens=100_000)
        stream = agent.stream("root")
        async for event in stream:
            if isinstance(event, NodeEnded):
                ended.add(event.node)
        assert asked(endpoint, "same") == 1
        billed = endpoint.ledger.total_tokens
    result = stream.result
    assert result is not None
    assert result.output == 8
    tree = result.tree
    assert [(node.id, node.status) for node in tree.walk()] == [
        ("0", Status.FINISHED),
        ("0.0", Status.CANCELLED),
        ("0.0.0", Status.FINISHED),
        ("0.1", Status.FINISHED),
    ]
    assert tree.nodes["0.0.0"].end > tree.nodes["0.0"].end
    assert tree.usage.total_tokens == billed
    assert tree.critical_path.seconds <= tree.duration
    assert tree.critical_steps <= tree.usage.calls


async def test_work_that_nobody_waits_for_is_cancelled() -> None:
    root = py(
        """
        calls = [asyncio.create_task(launch_subagent('same')) for _ in range(2)]
        await begun()
        for call in calls:
            call.cancel()
        await over()
        finish(1)
        """
    )
    ended: set[str] = set()

    async def begun() -> None:
        """Wait until the agent thinks."""
        await until(lambda: asked(endpoint, "same"))

    async def over() -> None:
        """Wait until it has ended."""
        await until(lambda: "0.0" in ended)

    async def never() -> None:
        await until(lambda: "0" in ended)

    with ScriptedEndpoint(by_goal({"root": root, "same": after(never, Reply(py("finish(8)")))})) as endpoint:
        stream = agent_on(endpoint, share_identical=True, tools=(begun, over)).stream("root")
        async for event in stream:
            if isinstance(event, NodeEnded):
                ended.add(event.node)
    assert stream.result is not None
    assert stream.result.output == 1
    assert [node.status for node in stream.result.tree.walk()] == [Status.FINISHED, Status.CANCELLED]


async def test_a_root_that_finishes_without_waiting_leaves_nothing_running() -> None:
    root = py("call = asyncio.create_task(launch_subagent('same'))\nawait asyncio.sleep(0)\nfinish(1)")
    with ScriptedEndpoint(by_goal({"root": root, "same": py("finish(8)")})) as endpoint:
        result = await agent_on(endpoint, share_identical=True).solve("root")
    assert result.output == 1
    assert not any(node.running for node in result.tree.walk())


def test_keys_are_of_the_contents() -> None:
    text = "x" * 5000
    assert key_of("g", {"a": [text, text]}) == key_of("g", {"a": ["x" * 5000, "".join("x" for _ in range(5000))]})
    assert len({key_of("g", value) for value in (1, 1.0, True, "1", b"1", None, [1], {"a": 1})}) == 8
    assert key_of(object()) is None
