"""Budgets when several models draw on them, and shares that stay open beyond the end of their agents."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from anyio import wait_all_tasks_blocked
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent import Prices, Usage
from recursive_agent.limits import Account, Budget, LimitReached, Slots

pytestmark = pytest.mark.anyio

PRICES = [Prices(prompt=10.0, completion=20.0), Prices(prompt=1.0, completion=7.0, cached=0.5)]


@given(
    money=st.integers(1, 4_000),
    tokens=st.integers(50, 500),
    calls=st.lists(
        st.tuples(st.integers(0, 1), st.booleans(), st.integers(0, 60), st.integers(1, 60), st.integers(0, 60)),
        min_size=1,
        max_size=16,
    ),
)
def test_no_interleaving_of_two_models_overspends(
    money: int, tokens: int, calls: list[tuple[int, bool, int, int, int]]
) -> None:
    limit = money / 1e6
    tree = Account(Budget(tokens), Budget(limit), PRICES[0], own_share=False)
    spent: list[float] = []
    used: list[int] = []

    async def call(model: int, own: bool, prompt: int, most: int, answer: int) -> None:
        share = tree.share(40) if own else None
        account = (share or tree).at(PRICES[model])
        try:
            held = await account.reserve(prompt, most)
        except LimitReached:
            pass
        else:
            assert tree.cost.settled + tree.cost.reserved <= limit + 1e-12
            await anyio.lowlevel.checkpoint()
            usage = Usage(calls=1, prompt_tokens=prompt, completion_tokens=min(answer, held.completion))
            held.settle(usage)
            spent.append(PRICES[model].of_usage(usage))
            used.append(usage.total_tokens)
        if share is not None:
            tree.give_back(account)

    async def all_at_once() -> None:
        async with anyio.create_task_group() as group:
            for each in calls:
                group.start_soon(call, *each)

    anyio.run(all_at_once)
    assert sum(spent) <= limit + 1e-12
    assert sum(used) <= tokens
    assert tree.cost.settled == pytest.approx(sum(spent))
    assert (tree.tokens.settled, tree.tokens.reserved) == (sum(used), 0)
    assert tree.cost.reserved == pytest.approx(0, abs=1e-12)


def test_a_share_that_is_held_returns_when_it_is_let_go() -> None:
    tree = Account(Budget(100), Budget(None), None, own_share=False)
    outer = tree.share(60)
    assert outer is not None
    inner = outer.share(30)
    assert inner is not None
    inner.hold()
    outer.give_back(inner)
    tree.give_back(outer)
    assert tree.tokens.free == 40  # work goes on within the shares
    inner.tokens.settled += 25
    inner.let_go()
    assert (tree.tokens.settled, tree.tokens.reserved) == (25, 0)


def test_what_an_agent_has_in_common_with_its_parent_is_not_given_back() -> None:
    tree = Account(Budget(100), Budget(None), None, own_share=False)
    tree.tokens.settled = 10
    tree.give_back(tree.at(PRICES[0]))
    assert (tree.tokens.settled, tree.tokens.reserved) == (10, 0)


async def test_the_slots_of_a_model_lie_within_those_of_the_tree() -> None:
    tree = Slots(2)
    small = Slots(1, within=tree)
    most = {"tree": 0, "small": 0}
    now = {"tree": 0, "small": 0}

    async def call(slots: Slots, names: list[str]) -> None:
        async with slots.slot(begun=False) as slot:
            for name in names:
                now[name] += 1
                most[name] = max(most[name], now[name])
            await anyio.lowlevel.checkpoint()
            for name in names:
                now[name] -= 1
            async with slot.lent():
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(call, small, ["tree", "small"])
            group.start_soon(call, tree, ["tree"])
    assert most == {"tree": 2, "small": 1}
    assert (tree._free, small._free) == (2, 1)


async def test_a_call_that_is_cancelled_between_the_two_gives_both_back() -> None:
    tree = Slots(1)
    small = Slots(1, within=tree)
    async with tree.slot(begun=False):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    async with small.slot(begun=False):
                        raise AssertionError("there is no place")

                group.start_soon(call)
                await wait_all_tasks_blocked()
                scope.cancel()
    assert (tree._free, small._free) == (1, 1)
