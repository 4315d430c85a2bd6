"""However a run ends — cancelled, failed, left — nothing of it stays, and what there was is not lost."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from recursive_agent import AuthenticationFailed, ExecutionTree, ModelNotFound, NotFinished, Status
from recursive_agent.testing import Fault, Request, ScriptedEndpoint, by_goal, replies
from recursive_agent.trace.schema import Event, ModelCalled, NodeEnded, RunEnded, RunStarted
from tests.waiting import PATIENCE, until

from .helpers import after, agent_on, py

pytestmark = pytest.mark.anyio

DEEP = {
    "root": py("await asyncio.gather(launch_subagent('branch'), launch_subagent('spin'))"),
    "branch": py("await launch_subagent('hang')"),
    "spin": py("while True: pass"),
    "hang": Fault("hang"),
}


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_cancelling_solve_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    async def run() -> None:
        with ScriptedEndpoint(by_goal(DEEP)) as endpoint:
            async with anyio.create_task_group() as group:
                group.start_soon(agent_on(endpoint, trace_dir=tmp_path).solve, "root")
                await until(lambda: endpoint.ledger.running == 1 and len(endpoint.ledger.entries) == 4)
                group.cancel_scope.cancel()

    await run()  # the first run loads what stays loaded: event loop, resolver, SSL
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    await run()
    gc.collect()
    await until(lambda: not psutil.Process().children(recursive=True))
    await until(lambda: descriptors() <= before)
    await until(lambda: threading.active_count() <= threads + 1)
    for path in tmp_path.iterdir():
        tree = ExecutionTree.load(path)
        assert tree.complete
        assert {node.status for node in tree.walk()} == {Status.CANCELLED}


async def test_a_refused_key_is_one_sentence_and_stops_the_tree() -> None:
    asked = asyncio.Event()

    def slow(request: Request) -> Fault:
        asked.set()
        return Fault("hang")

    script = by_goal(
        {
            "root": py("await asyncio.gather(launch_subagent('refused'), launch_subagent('slow'))"),
            "refused": after(asked.wait, Fault.http(401, "bad key")),
            "slow": slow,
        }
    )
    with ScriptedEndpoint(script) as endpoint, anyio.fail_after(PATIENCE):
        with pytest.raises(AuthenticationFailed) as caught:
            await agent_on(endpoint).solve("root")
    assert "sk-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    tree = caught.value.result.tree  # type: ignore[attr-defined]
    assert {node.id: node.status for node in tree.walk()} == {
        "0": Status.CANCELLED,
        "0.0": Status.INFRA_ERROR,
        "0.1": Status.CANCELLED,
    }


async def test_an_unknown_model_is_one_sentence() -> None:
    with ScriptedEndpoint(replies([py("finish(1)")]), models=["other"]) as endpoint:
        with pytest.raises(ModelNotFound, match="scripted"):
            await agent_on(endpoint).solve("root")


async def test_usage_is_the_sum_over_nodes_and_the_endpoints_ledger() -> None:
    root = py("finish(sum(await asyncio.gather(*[launch_subagent('child') for _ in range(5)])))")
    script = by_goal({"root": root, "child": [py("x = 1"), py("finish(x)")]})
    for interface in ("chat", "tokens"):
        with ScriptedEndpoint(script) as endpoint:
            result = await agent_on(endpoint, interface=interface).solve("root")
        ledger = endpoint.ledger
        assert result.usage.calls == ledger.calls == 11
        assert result.usage.prompt_tokens == ledger.prompt_tokens
        assert result.usage.completion_tokens == ledger.completion_tokens
        assert result.usage.unconfirmed == 0
        assert sum(node.usage.total_tokens for node in result.tree.walk()) == ledger.total_tokens


@pytest.mark.parametrize("interface", ["chat", "tokens"])
async def test_what_a_dropped_answer_may_have_cost_stands_apart(interface: Any) -> None:
    with ScriptedEndpoint(replies([Fault("drop"), py("finish('second try')")])) as endpoint:
        result = await agent_on(endpoint, interface=interface).solve("go")
    assert result.output == "second try"
    assert result.usage.total_tokens == endpoint.ledger.total_tokens
    assert result.usage.unconfirmed >= endpoint.ledger.lost_tokens > 0


async def test_events_are_the_trace_and_the_tree(tmp_path: Path) -> None:
    script = by_goal({"root": py("finish(await launch_subagent('child'))"), "child": py("finish([1, 2])")})
    with ScriptedEndpoint(script) as endpoint:
        stream = agent_on(endpoint, trace_dir=tmp_path).stream("root")
        with pytest.raises(NotFinished):
            _ = stream.result
        events = [event async for event in stream]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunEnded)
    assert stream.result.output == [1, 2]
    assert stream.result.trace_path is not None
    loaded = ExecutionTree.load(stream.result.trace_path)
    rebuilt = ExecutionTree.from_events(events)
    for tree in (loaded, rebuilt):
        assert [(n.id, n.status, n.result, n.usage) for n in tree.walk()] == [
            (n.id, n.status, n.result, n.usage) for n in stream.result.tree.walk()
        ]
    assert "sk-secret" not in stream.result.trace_path.read_text()


async def test_leaving_the_stream_stops_the_run() -> None:
    with ScriptedEndpoint(by_goal(DEEP)) as endpoint:
        async with agent_on(endpoint).stream("root") as stream:
            async for event in stream:
                if isinstance(event, ModelCalled):
                    break
        assert not psutil.Process().children(recursive=True)
        await until(lambda: endpoint.ledger.running == 0)


async def test_a_stream_that_nobody_holds_stops_too() -> None:
    with ScriptedEndpoint(by_goal(DEEP)) as endpoint:
        stream = agent_on(endpoint).stream("root")
        async for event in stream:
            if isinstance(event, ModelCalled):
                break
        assert stream._task is not None
        ended = stream._task.ended
        del stream
        gc.collect()
        with anyio.fail_after(PATIENCE):
            await ended.wait()
        assert not psutil.Process().children(recursive=True)


async def test_an_error_of_the_run_comes_out_of_the_stream() -> None:
    with ScriptedEndpoint(replies([Fault.http(401, "no")])) as endpoint:
        events: list[Event] = []

        async def watch() -> None:
            async for event in agent_on(endpoint).stream("root"):
                events.append(event)

        with pytest.raises(AuthenticationFailed):
            await watch()
    ended = next(event for event in events if isinstance(event, NodeEnded))
    assert ended.status is Status.INFRA_ERROR
