"""Odd values from agents and tools, and clocks that jump, cost one call at most: never the run, nor its trace."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from recursive_agent import ExecutionTree, Status
from recursive_agent.goal import read_options
from recursive_agent.testing import ScriptedEndpoint, by_goal, replies
from recursive_agent.trace.schema import Event, Waiting
from tests.waiting import PATIENCE

from .helpers import agent_on, py

pytestmark = pytest.mark.anyio


def _deep() -> Any:
    value: Any = 0
    for _ in range(505):
        value = [value]
    return value


def _circle() -> Any:
    value: list[Any] = []
    value += [value, value]
    return value


ODD: dict[str, Any] = {
    "deep": _deep(),
    "circle": _circle(),
    "nan": [math.nan, math.inf],
    "huge": 10**5000,
    "surrogates": "\ud800" * 9000,
    "bytes": b"\xff" * 9000,
    "objects": [object(), 1j],
    "marker": {"$blob": "nothing"},
}
IN_CODE = {
    "deep": "value = 0\nfor _ in range(505): value = [value]",
    "circle": "value = []\nvalue += [value, value]",
    "nan": "value = [float('nan'), float('inf')]",
    "huge": "value = 10 ** 5000",
    "surrogates": "value = chr(0xd800) * 9000",
    "bytes": "value = bytes([255]) * 9000",
    "objects": "value = [lambda: 1, 1j]",
    "marker": "value = {'$blob': 'nothing'}",
}


def readable(result: Any) -> ExecutionTree:
    assert result.trace_error is None
    tree = ExecutionTree.load(result.trace_path)
    assert [(node.id, node.status) for node in tree.walk()] == [(node.id, node.status) for node in result.tree.walk()]
    assert tree.usage == result.usage
    assert not any(node.running for node in tree.walk())
    return tree


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_value_of_a_tool_costs_that_call_at_most(name: str, tmp_path: Path) -> None:
    async def odd() -> Any:
        return ODD[name]

    code = "try:\n    await odd()\nexcept Exception as error:\n    print(type(error).__name__)\nfinish('went on')"
    with ScriptedEndpoint(replies([py(code), py("finish('went on')")])) as endpoint, anyio.fail_after(PATIENCE):
        result = await agent_on(endpoint, tools=(odd,), trace_dir=tmp_path).solve("go")
    assert result.output == "went on"
    readable(result)


@pytest.mark.parametrize("name", IN_CODE)
async def test_an_odd_result_of_a_child_costs_that_child_at_most(name: str, tmp_path: Path) -> None:
    both = "launch_subagent('odd'), launch_subagent('even'), return_exceptions=True"
    root = f"results = await asyncio.gather({both})\nfinish(results[1])"
    script = by_goal(
        {
            "root": py(root),
            "odd": [py(f"{IN_CODE[name]}\nfinish(value)"), py("finish('something else')")],
            "even": py("finish('unharmed')"),
        }
    )
    with ScriptedEndpoint(script) as endpoint, anyio.fail_after(PATIENCE):
        result = await agent_on(endpoint, trace_dir=tmp_path).solve("root")
    assert result.output == "unharmed"
    readable(result)


@pytest.mark.parametrize("name", IN_CODE)
async def test_an_odd_result_of_the_root_is_a_result_or_refused(name: str, tmp_path: Path) -> None:
    script = [py(f"{IN_CODE[name]}\nfinish(value)"), py("finish('something else')")]
    for returns in (None, {"type": ["string", "array", "number", "object"]}, str):
        with ScriptedEndpoint(replies(script)) as endpoint, anyio.fail_after(PATIENCE):
            result = await agent_on(endpoint, trace_dir=tmp_path).solve("go", returns=returns)
        assert result.status is Status.FINISHED
        readable(result)


@pytest.mark.parametrize("jump", [-1e6, 1e6])
async def test_a_clock_that_is_set_in_mid_run_changes_no_duration(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time

    def set_clock() -> None:
        monkeypatch.setattr(time, "time", lambda: real() + jump)

    script = by_goal({"root": py("await set_clock()\nfinish(await launch_subagent('kid'))"), "kid": py("finish(1)")})
    with ScriptedEndpoint(script) as endpoint, anyio.fail_after(PATIENCE):
        result = await agent_on(endpoint, tools=(set_clock,), trace_dir=tmp_path, timeout=PATIENCE).solve("root")
    monkeypatch.undo()
    assert result.output == 1
    tree = readable(result)
    assert 0 <= tree.nodes["0.0"].duration <= tree.duration < PATIENCE
    assert tree.critical_path.seconds <= tree.duration + 1e-6


async def test_waiting_is_shown_to_who_watches_and_not_written(tmp_path: Path) -> None:
    seen: list[Event] = []
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        agent = agent_on(endpoint, trace_dir=tmp_path)
        result = await agent._solve(read_options("go", {}), sink=seen.append)
        result.tree.apply(Waiting(time=0.0, reason="the endpoint's rate limit", seconds=7.0))
    assert readable(result).root.status is Status.FINISHED
