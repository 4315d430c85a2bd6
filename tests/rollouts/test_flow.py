"""The queue between rollouts and training: what begins, what a step takes, and that nothing is lost, used twice or too old."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.virtual_time import run_virtually
from rao_rl.rollouts.choice import Order
from rao_rl.rollouts.flow import Flow, Outcome, Taken, flowing
from tests.waiting import PATIENCE

from .flows import FakeAttempts


def places(taken: Taken) -> list[int]:
    return [group.place for group in taken.groups]


def queue(
    attempts: FakeAttempts,
    *,
    size: int = 2,
    limit: int = 100,
    staleness: int = 1,
    order: Order = "completed",
    used: Collection[int] = (),
) -> AbstractAsyncContextManager[Flow]:
    return flowing(attempts, size=size, limit=limit, staleness=staleness, order=order, used=used)


class Step:
    """A step that waits for its groups, beside the test."""

    def __init__(self) -> None:
        self.taken: Taken | None = None

    async def take(self, flow: Flow, left: int | None = None, only: Collection[int] | None = None) -> None:
        self.taken = await flow.take(left, only)

    def places(self) -> list[int] | None:
        return None if self.taken is None else places(self.taken)


@pytest.mark.anyio
async def test_attempts_begin_in_the_order_of_the_plan_for_as_many_steps_as_may_use_them() -> None:
    attempts = FakeAttempts()
    async with queue(attempts) as flow, anyio.create_task_group() as tasks:
        step = Step()
        tasks.start_soon(step.take, flow)
        await anyio.wait_all_tasks_blocked()
        # Steps 0 and 1 may use weights 0: two groups each.
        assert sorted(attempts.begun) == [(place, number) for place in range(4) for number in range(2)]
        await attempts.let((1, 0), (3, 0), (1, 1))
        assert step.places() is None
        await attempts.let((3, 1))
        assert step.places() == [1, 3]
        assert flow.in_flight == 4
        flow.pushed(1)
        await anyio.wait_all_tasks_blocked()
        assert len(attempts.begun) == 8  # the next step has not asked yet
        later = Step()
        tasks.start_soon(later.take, flow)
        await anyio.wait_all_tasks_blocked()
        assert sorted(attempts.begun[8:]) == [(4, 0), (4, 1), (5, 0), (5, 1)]
        # Groups 0 and 2 are of weights 0, and this is the last step that may use them: it waits for both.
        await attempts.let((4, 0), (4, 1), (5, 0), (5, 1), (0, 0), (0, 1), (2, 0))
        assert later.places() is None
        await attempts.let((2, 1))
        assert later.places() == [0, 2]
        assert later.taken is not None
        assert later.taken.figures["flow/staleness_max"] == 1


@pytest.mark.anyio
async def test_without_staleness_nothing_is_in_flight_while_a_step_is_trained() -> None:
    attempts = FakeAttempts()
    async with queue(attempts, staleness=0) as flow, anyio.create_task_group() as tasks:
        for number in range(2):
            step = Step()
            tasks.start_soon(step.take, flow)
            await anyio.wait_all_tasks_blocked()
            await attempts.let(*attempts.under_way)
            assert step.places() == [2 * number, 2 * number + 1]
            assert (flow.in_flight, len(attempts.begun)) == (0, 4 * (number + 1))
            flow.pushed(number + 1)


@pytest.mark.anyio
async def test_a_limit_holds_for_all_trees_and_places_are_filled_at_once() -> None:
    attempts = FakeAttempts()
    async with queue(attempts, limit=3) as flow, anyio.create_task_group() as tasks:
        tasks.start_soon(Step().take, flow)
        await anyio.wait_all_tasks_blocked()
        assert sorted(attempts.under_way) == [(0, 0), (0, 1), (1, 0)]
        await attempts.let((0, 1))
        assert sorted(attempts.under_way) == [(0, 0), (1, 0), (1, 1)]
        tasks.cancel_scope.cancel()
    assert attempts.most_under_way == 3


@pytest.mark.anyio
async def test_nothing_begins_for_steps_that_the_run_will_not_make() -> None:
    attempts = FakeAttempts()
    async with queue(attempts, staleness=4) as flow, anyio.create_task_group() as tasks:
        step = Step()
        tasks.start_soon(step.take, flow, 2)
        await anyio.wait_all_tasks_blocked()
        assert {place for place, _ in attempts.begun} == {0, 1, 2, 3}
        await attempts.let((0, 0), (0, 1), (1, 0), (1, 1))
        assert step.places() == [0, 1]
        await attempts.let(*attempts.under_way)
        flow.pushed(1)
        last = await flow.take(1)
        assert (places(last), len(attempts.begun)) == ([2, 3], 8)


@pytest.mark.anyio
@pytest.mark.parametrize(("order", "begun"), [("completed", 2 + 4 + 3), ("planned", 2 * 5)])
async def test_groups_that_would_only_grow_old_do_not_begin(order: Order, begun: int) -> None:
    attempts = FakeAttempts(1)
    async with queue(attempts, size=2, limit=4, staleness=4, order=order) as flow, anyio.create_task_group() as tasks:
        step = Step()
        tasks.start_soon(step.take, flow)
        while step.taken is None or (attempts.under_way and len(attempts.begun) < begun + 2):
            await anyio.wait_all_tasks_blocked()
            await attempts.let(*sorted(attempts.under_way)[:1])
        # Two groups are taken; when four are complete, the three that are in flight go on, and none begins any more.
        assert len(attempts.begun) == begun


@pytest.mark.anyio
async def test_draining_waits_for_trees_in_flight_and_holds_back_the_others() -> None:
    attempts = FakeAttempts()
    drained = []

    async def drain(flow: Flow) -> None:
        await flow.drain()
        drained.append(flow.in_flight)

    async with queue(attempts, limit=5) as flow, anyio.create_task_group() as tasks:
        step = Step()
        tasks.start_soon(step.take, flow)
        await anyio.wait_all_tasks_blocked()
        await attempts.let((0, 0), (0, 1), (1, 0), (1, 1))
        assert step.places() == [0, 1]
        under_way = sorted(attempts.under_way)
        tasks.start_soon(drain, flow)
        await attempts.let(*under_way[1:])
        assert (drained, sorted(attempts.under_way)) == ([], under_way[:1])
        await attempts.let(*under_way[:1])
        assert (drained, attempts.under_way) == ([0], {})
        begun = len(attempts.begun)
        flow.pushed(1)
        tasks.start_soon(Step().take, flow)
        await anyio.wait_all_tasks_blocked()
        assert len(attempts.begun) > begun
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_what_is_done_at_the_end_is_kept_and_used_first() -> None:
    attempts = FakeAttempts()
    async with queue(attempts) as flow, anyio.create_task_group() as tasks:
        step = Step()
        tasks.start_soon(step.take, flow)
        await anyio.wait_all_tasks_blocked()
        await attempts.let((0, 0), (2, 0), (2, 1), (3, 0), (3, 1))
        assert step.places() == [2, 3]
        flow.end()
        await attempts.let((1, 1))  # those in flight go on
    assert sorted(attempts.cancelled) == [(0, 1), (1, 0)]
    made = +attempts.made
    async with queue(attempts, used={2, 3}) as flow, anyio.create_task_group() as tasks:
        step = Step()
        tasks.start_soon(step.take, flow)
        await anyio.wait_all_tasks_blocked()
        assert sorted(attempts.under_way)[:2] == [(0, 1), (1, 0)]
        await attempts.let((0, 1), (1, 0))
        assert step.places() == [0, 1]
    assert all(count == 1 for count in attempts.made.values())
    assert attempts.made.keys() - made.keys() == {(0, 1), (1, 0)}


@pytest.mark.anyio
async def test_a_step_takes_the_groups_again_that_it_had_before_the_run_was_killed() -> None:
    attempts = FakeAttempts()
    for place in range(2, 6):
        for number in range(2):
            attempts.known[place, number] = Outcome(version=0)
    async with queue(attempts, size=2, limit=2) as flow:
        with anyio.fail_after(PATIENCE):
            assert places(await flow.take(only=[5, 2])) == [2, 5]  # though the limit is reached, and others come before
            flow.pushed(1)
            assert places(await flow.take(only=[3, 4])) == [3, 4]


@pytest.mark.anyio
async def test_an_error_ends_the_run_and_nothing_begins_after_it() -> None:
    attempts = FakeAttempts()
    attempts.fails[0, 1] = ValueError("the key was refused")
    async with queue(attempts, limit=2) as flow:
        async with anyio.create_task_group() as tasks:

            async def refused() -> None:
                with pytest.raises(ValueError, match="the key was refused"):
                    await flow.take()

            tasks.start_soon(refused)
            await anyio.wait_all_tasks_blocked()
            await attempts.let((0, 1))
        assert sorted(attempts.under_way) == [(0, 0)]
        with pytest.raises(ValueError, match="the key was refused"):
            await flow.take()


@pytest.mark.anyio
async def test_at_the_end_an_attempt_that_no_step_needs_may_fail() -> None:
    attempts = FakeAttempts(1)
    attempts.fails[2, 0] = ValueError("the endpoint is gone")
    async with queue(attempts) as flow, anyio.create_task_group() as tasks:
        step = Step()
        tasks.start_soon(step.take, flow)
        await anyio.wait_all_tasks_blocked()
        await attempts.let((0, 0), (1, 0))
        assert step.places() == [0, 1]
        flow.end()
        tasks.start_soon(flow.drain)
        await attempts.let((2, 0))
        assert flow.in_flight == 1  # which is waited for
        await attempts.let((3, 0))
    assert not attempts.cancelled


def test_the_shares_of_time_and_the_lengths_are_those_of_a_run_by_hand() -> None:
    """Two groups of one tree a step, one place too many; trees of 1 to 4 s, pushes take none, a step is trained for 10 s."""
    attempts = FakeAttempts(1, lambda place, number: float(place + 1))

    async def run() -> list[dict[str, float]]:
        figures = []
        async with queue(attempts, limit=5) as flow:
            for version in range(2):
                figures.append((await flow.take(2 - version)).figures)
                await anyio.sleep(10)
                flow.pushed(version + 1)
        return figures

    first, second = run_virtually(run)
    # Four trees begin at 0; the first two end at 1 and 2 s.
    assert first["flow/trainer_wait"] == first["flow/sampler_idle"] == 1.0
    assert first["flow/in_flight"] == pytest.approx((4 + 3) / 2)
    assert (first["flow/taken_seconds"], first["flow/left_seconds"]) == (1.5, 2.0)
    assert "flow/left_tokens" not in first
    assert first["flow/length_bias"] == pytest.approx(1.5 / 1.75)
    # The others end at 3 and 4 s, during the training.
    assert (second["flow/trainer_wait"], second["flow/sampler_idle"]) == (0.0, 1.0)
    assert second["flow/in_flight"] == pytest.approx((1 * 2 + 1 * 1) / 10)
    assert (second["flow/taken_tokens"], second["flow/length_bias"]) == (3.5, 1.0)


def test_the_time_that_a_step_waits_for_an_old_group_is_counted() -> None:
    seconds = {0: 50.0, 1: 1.0, 2: 1.0, 3: 1.0}
    attempts = FakeAttempts(1, lambda place, number: seconds.get(place, 1.0))

    async def run() -> dict[str, float]:
        async with queue(attempts, size=1) as flow:
            await flow.take()  # group 1, at 1 s
            flow.pushed(1)
            return (await flow.take()).figures  # group 0 is its last chance; group 2 is complete at 2 s

    assert run_virtually(run)["flow/wait_for_old"] == pytest.approx(48.0)


@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 3),
    generations=st.integers(1, 3),
    limit=st.integers(1, 12),
    staleness=st.integers(0, 3),
    order=st.sampled_from(["completed", "planned"]),
    drain=st.booleans(),
    lives=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
@settings(max_examples=60)
def test_no_group_is_lost_used_twice_or_too_old(
    seed: int, size: int, generations: int, limit: int, staleness: int, order: Order, drain: bool, lives: list[int]
) -> None:
    """Over several lives of a run, each ended after some steps, with trees of any length and steps that teach nothing."""
    rng = random.Random(seed)
    attempts = FakeAttempts(generations, lambda place, number: rng.choice([0.1, 1.0, 1.0, 3.0, 40.0]))
    used: list[int] = []
    version = 0

    async def life(steps: int) -> None:
        nonlocal version
        async with queue(attempts, size=size, limit=limit, staleness=staleness, order=order, used=set(used)) as flow:
            flow.pushed(version)
            for _ in range(steps):
                taken = await flow.take()
                used.extend(places(taken))
                for group in taken.groups:
                    outcomes = [attempts.known[group.place, number] for number in range(generations)]
                    assert all(version - (each.version or 0) <= staleness for each in outcomes)
                    assert version - group.oldest <= staleness
                if order == "planned" or not staleness:
                    assert used == list(range(len(used)))
                if rng.random() < 0.3:
                    continue  # it taught nothing: the next step has the same weights
                await anyio.sleep(rng.choice([0.0, 0.5, 5.0, 60.0]))
                if drain:
                    await flow.drain()
                    assert not attempts.under_way
                version = attempts.version = version + 1
                flow.pushed(version)

    for steps in lives:
        run_virtually(partial(life, steps))
    assert len(set(used)) == len(used) == size * sum(lives)
    assert all(attempts.made[place, number] == 1 for place in used for number in range(generations))
    assert attempts.most_under_way <= limit
    # What is left is next in the plan: nothing is skipped for good.
    left = sorted({place for place, _ in attempts.begun} - set(used))
    assert len(left) <= size * (staleness + 1)
    assert Counter(attempts.made.values()).keys() <= {1}
