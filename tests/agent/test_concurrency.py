"""Races, task groups that unwrap, and tasks outside every task group."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from recursive_agent.concurrency import LOST, race, settled, spawn, task_group
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio
PLACE: ContextVar[str] = ContextVar("place", default="nowhere")


class Runner:
    """Runs until it is cancelled, and remembers that it was."""

    def __init__(self) -> None:
        self.started = anyio.Event()
        self.cancelled = False

    async def __call__(self) -> str:
        self.started.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        return "never"


@pytest.mark.parametrize("value", ["won", None, False, []], ids=repr)
async def test_the_work_that_ends_first_gives_its_value_and_the_other_is_cancelled(value: Any) -> None:
    other = Runner()

    async def work() -> Any:
        await other.started.wait()
        return value

    assert await race(work, other) is value
    assert other.cancelled


async def test_work_is_cancelled_where_the_other_ends_first() -> None:
    work = Runner()

    assert await race(work, work.started.wait) is LOST
    assert work.cancelled


async def test_what_either_side_raises_comes_out_as_it_is_and_cancels_the_other() -> None:
    for failing_side in ("work", "other"):
        runner = Runner()
        error = KeyError("its own")

        async def fails(runner: Runner = runner, error: KeyError = error) -> None:
            await runner.started.wait()
            raise error

        pair = (fails, runner) if failing_side == "work" else (runner, fails)
        with pytest.raises(KeyError) as caught:
            await race(*pair)
        assert caught.value is error
        assert runner.cancelled


async def test_a_race_that_is_cancelled_cancels_both_sides() -> None:
    work, other = Runner(), Runner()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(race, work, other)
            await work.started.wait()
            await other.started.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert work.cancelled
    assert other.cancelled


async def test_a_task_group_raises_what_went_wrong_and_not_what_was_cancelled_for_it() -> None:
    async def fails() -> None:
        raise ValueError("inner")

    async def fails_in_a_task() -> None:
        async with task_group() as outer, task_group() as inner:
            outer.start_soon(anyio.sleep_forever)
            inner.start_soon(fails)

    async def fails_in_its_body() -> None:
        async with task_group() as group:
            group.start_soon(anyio.sleep_forever)
            raise ValueError("body")

    with pytest.raises(ValueError, match="inner"):
        await fails_in_a_task()
    with pytest.raises(ValueError, match="body"):
        await fails_in_its_body()


async def test_a_task_group_lets_cancellation_from_outside_through() -> None:
    with anyio.CancelScope() as scope:
        async with task_group() as group:
            group.start_soon(anyio.sleep_forever)
            scope.cancel()
    assert scope.cancelled_caught


async def test_a_spawned_task_runs_in_the_context_of_its_caller_and_can_be_cancelled() -> None:
    runner, places, over = Runner(), [], anyio.Event()

    async def body() -> None:
        places.append(PLACE.get())
        try:
            await runner()
        finally:
            over.set()

    token = PLACE.set("here")
    try:
        spawned = spawn(body)
    finally:
        PLACE.reset(token)
    with anyio.fail_after(PATIENCE):
        await runner.started.wait()
        spawned.cancel()
        await over.wait()
    assert places == ["here"]
    assert runner.cancelled


async def test_settled_gives_the_end_of_a_call_whatever_it_is() -> None:
    async def gives() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    async def fails() -> None:
        raise SystemExit("no")

    assert (await settled(gives)).value == 7
    assert isinstance((await settled(fails)).error, SystemExit)


async def test_a_call_that_takes_no_cancellation_is_left_behind_after_its_grace() -> None:
    release, over, started = anyio.Event(), anyio.Event(), anyio.Event()

    async def stubborn() -> None:
        started.set()
        with anyio.CancelScope(shield=True):
            try:
                await release.wait()
            except anyio.get_cancelled_exc_class():  # asyncio's own cancellation passes a shield
                await release.wait()
        over.set()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(settled, stubborn, 0.01)
            await started.wait()
            group.cancel_scope.cancel()
        assert not over.is_set()  # the wait has ended, the call has not
        release.set()
        await over.wait()
