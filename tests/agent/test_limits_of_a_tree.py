"""Every field of `Limits`, at the limit, just under and just over it, enforced for the whole tree."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import anyio
import pytest

from recursive_agent import Status
from recursive_agent.testing import Fault, Reply, Request, ScriptedEndpoint, by_goal, replies
from tests.waiting import PATIENCE

from .helpers import after, agent_on, observations, py

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("max_depth", "deepest"), [(0, 0), (1, 1), (2, 2), (3, 2)])
async def test_max_depth(max_depth: int, deepest: int) -> None:
    def level(goal: str) -> str:
        return py(
            f"""
            try:
                finish(await launch_subagent('{goal}'))
            except LaunchRefused as e:
                finish('refused: ' + e.message)
            """
        )

    script = by_goal({"level 0": level("level 1"), "level 1": level("level 2"), "level 2": py("finish('bottom')")})
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, max_depth=max_depth).solve("level 0")
    assert result.tree.max_depth == deepest
    if max_depth == 0:
        assert "NameError" in observations(result)[0]  # withheld altogether: the single-agent mode
    else:
        assert result.output == "bottom" if max_depth >= 2 else "deepest level is 1" in result.output


@pytest.mark.parametrize(("max_agents", "launched"), [(1, 0), (2, 1), (3, 2), (4, 2)])
async def test_max_agents_counts_the_whole_tree(max_agents: int, launched: int) -> None:
    root = py(
        """
        out = await asyncio.gather(launch_subagent('a'), launch_subagent('b'), return_exceptions=True)
        finish([str(o) for o in out])
        """
    )
    with ScriptedEndpoint(by_goal({"root": root, "a": py("finish(1)"), "b": py("finish(2)")})) as endpoint:
        result = await agent_on(endpoint, max_agents=max_agents).solve("root")
    assert result.tree.launches == launched
    assert result.tree.refused_launches == 2 - launched
    assert sum("may have" in text for text in result.output) == 2 - launched


@pytest.mark.parametrize(("max_children", "launched"), [(1, 1), (2, 2), (3, 2)])
async def test_max_children(max_children: int, launched: int) -> None:
    root = py(
        """
        await launch_subagent('child')
        try:
            await launch_subagent('child')
        except LaunchRefused as e:
            finish(e.message)
        finish('both')
        """
    )
    with ScriptedEndpoint(by_goal({"root": root, "child": py("finish(1)")})) as endpoint:
        result = await agent_on(endpoint, max_children=max_children).solve("root")
    assert result.tree.launches == launched
    assert ("which is the limit" in result.output) == (launched == 1)


@pytest.mark.parametrize(("max_steps", "status"), [(1, Status.STEP_LIMIT), (2, Status.FINISHED), (3, Status.FINISHED)])
async def test_max_steps(max_steps: int, status: Status) -> None:
    with ScriptedEndpoint(replies([py("1"), py("finish(1)")], then=py("1"))) as endpoint:
        result = await agent_on(endpoint, max_steps=max_steps).solve("go")
    assert result.status is status
    assert endpoint.ledger.calls == min(max_steps, 2)


async def test_max_steps_of_a_child_is_its_parents_to_lower_but_not_to_raise() -> None:
    root = py(
        """
        out = await asyncio.gather(*[launch_subagent('child', max_steps=n) for n in (1, 2, 99)], return_exceptions=True)
        finish(None)
        """
    )
    with ScriptedEndpoint(by_goal({"root": root, "child": py("1")})) as endpoint:
        result = await agent_on(endpoint, max_steps=3).solve("root")
    assert [len(child.steps) for child in result.tree.root.children] == [1, 2, 3]


async def used_by(answers: list[str], **settings: Any) -> list[int]:
    """Billed tokens after each call of a run without a token limit."""
    with ScriptedEndpoint(replies(answers)) as endpoint:
        await agent_on(endpoint, **settings).solve("go")
        total, totals = 0, []
        for entry in endpoint.ledger.entries:
            total += entry.prompt_tokens + entry.completion_tokens
            totals.append(total)
    return totals


ANSWERS = [py("x = 1"), py("finish(x)")]
TOKENS: dict[str, Any] = {"interface": "tokens", "prompt_style": "minimal", "sampling": {"max_tokens": 200}}


@pytest.mark.parametrize(("slack", "status"), [(-2, Status.TOKEN_LIMIT), (-1, Status.FINISHED), (0, Status.FINISHED)])
async def test_max_tokens_is_exact_in_the_tokens_interface(slack: int, status: Status) -> None:
    total = (await used_by(ANSWERS, **TOKENS))[-1]  # of which the last token only says that the turn is over
    with ScriptedEndpoint(replies(ANSWERS, then="")) as endpoint:
        result = await agent_on(endpoint, max_tokens=total + slack, max_malformed=99, **TOKENS).solve("go")
    assert result.status is status
    assert endpoint.ledger.total_tokens <= total + slack


async def test_a_call_whose_prompt_does_not_fit_never_leaves() -> None:
    first = (await used_by(ANSWERS, **TOKENS))[0]
    with ScriptedEndpoint(replies(ANSWERS)) as endpoint:
        result = await agent_on(endpoint, max_tokens=first + 10, **TOKENS).solve("go")
    assert result.status is Status.TOKEN_LIMIT
    assert endpoint.ledger.calls == 1
    assert "the next call needs at least" in (result.reason or "")


@pytest.mark.parametrize("interface", ["chat", "tokens"])
async def test_a_tree_never_overshoots_whatever_runs_at_once(interface: Any) -> None:
    root = py(
        "await asyncio.gather(*[launch_subagent('child') for _ in range(8)], return_exceptions=True)\nfinish('done')"
    )
    settings = {"interface": interface, "prompt_style": "minimal", "sampling": {"max_tokens": 200}}
    with ScriptedEndpoint(by_goal({"root": root, "child": py("print('x' * 50)")})) as endpoint:
        result = await agent_on(endpoint, max_tokens=3_000, **settings).solve("root")
    assert endpoint.ledger.total_tokens <= 3_000
    assert result.usage.total_tokens == endpoint.ledger.total_tokens
    ended = {node.status for node in result.tree.root.children}
    assert Status.TREE_BUDGET in ended


async def test_a_childs_share_ends_the_child_alone() -> None:
    root = py(
        """
        out = await asyncio.gather(
            launch_subagent('greedy', max_tokens=900), launch_subagent('modest', max_tokens=900), return_exceptions=True)
        finish([getattr(out[0], 'status', out[0]), out[1]])
        """
    )
    script = by_goal({"root": root, "greedy": py("print('x' * 100)"), "modest": py("finish('fine')")})
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, max_tokens=20_000, **TOKENS).solve("root")
    assert result.output == ["token_limit", "fine"]
    assert result.tree.nodes["0.0"].total_usage.total_tokens <= 900


async def test_a_share_that_is_not_there_is_refused() -> None:
    root = py(
        "try:\n    await launch_subagent('child', max_tokens=10**9)\nexcept LaunchRefused as e:\n    finish(e.message)"
    )
    with ScriptedEndpoint(by_goal({"root": root})) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert "1,000,000,000 tokens was asked for" in result.output


async def test_max_cost() -> None:
    prices = {"prompt": 1.0, "completion": 2.0}
    with ScriptedEndpoint(replies([], then=py("1"))) as endpoint:
        result = await agent_on(endpoint, max_cost=0.01, prices=prices, max_steps=1000, **TOKENS).solve("go")
    assert result.status is Status.COST_LIMIT
    billed = (endpoint.ledger.prompt_tokens * 1.0 + endpoint.ledger.completion_tokens * 2.0) / 1e6
    assert result.usage.cost == pytest.approx(billed)
    assert billed <= 0.01


async def test_timeout_ends_every_node_and_the_tree_still_returns() -> None:
    script = by_goal({"root": py("await launch_subagent('slow')"), "slow": Fault("hang")})
    for seconds in (
        1.0,
        8.0,
        64.0,
    ):  # until it is the child's call that is cut off: on a busy machine that takes a while
        with ScriptedEndpoint(script) as endpoint, anyio.fail_after(seconds + PATIENCE):
            result = await agent_on(endpoint, timeout=seconds).solve("root")
        assert {node.status for node in result.tree.nodes.values()} == {Status.TREE_TIMEOUT}
        assert result.tree.complete
        if len(endpoint.ledger.entries) == 2:
            break
    assert len(result.tree.nodes) == 2
    assert result.usage.unconfirmed > 0  # the call that was cut off may have been billed


async def test_cell_timeout_is_an_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", PATIENCE)  # it is interrupted, however late
    script = replies([py("while True: pass")], then=py("finish('went on')"))
    with ScriptedEndpoint(script) as endpoint, anyio.fail_after(2 * PATIENCE):
        result = await agent_on(endpoint, cell_timeout=0.5).solve("go")
    assert result.output == "went on"
    assert result.tree.root.steps[0].cell.status == "timeout"


async def test_waiting_for_a_child_is_not_the_cells_time() -> None:
    script = by_goal(
        {"root": py("finish(await launch_subagent('slow'))"), "slow": Reply(py("finish('worth it')"), delay=1.2)}
    )
    with ScriptedEndpoint(script) as endpoint:
        assert (await agent_on(endpoint, cell_timeout=0.5).solve("root")).output == "worth it"


async def test_cell_memory_is_an_observation() -> None:
    answers = [py("x = bytearray(10**9)"), py("finish('went on')")]
    with ScriptedEndpoint(replies(answers)) as endpoint, anyio.fail_after(PATIENCE):
        result = await agent_on(endpoint, cell_memory_mb=128).solve("go")
    assert result.output == "went on"
    assert "Memory" in observations(result)[0]


@pytest.mark.parametrize("width", [1, 3])
async def test_max_concurrency_limits_model_calls_and_never_blocks_a_deep_tree(width: int) -> None:
    root = py("finish(sum(await asyncio.gather(*[launch_subagent('branch') for _ in range(4)])))")
    branch = py("finish(sum(await asyncio.gather(*[launch_subagent('leaf') for _ in range(2)])))")
    full = asyncio.Event()

    def leaf(request: Request) -> Awaitable[str]:
        """The first leaves wait for one another; as branches are answered at once, leaves get all the places there are."""
        if endpoint.ledger.running == width:
            full.set()
        return after(full.wait, py("finish(1)"))(request)

    script = by_goal({"root": root, "branch": branch, "leaf": leaf})
    with ScriptedEndpoint(script) as endpoint, anyio.fail_after(2 * PATIENCE):
        result = await agent_on(endpoint, max_concurrency=width).solve("root")
    assert result.output == 8
    assert endpoint.ledger.max_concurrency == width


async def test_context_overflow_is_a_status() -> None:
    with ScriptedEndpoint(replies([], then=py("print('x' * 400)")), max_model_len=1_000) as endpoint:
        result = await agent_on(endpoint, **TOKENS).solve("go")
    assert result.status is Status.CONTEXT_OVERFLOW
    with ScriptedEndpoint(replies([], then=py("print('x' * 400)"))) as endpoint:
        result = await agent_on(endpoint, context_limit=1_000, **TOKENS).solve("go")
    assert result.status is Status.CONTEXT_OVERFLOW
    assert max(entry.prompt_tokens + entry.completion_tokens for entry in endpoint.ledger.entries) <= 1_000


async def test_a_node_that_fails_on_the_endpoint_costs_its_parent_only_that_child() -> None:
    root = py("try:\n    await launch_subagent('broken')\nexcept SubagentError as e:\n    finish(e.status)")
    script = by_goal({"root": root, "broken": Fault.http(400, "cannot do that")})
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert result.output == "infra_error"
