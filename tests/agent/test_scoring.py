"""What a scorer may say of a node, and what becomes of it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from rao_rl.credit.assign import assign
from rao_rl.rollouts.recorded import recorded_attempts
from rao_rl.scoring.traces import score_traces, with_scorer
from recursive_agent.errors import ConfigurationError
from recursive_agent.scoring import assess
from recursive_agent.testing import ScriptedEndpoint, by_goal
from recursive_agent.trace.schema import Scored
from recursive_agent.trace.tree import ExecutionTree, Node
from tests.trace.events import node_started, run_started

from .helpers import agent_on, py

pytestmark = pytest.mark.anyio


def node() -> Node:
    return ExecutionTree.from_events([run_started(), node_started()]).root


@pytest.mark.parametrize(
    ("given", "score"),
    [(True, 1.0), (False, 0.0), (0, 0.0), (0.25, 0.25), (Fraction(1, 2), 0.5), (np.float32(0.5), 0.5), (np.True_, 1.0)],
)
async def test_every_kind_of_number_becomes_a_float(given: Any, score: float) -> None:
    event = await assess(lambda _: given, node(), "mine")
    assert (event.score, type(event.score), event.status, event.source) == (score, float, "scored", "mine")


@pytest.mark.parametrize("given", [1.5, -0.1, float("nan"), float("inf"), "1", [1.0], np.zeros(2), object()])
async def test_what_is_no_score_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not a score: return a number between 0 and 1, or None"):
        await assess(lambda _: given, node())


async def test_none_is_unknown_and_an_exception_is_no_zero() -> None:
    async def unknown(_: Node) -> None: ...

    def broken(_: Node) -> float:
        raise ConfigurationError("no key")

    event = await assess(unknown, node())
    assert (event.score, event.status) == (None, "unknown")
    event = await assess(broken, node())
    assert (event.score, event.status, event.source) == (None, "judge_error", "ConfigurationError: no key")


async def test_a_run_scored_with_true_has_a_trace_that_can_be_read(tmp_path: Path) -> None:
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        result = await agent_on(endpoint, trace_dir=tmp_path).solve("go", score=lambda node: node.result == 1)
    assert result.trace_path is not None
    assert ExecutionTree.load(result.trace_path).root.score == 1.0


TWO_CHILDREN = py("""
    import asyncio
    a = await asyncio.gather(launch_subagent("part-a"), launch_subagent("part-b"))
    finish(a)
""")

PARTS = by_goal({"plan-it": TWO_CHILDREN, "part-a": py("finish(1)"), "part-b": py("finish(1)")})


@pytest.mark.parametrize("cut_off_at", [0, 1, 2])
async def test_a_run_that_is_cancelled_while_it_is_scored_is_no_scored_run(cut_off_at: int, tmp_path: Path) -> None:
    """An asynchronous scorer (a judge) takes its time: a tree with some scores only would be trained as it stands."""
    asked: list[str] = []

    async def score(node: Node) -> float:
        asked.append(node.id)
        if len(asked) > cut_off_at:
            scope.cancel()
            await anyio.sleep_forever()
        return 1.0

    async with ScriptedEndpoint(PARTS) as endpoint:
        with anyio.CancelScope() as scope:
            await agent_on(endpoint, trace_dir=tmp_path).solve("plan-it", score=score, group="g", seed=1)
    (path,) = tmp_path.glob("*.jsonl")
    tree = ExecutionTree.load(path)
    assert tree.complete
    assert len(tree.nodes) == 3
    assert (tree.root.score, tree.root.score_status) == (None, "judge_error")
    assert {node.score_status for node in tree.nodes.values()} <= {"scored", "judge_error"}
    assert sum(node.score is not None for node in tree.nodes.values()) == max(0, cut_off_at - 1)
    assert not list(recorded_attempts(tmp_path))
    credits = assign([tree])
    assert credits.funnel.dropped_rollouts == {"root_judge_error": 1}
    tally = await score_traces([path], with_scorer(lambda node: 1.0, "again"))
    assert tally.scored + tally.kept == 3
    assert {node.score for node in ExecutionTree.load(path).nodes.values()} == {1.0}
    assert len(list(recorded_attempts(tmp_path))) == 1


async def test_the_root_is_asked_about_first_and_recorded_last() -> None:
    asked: list[str] = []
    recorded: list[str] = []

    def score(node: Node) -> float:
        asked.append(node.id)
        return 1.0

    async with ScriptedEndpoint(PARTS) as endpoint:
        async for event in agent_on(endpoint).stream("plan-it", score=score):
            if isinstance(event, Scored):
                recorded.append(event.node)
    assert asked[0] == recorded[-1] == "0"
    assert sorted(asked) == sorted(recorded) == ["0", "0.0", "0.1"]
