"""What a scorer may say of a node, and what becomes of it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recursive_agent.errors import ConfigurationError
from recursive_agent.scoring import assess
from recursive_agent.testing import ScriptedEndpoint
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
