"""Scorers with time of their own: what they wait for is no part of the run's time."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from recursive_agent import Agent, Limits, Status
from recursive_agent.testing import Fault, FaultKind, ScriptedEndpoint
from recursive_agent.trace.schema import RunEnded, Scored
from recursive_agent.trace.tree import ExecutionTree, Node
from tests.data.trees import events

anyio_test = pytest.mark.anyio


class Patient:
    """Answers after a time that the run does not have."""

    def __init__(self, seconds: float | None) -> None:
        self.scoring_timeout = seconds

    async def __call__(self, node: Node) -> float:
        await anyio.sleep(0.5)
        return 1.0


@anyio_test
@pytest.mark.parametrize(("seconds", "score"), [(None, 1.0), (60.0, 1.0), (0.01, None)])
async def test_a_scorer_has_the_time_that_it_says_though_the_run_has_used_up_its_own(
    seconds: float | None, score: float | None
) -> None:
    with ScriptedEndpoint(lambda request: Fault(FaultKind.HANG)) as endpoint:
        agent = Agent(model="scripted", base_url=endpoint.base_url, limits=Limits(timeout=0.2))
        result = await agent.solve("one", score=Patient(seconds))
    assert result.status is Status.TREE_TIMEOUT
    assert result.tree.root.score == score
    assert result.tree.root.score_status == ("judge_error" if score is None else "scored")


def test_the_time_of_a_run_ends_where_its_scoring_begins() -> None:
    plain = events({"id": "0"})
    tree = ExecutionTree.from_events(plain)
    end = plain[-1]
    assert isinstance(end, RunEnded)
    scored = Scored(time=end.time + 50, node="0", score=1.0)
    judged = ExecutionTree.from_events([*plain[:-1], scored, replace(end, time=end.time + 60)])
    assert judged.duration <= tree.duration
    assert judged.ended == end.time + 60
