"""An agent that can make about one more call is told so, once, in time to finish; and what was found is never lost."""

from __future__ import annotations

from typing import Any

import pytest

from recursive_agent import Finding, Result, Status
from recursive_agent.launch import partial_of
from recursive_agent.testing import Request, ScriptedEndpoint
from recursive_agent.trace.tree import ExecutionTree
from tests.trace.events import node_ended, node_started, run_started

from .helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio

TOLD = "one more answer"
PRICES = {"prompt": 1.0, "completion": 4.0}


def obedient(request: Request) -> str:
    """Works until it is told to finish."""
    if TOLD in request.last:
        return py("finish(n)")
    return py(f"n = {request.step}\nprint('working on', n, 'a' * 60)")


async def solved(script: Any = obedient, **settings: Any) -> Result:
    with ScriptedEndpoint(script) as endpoint:
        return await agent_on(endpoint, **settings).solve("root")


def times_told(result: Result) -> dict[str, int]:
    return {node.id: sum(TOLD in text for text in observations(result, node.id)) for node in result.tree.walk()}


@pytest.mark.parametrize(
    "limits",
    [
        {"max_steps": 3},
        *({"max_tokens": tokens} for tokens in (9_000, 12_000, 20_000, 33_333, 50_000)),
        *({"max_cost": cost / 1e6, "prices": PRICES} for cost in (9_000, 20_000, 50_000)),
        {"context_limit": 3_000},
        {"context_limit": 5_000},
    ],
    ids=str,
)
@pytest.mark.parametrize("interface", ["chat", "tokens"])
async def test_an_agent_that_obeys_finishes_within_its_limit(limits: dict[str, Any], interface: str) -> None:
    result = await solved(interface=interface, **{"max_steps": 100, **limits})
    assert result.status is Status.FINISHED, result.reason
    assert times_told(result) == {"0": 1}
    assert result.usage.total_tokens <= limits.get("max_tokens", 10**9)
    assert result.usage.cost <= limits.get("max_cost", 1.0)
    if "max_steps" not in limits:
        assert len(result.tree.root.steps) >= 2


async def test_it_is_said_once_also_to_an_agent_that_does_not_obey() -> None:
    def stubborn(request: Request) -> str:
        return py(f"print({request.step})")

    result = await solved(stubborn, max_tokens=12_000, max_steps=100)
    assert result.status is Status.TOKEN_LIMIT
    assert times_told(result) == {"0": 1}
    result = await solved(stubborn, max_steps=4)
    assert result.status is Status.STEP_LIMIT
    assert times_told(result) == {"0": 1}


async def test_an_answer_without_code_before_the_last_one_is_told_too() -> None:
    def script(request: Request) -> str:
        return py("finish('late')") if TOLD in request.last else "just words"

    result = await solved(script, max_steps=3, max_malformed=5)
    assert result.output == "late"
    assert times_told(result) == {"0": 1}


async def test_a_long_answer_leaves_room_for_the_last_call() -> None:
    asked: list[int] = []

    def script(request: Request) -> str:
        asked.append(request.max_tokens)
        if TOLD in request.last:
            return py("finish('short')")
        return py("# " + "words and more words " * 600 + "\nprint(1)")

    result = await solved(script, max_tokens=10_000, max_steps=100)
    assert result.output == "short"
    assert asked[0] < 4096


async def test_children_that_share_the_budget_of_the_tree_all_finish() -> None:
    def script(request: Request) -> str:
        if "root" in request.first:
            return py("finish(await asyncio.gather(*[launch_subagent(f'child {n}') for n in range(4)]))")
        return obedient(request)

    result = await solved(script, max_tokens=120_000, max_steps=100)
    assert result.status is Status.FINISHED, result.reason
    assert result.usage.total_tokens <= 120_000
    told = times_told(result)
    assert [told[f"0.{n}"] for n in range(4)] == [1, 1, 1, 1]


async def test_the_share_of_a_child_is_its_own() -> None:
    def script(request: Request) -> str:
        if "root" in request.first:
            return py("print(await launch_subagent('child', max_tokens=12_000))\nfinish('end')")
        return obedient(request)

    result = await solved(script, max_tokens=100_000, max_steps=100)
    assert result.output == "end"
    assert times_told(result) == {"0": 0, "0.0": 1}
    assert result.tree.nodes["0.0"].status is Status.FINISHED
    assert result.tree.nodes["0.0"].usage.total_tokens <= 12_000


async def test_an_agent_is_told_before_the_time_is_used_up() -> None:
    with ScriptedEndpoint(obedient, latency=0.4) as endpoint:
        result = await agent_on(endpoint, timeout=8.0, max_steps=100).solve("root")
    assert result.status is Status.FINISHED, result.reason
    assert times_told(result) == {"0": 1}


async def test_the_minimal_style_knows_nothing_of_it() -> None:
    asked: list[int] = []

    def script(request: Request) -> str:
        asked.append(request.max_tokens)
        return py("print(1)")

    result = await solved(script, max_tokens=3_000, max_steps=100, prompt_style="minimal", sampling={"max_tokens": 100})
    assert result.status is Status.TOKEN_LIMIT
    assert times_told(result) == {"0": 0}
    assert set(asked[:-1]) == {100}


async def test_a_run_that_is_cut_gives_what_its_sub_agents_found() -> None:
    def script(request: Request) -> str:
        if "root" in request.first:
            return py("print(await launch_subagent('fact one'), await launch_subagent('fact two'))")
        return py("finish('found')")

    result = await solved(script, max_steps=1)
    assert result.status is Status.STEP_LIMIT
    assert result.partial == [Finding("0.0", "fact one", "found"), Finding("0.1", "fact two", "found")]
    assert result.tree.root.last_output == "found found"
    assert (await solved(lambda request: py("finish(1)"))).partial == []


def test_partial_results_are_those_of_the_highest_agents_that_finished() -> None:
    ends = {"0": Status.TOKEN_LIMIT, "0.0": Status.FINISHED, "0.0.0": Status.FINISHED}
    ends |= {"0.1": Status.STEP_LIMIT, "0.1.0": Status.FINISHED, "0.1.1": Status.CANCELLED, "0.2": Status.FINISHED}
    tree = ExecutionTree.from_events(
        [
            run_started(),
            *(node_started(node) for node in ends),
            *(node_ended(node, status=status, result=node) for node, status in reversed(ends.items())),
        ]
    )
    assert [finding.result for finding in tree.root.partial] == ["0.0", "0.1.0", "0.2"]
    assert [finding.result for finding in tree.nodes["0.1"].partial] == ["0.1.0"]
    assert tree.nodes["0.0"].partial == []


def test_what_a_parent_gets_of_an_agent_that_did_not_finish_is_bounded() -> None:
    assert partial_of("", []) is None
    assert partial_of("printed", []) == "printed"
    found = [Finding("0.0", "g" * 5_000, "x" * 200_000), Finding("0.1", "b", "y" * 200_000), Finding("0.2", "c", 1)]
    left = partial_of("", found)
    assert left["output"] is None
    assert [len(each["goal"]) for each in left["results"]] == [1_000, 1, 1]
    first, second, third = (each["result"] for each in left["results"])
    assert (len(first), third) == (200_000, 1)
    assert "left out" in second
