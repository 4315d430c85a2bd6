"""A tree on two endpoints of the same model, one of which is killed under it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from recursive_agent import Agent, ExecutionTree, Limits, Status
from recursive_agent.testing import Answer, Request, ScriptedEndpoint
from tests.waiting import until

from .helpers import py

CHILDREN = 16
ROOT = py("results = await asyncio.gather(*(launch_subagent(f'part {n}') for n in range(16)))\nfinish(sum(results))")
pytestmark = pytest.mark.anyio


class Killed:
    """Two endpoints; the one with more work is killed once every child's first call is under way."""

    def __init__(self) -> None:
        self.endpoints: Sequence[ScriptedEndpoint] = [ScriptedEndpoint(self.answer) for _ in range(2)]
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def victim(self) -> ScriptedEndpoint:
        return max(self.endpoints, key=lambda endpoint: len(endpoint.requests))

    def _begun(self) -> int:
        requests = [request for endpoint in self.endpoints for request in tuple(endpoint.requests)]
        return len({request.first for request in requests if "part" in request.first})

    async def answer(self, request: Request) -> Answer:
        if "part" not in request.first:
            return ROOT if request.step == 0 else py("finish(sum(results))")
        await until(lambda: self._begun() == CHILDREN)
        with self._lock:
            if self._thread is None:
                self.killed = self.victim
                self._thread = threading.Thread(target=self.killed.stop)
                self._thread.start()
        if request in self.killed.requests:
            await anyio.sleep_forever()  # its end is that of its server
        return py("finish(1)")


async def test_a_replica_killed_in_mid_tree_costs_its_calls_and_not_the_run(tmp_path: Path) -> None:
    killed = Killed()
    first, second = killed.endpoints
    with first, second:
        agent = Agent(
            "scripted",
            [first.base_url, second.base_url],
            "sk-secret-of-the-test",
            limits=Limits(max_children=CHILDREN, max_concurrency=CHILDREN),
            trace_dir=tmp_path,
        )
        result = await agent.solve("the whole")
    assert result.status is Status.FINISHED
    assert result.output == CHILDREN
    assert result.usage.total_tokens == first.ledger.total_tokens + second.ledger.total_tokens
    assert result.usage.unconfirmed >= killed.killed.ledger.lost_tokens > 0
    # The record says who answered, and holds no key.
    assert result.trace_path is not None
    tree = ExecutionTree.load(result.trace_path)
    calls = [call for node in tree.walk() for call in node.model_calls]
    assert {call.endpoint for call in calls} <= {first.base_url, second.base_url}
    assert sum(call.attempts for call in calls) > len(calls)
    assert "sk-secret" not in result.trace_path.read_text()
