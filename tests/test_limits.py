"""Budgets: never overspent, nobody starved, and no limit that depends on who was faster."""

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent import ConfigurationError, Limits, Prices, Status, Usage
from recursive_agent.limits import Account, Budget, LimitReached, NotEnough, Slots
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio


def account(tokens: int | None, cost: float | None = None, prices: Prices | None = None) -> Account:
    return Account(Budget(tokens), Budget(cost), prices, own_share=False)


async def test_a_call_that_just_fits_is_granted_whole() -> None:
    held = await account(100).reserve(60, 40)
    assert held.completion == 40


async def test_a_call_that_does_not_fit_whole_is_cut_to_what_is_left() -> None:
    held = await account(100).reserve(99, 40)
    assert held.completion == 1


async def test_a_call_whose_prompt_leaves_no_room_is_refused() -> None:
    with pytest.raises(LimitReached) as caught:
        await account(100).reserve(100, 40)
    assert caught.value.status is Status.TREE_BUDGET
    assert "100 of 100" in caught.value.reason


async def test_what_was_not_used_comes_back() -> None:
    purse = account(100)
    held = await purse.reserve(50, 50)
    held.settle(Usage(prompt_tokens=50, completion_tokens=10))
    held.settle(Usage(prompt_tokens=50, completion_tokens=10))  # a second time changes nothing
    assert purse.tokens.settled == 60
    assert (await purse.reserve(20, 99)).completion == 20


async def test_a_call_waits_for_others_instead_of_failing() -> None:
    purse = account(100)
    first = await purse.reserve(50, 50)
    got: list[int] = []

    async def second() -> None:
        got.append((await purse.reserve(40, 40)).completion)

    async with anyio.create_task_group() as group:
        group.start_soon(second)
        await wait_all_tasks_blocked()
        assert got == []
        first.settle(Usage(prompt_tokens=10))
    assert got == [40]


async def test_waiters_are_served_in_order_so_a_large_one_is_not_starved() -> None:
    purse = Budget(100)
    await purse.reserve(80, 80)
    order: list[str] = []

    async def wait(name: str, amount: int) -> None:
        await purse.reserve(amount, amount)
        order.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(wait, "large", 95)
        await wait_all_tasks_blocked()
        group.start_soon(wait, "small", 10)
        await wait_all_tasks_blocked()
        assert order == []
        purse.settle(80, 0)
        await wait_all_tasks_blocked()
        assert order == ["large"]
        purse.settle(95, 0)
    assert order == ["large", "small"]


async def test_a_cancelled_waiter_lets_the_next_one_through() -> None:
    purse = Budget(100)
    await purse.reserve(60, 60)
    done: list[str] = []

    async def small() -> None:
        await purse.reserve(40, 40)
        done.append("small")

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def large() -> None:
            with scope:
                await purse.reserve(90, 90)

        group.start_soon(large)
        await wait_all_tasks_blocked()
        group.start_soon(small)
        await wait_all_tasks_blocked()
        scope.cancel()
    assert done == ["small"]
    assert purse.reserved == 100


async def test_a_waiter_cancelled_at_the_moment_it_is_served_loses_nothing() -> None:
    purse = Budget(100)
    await purse.reserve(100, 100)

    async def wait() -> None:
        held = await purse.reserve(50, 50)
        purse.settle(held, 0)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await wait_all_tasks_blocked()
        purse.settle(100, 0)
        group.cancel_scope.cancel()
    assert purse.reserved == 0


async def test_a_share_is_safe_from_siblings_and_returns_what_is_left() -> None:
    parent = account(100)
    share = parent.share(70)
    assert share is not None
    assert parent.share(31) is None
    assert (await parent.reserve(10, 20)).completion == 20
    held = await share.reserve(30, 40)
    held.settle(Usage(prompt_tokens=30, completion_tokens=5))
    parent.give_back(share)
    assert parent.tokens.settled == 35
    assert parent.tokens.reserved == 30


async def test_a_used_up_share_is_the_agents_own_limit() -> None:
    share = account(100).share(10)
    assert share is not None
    with pytest.raises(LimitReached) as caught:
        await share.reserve(10, 5)
    assert caught.value.status is Status.TOKEN_LIMIT


async def test_money_cuts_the_answer_and_then_ends_the_node() -> None:
    prices = Prices(prompt=1e6, completion=2e6)  # 1 and 2 a token
    purse = account(None, 20.0, prices)
    held = await purse.reserve(10, 100)
    assert held.completion == 5
    held.settle(Usage(prompt_tokens=10, completion_tokens=5))
    with pytest.raises(LimitReached) as caught:
        await purse.reserve(1, 1)
    assert caught.value.status is Status.COST_LIMIT


async def test_a_lost_answer_is_counted_and_the_next_attempt_paid_for_again() -> None:
    purse = account(100)
    held = await purse.reserve(10, 30)
    await held.renew(40)
    assert purse.tokens.settled == 40
    held.settle(Usage(prompt_tokens=10, completion_tokens=3))
    assert (purse.tokens.settled, purse.tokens.reserved, held.lost) == (53, 0, 40)


async def test_no_retry_without_the_means() -> None:
    purse = account(70)
    held = await purse.reserve(10, 30)
    with pytest.raises(LimitReached, match="too few tokens"):
        await held.renew(40)
    assert (purse.tokens.settled, purse.tokens.reserved) == (40, 0)


async def test_agents_that_have_begun_go_first() -> None:
    slots = Slots(1)
    order: list[str] = []
    done = anyio.Event()

    async def call(name: str, begun: bool) -> None:
        async with slots.slot(begun=begun):
            order.append(name)
            await done.wait()

    async with anyio.create_task_group() as group:
        gave_up = anyio.CancelScope()

        async def give_up() -> None:
            with gave_up:
                await call("gave up", True)

        for name, begun in (("holder", False), ("fresh", False), ("begun 1", True)):
            group.start_soon(call, name, begun)
            await wait_all_tasks_blocked()
        group.start_soon(give_up)
        await wait_all_tasks_blocked()
        group.start_soon(call, "begun 2", True)
        await wait_all_tasks_blocked()
        assert order == ["holder"]
        gave_up.cancel()
        await wait_all_tasks_blocked()
        done.set()
    assert order == ["holder", "begun 1", "begun 2", "fresh"]


@given(
    limit=st.integers(50, 300),
    calls=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=20),
)
def test_no_interleaving_overspends(limit: int, calls: list[tuple[int, int, int]]) -> None:
    purse = account(limit)

    async def call(prompt: int, most: int, used: int) -> None:
        try:
            held = await purse.reserve(prompt, most)
        except LimitReached:
            return
        assert purse.tokens.settled + purse.tokens.reserved <= limit
        await checkpoint()
        held.settle(Usage(prompt_tokens=prompt, completion_tokens=min(used, held.completion)))

    async def all_calls() -> None:
        async with anyio.create_task_group() as group:
            for one in calls:
                group.start_soon(call, *one)

    anyio.run(all_calls)
    assert purse.tokens.reserved == 0
    assert purse.tokens.settled <= limit


async def test_a_budget_refuses_only_what_can_never_fit() -> None:
    purse = Budget(10)
    with pytest.raises(NotEnough):
        await purse.reserve(11, 20)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_depth": -1}, "max_depth must be at least 0"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"max_agents": 1.5}, "max_agents must be a whole number"),
        ({"max_children": None}, "max_children must be a whole number"),
        ({"max_tokens": True}, "max_tokens must be a whole number or None"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"max_cost": "1"}, "max_cost must be a number or None"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Limits(**settings)


async def test_a_budget_with_nothing_out_gives_what_is_left_whatever_fractions_came_back() -> None:
    purse = Budget(0.5)
    held = [await purse.reserve(each, each) for each in (0.1, 0.2)]
    for each in held:
        purse.settle(each, 0)  # .1 + .2 − .1 − .2 is more than nothing
    with anyio.fail_after(PATIENCE):
        assert await purse.reserve(0.4, 0.6) == 0.5
