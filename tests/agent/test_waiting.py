"""While a run goes on, each agent says what it waits for: in the stream of events, and nowhere in the trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from recursive_agent import Event, ModelCalled, NodeEnded, Stream, Waiting
from recursive_agent.status import Activity
from recursive_agent.testing import Fault, Reply, Request, ScriptedEndpoint, by_goal
from recursive_agent.trace.activity import doing
from recursive_agent.trace.store import read_events
from recursive_agent.trace.tree import TreeBuilder
from tests.waiting import PATIENCE, until

from .helpers import agent_on, py

pytestmark = pytest.mark.anyio

TWO = py(
    """
    import asyncio
    finish(await asyncio.gather(launch_subagent('part a'), launch_subagent('part b')))
    """
)
DONE = py("finish(1)")


class Watched:
    """A run with all of its events so far, and the tree that they make."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.events: list[Event] = []
        self.builder = TreeBuilder()
        self.ended = False

    async def follow(self) -> None:
        async for event in self.stream:
            self.events.append(event)
            self.builder.add(event)
        self.ended = True

    def waits(self, activity: Activity | None = None) -> list[Waiting]:
        """The waits of agents so far."""
        found = (event for event in self.events if isinstance(event, Waiting) and event.node is not None)
        return [event for event in found if activity is None or event.activity is activity]

    def doing(self, node: str) -> Activity | None:
        """What an agent does now."""
        tree = self.builder.tree
        assert tree is not None
        now = doing(tree.nodes[node], tree)
        return None if now is None else now.activity

    def after(self, event: Event) -> list[Event]:
        """What came after an event."""
        return self.events[self.events.index(event) + 1 :]


class Held:
    """A part of a script that answers once it is opened."""

    def __init__(self, answer: str | Reply | Fault = DONE) -> None:
        self.answer: str | Reply | Fault = answer
        self.open = False
        self.asked = 0

    async def __call__(self, _: Request) -> str | Reply | Fault:
        self.asked += 1
        async with asyncio.timeout(PATIENCE):
            while not self.open:
                await asyncio.sleep(0.005)
        return self.answer


@asynccontextmanager
async def watched(script: Any, folder: Path, **settings: Any) -> AsyncIterator[Watched]:
    """Run the goal "root"; it ends after the block, and no wait is in its trace."""
    with ScriptedEndpoint(by_goal(script)) as endpoint, anyio.fail_after(2 * PATIENCE):
        agent = agent_on(endpoint, trace_dir=folder, **settings)
        async with agent.stream("root") as stream, anyio.create_task_group() as tasks:
            run = Watched(stream)
            tasks.start_soon(run.follow)
            yield run
            await until(lambda: run.ended)
    result = run.stream.result
    assert result.status.finished
    assert result.trace_path is not None
    assert not any(isinstance(event, Waiting) for event in read_events(result.trace_path))
    assert b'"waiting"' not in result.trace_path.read_bytes()
    tree = run.builder.tree
    assert tree is not None
    assert tree.waits == {}
    assert all(event.seconds is None or event.seconds >= 0 for event in run.waits())
    for event in run.waits():  # nothing is said about an agent before its start or after its end
        assert any(isinstance(later, NodeEnded) and later.node == event.node for later in run.after(event))


def has(run: Watched, activity: Activity) -> Callable[[], bool]:
    return lambda: bool(run.waits(activity))


async def test_an_agent_waits_for_a_slot_while_all_calls_that_may_be_under_way_are(tmp_path: Path) -> None:
    part = Held()
    async with watched({"root": TWO, "part": part}, tmp_path, max_concurrency=1) as run:
        await until(has(run, Activity.SLOT))
        (wait,) = run.waits(Activity.SLOT)
        assert wait.node in ("0.0", "0.1")
        assert wait.reason == "1 of 1 calls are under way"
        other = "0.1" if wait.node == "0.0" else "0.0"
        assert (run.doing(wait.node), run.doing(other)) == (Activity.SLOT, Activity.MODEL)
        assert run.doing("0") is Activity.SUBAGENTS
        part.open = True
    later = [event for event in run.after(wait) if isinstance(event, Waiting) and event.node == wait.node]
    assert [event.activity for event in later] == [Activity.MODEL]


async def test_an_agent_waits_for_budget_while_others_hold_it(tmp_path: Path) -> None:
    part = Held()
    settings: dict[str, Any] = {"max_tokens": 12_000, "sampling": {"max_tokens": 60_000}}
    async with watched({"root": TWO, "part": part}, tmp_path, **settings) as run:
        await until(has(run, Activity.BUDGET))
        (wait,) = run.waits(Activity.BUDGET)
        assert wait.node is not None
        assert run.doing(wait.node) is Activity.BUDGET
        assert wait.reason is not None
        assert wait.reason.startswith("it needs 6")
        assert wait.reason.endswith("are not held by other calls")
        part.open = True
    later = [event for event in run.after(wait) if isinstance(event, Waiting) and event.node == wait.node]
    assert [event.activity for event in later] == [Activity.MODEL]


async def test_a_call_that_failed_is_waited_for_until_it_is_made_again(tmp_path: Path) -> None:
    def root(request: Request) -> str | Fault:
        return Fault.http(500, "out of order") if request.index < 2 else DONE

    async with watched({"root": root}, tmp_path) as run:
        pass
    assert [event.activity for event in run.waits()] == [
        Activity.MODEL,
        Activity.RETRY,
        Activity.MODEL,
        Activity.RETRY,
        Activity.MODEL,
    ]
    for wait in run.waits(Activity.RETRY):
        assert wait.node == "0"
        assert "out of order" in (wait.reason or "")
        assert wait.seconds
    assert len([event for event in run.events if isinstance(event, ModelCalled)]) == 1


async def test_calls_that_are_held_back_by_a_rate_limit_say_so_and_the_whole_run_does(tmp_path: Path) -> None:
    part = Held(Fault.http(429, "slow down", headers={"Retry-After": "0.5"}))
    part.open = True
    async with watched({"root": TWO, "part": part}, tmp_path) as run:
        await until(lambda: {wait.node for wait in run.waits(Activity.RATE_LIMIT)} == {"0.0", "0.1"})
        assert all("slow down" in (wait.reason or "") for wait in run.waits(Activity.RATE_LIMIT))
        of_all = [event for event in run.events if isinstance(event, Waiting) and event.node is None]
        assert "slow down" in (of_all[0].reason or "")
        part.answer = DONE
    for node in ("0.0", "0.1"):
        last = [wait for wait in run.waits() if wait.node == node][-1]
        assert last.activity is Activity.MODEL


async def test_agents_of_a_paused_run_are_paused_until_it_goes_on(tmp_path: Path) -> None:
    root = Held()
    async with watched({"root": root}, tmp_path) as run:
        await until(lambda: root.asked)
        run.stream.pause()
        root.open = True
        await until(has(run, Activity.PAUSED))
        assert run.doing("0") is Activity.PAUSED
        run.stream.resume()
    begin, end = run.waits(Activity.PAUSED)
    assert (begin.node, begin.reason, end.reason) == ("0", "the run is paused", None)


async def test_who_waits_for_an_agent_of_another_says_for_which(tmp_path: Path) -> None:
    same = Held(py("finish(7)"))
    part = py("finish(await launch_subagent('the same'))")
    script = {"root": TWO, "part": part, "the same": same}
    async with watched(script, tmp_path, share_identical=True) as run:
        await until(has(run, Activity.SUBAGENTS))
        wait = run.waits(Activity.SUBAGENTS)[0]
        first, second = ("0.1", "0.0") if wait.node == "0.0" else ("0.0", "0.1")
        assert (wait.node, wait.reason) == (second, f"agent {first}.0")
        assert run.doing(second) is run.doing(first) is Activity.SUBAGENTS
        same.open = True
    assert [event.reason for event in run.waits(Activity.SUBAGENTS)] == [f"agent {first}.0", None]


async def test_a_run_that_nobody_watches_makes_no_such_events(tmp_path: Path) -> None:
    with ScriptedEndpoint(DONE) as endpoint:
        result = await agent_on(endpoint, trace_dir=tmp_path).solve("root")
    assert result.status.finished
    assert result.trace_path is not None
    assert b'"waiting"' not in result.trace_path.read_bytes()
