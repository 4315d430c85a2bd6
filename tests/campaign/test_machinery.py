"""The campaign itself: its clock, its plans, its shrinking, and that it sees what it looks for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import wraps
from typing import Any
from unittest import mock

import pytest

from recursive_agent.limits import Budget, Slots
from recursive_agent.trace.store import TraceWriter
from recursive_agent.tree import Tree
from recursive_agent.usage import Usage
from tests.campaign import answers
from tests.campaign.application import Application
from tests.campaign.clock import VirtualLoop
from tests.campaign.draw import DEPTH, FAN_OUT, draw
from tests.campaign.invariants import Violation
from tests.campaign.plan import Fault, NodePlan, Plan, Step
from tests.campaign.runner import Campaign, Report
from tests.campaign.shrink import shrink

# -- the clock -------------------------------------------------------------------------------------------------------


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_hours_of_waiting_pass_at_once_and_in_order(loop: VirtualLoop) -> None:
    order: list[float] = []

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    async def all_of_them() -> float:
        began = loop.time()
        await asyncio.gather(*(wait(hours * 3600.0) for hours in (5, 1, 3)))
        return loop.time() - began

    began = time.monotonic()
    passed = loop.run_until_complete(all_of_them())
    assert order == [3600.0, 3 * 3600.0, 5 * 3600.0]
    assert 5 * 3600 <= passed < 5 * 3600 + 60
    assert time.monotonic() - began < 60


def test_the_clock_keeps_its_pace_while_a_process_below_works(loop: VirtualLoop) -> None:
    async def watch() -> tuple[float, float]:
        began, real = loop.time(), time.monotonic()
        timer = asyncio.ensure_future(asyncio.sleep(3600))
        code = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
        process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code)
        pidfd = os.pidfd_open(process.pid)
        gone = asyncio.Event()
        loop.add_reader(pidfd, gone.set)
        await gone.wait()
        loop.remove_reader(pidfd)
        os.close(pidfd)
        passed = loop.time() - began, time.monotonic() - real
        timer.cancel()
        await process.wait()
        return passed

    asyncio.set_event_loop(loop)  # the watcher of child processes asks for it
    try:
        virtual, real = loop.run_until_complete(watch())
    finally:
        asyncio.set_event_loop(None)
    assert virtual == pytest.approx(real, abs=1.0)


def test_the_clock_keeps_its_pace_while_someone_says_that_work_goes_on(loop: VirtualLoop) -> None:
    loop.at_work = lambda: True
    began, real = loop.time(), time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.05))
    assert loop.time() - began == pytest.approx(time.monotonic() - real, abs=0.01)


# -- plans -----------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_plan_always_and_a_plan_survives_being_printed() -> None:
    for seed in range(300):
        plan = draw(seed)
        assert plan == draw(seed)
        assert Plan.from_json(plan.to_json()) == plan
        for node in plan.root.walk():
            assert node.name.count(".") <= DEPTH
            assert len(node.children) <= FAN_OUT


def test_the_plan_of_a_seed_is_the_same_in_another_process() -> None:
    code = "from tests.campaign.draw import draw; print(*(draw(seed).to_json() for seed in range(40)), sep='\\n')"
    environment = {**os.environ, "PYTHONHASHSEED": "17"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert printed.stdout.splitlines() == [draw(seed).to_json() for seed in range(40)]


def test_every_way_to_fail_is_drawn() -> None:
    plans = [draw(seed) for seed in range(2000)]
    drawn = {fault.kind for plan in plans for fault in plan.faults}
    assert set(answers.KINDS) <= drawn
    assert sum(len(plan.faults) for plan in plans) > 2 * len(plans)


# -- shrinking -------------------------------------------------------------------------------------------------------


def test_what_fails_is_shrunk_to_the_fault_that_does_it() -> None:
    guilty = Fault(node="0.1", step=0, kind="stall", times=1)

    def again(plan: Plan) -> Report:
        fails = any(fault.node == "0.1" and fault.kind == "stall" for fault in plan.faults)
        return Report(plan, [Violation("bounded", "hangs")] if fails else [])

    leaves = tuple(NodePlan(name=f"0.{n}", steps=(Step(kind="print"),)) for n in range(4))
    launch = Step(kind="launch", children=tuple(leaf.name for leaf in leaves), context=100)
    innocent = tuple(Fault(node=f"0.{n}", step=1, kind="500", times=3) for n in range(4))
    large = Plan(
        seed=1, root=NodePlan(name="0", steps=(launch,), children=leaves), faults=(*innocent, guilty), score="fine"
    )
    small = shrink(again(large), again=again).plan
    assert small.faults == (guilty,)
    assert small.score == ""
    # What only the fault needs stays: nothing else does.
    assert sum(len(node.steps) for node in small.root.walk()) == 0


# -- what it sees ----------------------------------------------------------------------------------------------------

PLAN = Plan(
    seed=3,
    root=NodePlan(
        name="0",
        steps=(Step(kind="act", what="fine"), Step(kind="launch", children=("0.0", "0.1"))),
        children=(NodePlan(name="0.0"), NodePlan(name="0.1")),
    ),
    limits={"max_tokens": None, "timeout": 20_000.0},
)


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    with Campaign() as campaign:
        yield campaign


def test_a_tree_to_which_nothing_happens_breaks_nothing(campaign: Campaign) -> None:
    report = campaign.carry_out(PLAN)
    assert not report.failed, report.violations
    assert (report.status, report.agents, report.calls) == ("finished", 3, 5)


def test_a_fault_hits_the_same_call_whatever_the_order(campaign: Campaign) -> None:
    fault = Fault(node="0.1", step=0, kind="400")
    reports = [campaign.carry_out(replace(PLAN, faults=(fault,))) for _ in range(3)]
    assert [(report.status, report.calls, report.faults) for report in reports] == [("finished", 5, 1)] * 3
    assert not any(report.failed for report in reports)


def test_minutes_of_backoff_cost_no_time(campaign: Campaign) -> None:
    fault = Fault(node="0", step=0, kind="busy seconds", times=4, amount=100.0)
    report = campaign.carry_out(replace(PLAN, faults=(fault,)))
    assert report.virtual_seconds > 300
    assert report.status == "finished"


def _leak_a_slot() -> AbstractContextManager[Any]:
    return mock.patch.object(Slots, "_release")


def _keep_reservations() -> AbstractContextManager[Any]:
    def settle(self: Budget, reserved: float, spent: float) -> None:
        self.settled += spent
        self._serve()

    return mock.patch.object(Budget, "settle", settle)


def _leak_a_descriptor() -> AbstractContextManager[Any]:
    stack = ExitStack()
    act = Application.act

    @wraps(act)
    async def leaky(self: Application, place: str) -> Any:
        fd = os.open("/dev/null", os.O_RDONLY)
        stack.callback(os.close, fd)
        return await act(self, place)

    stack.enter_context(mock.patch.object(Application, "act", leaky))
    return stack


def _leak_a_task() -> AbstractContextManager[Any]:
    tasks: list[asyncio.Task[Any]] = []
    act = Application.act

    @wraps(act)
    async def leaky(self: Application, place: str) -> Any:
        tasks.append(asyncio.ensure_future(asyncio.Event().wait()))
        return await act(self, place)

    return mock.patch.object(Application, "act", leaky)


def _count_less() -> AbstractContextManager[Any]:
    add = Usage.__add__
    return mock.patch.object(Usage, "__add__", lambda self, other: add(self, replace(other, prompt_tokens=0)))


def _raise_a_foreign_exception() -> AbstractContextManager[Any]:
    return mock.patch.object(Tree, "refusal", mock.Mock(side_effect=KeyError("foreign")))


def _write_less() -> AbstractContextManager[Any]:
    append = TraceWriter.append
    return mock.patch.object(
        TraceWriter, "append", lambda self, event: None if event.kind == "host_called" else append(self, event)
    )


def _stand_still() -> AbstractContextManager[Any]:
    def busy(*_: Any) -> None:
        end = time.thread_time() + 0.7
        while time.thread_time() < end:
            pass

    return mock.patch.object(Tree, "refusal", busy)


@pytest.mark.parametrize(
    ("sabotage", "invariant"),
    [
        (_leak_a_slot, "nothing is held"),
        (_keep_reservations, "nothing is held"),
        (_leak_a_descriptor, "nothing is left"),
        (_leak_a_task, "nothing is left"),
        (_count_less, "ledger"),
        (_raise_a_foreign_exception, "clean trees finish"),
        (_write_less, "trace"),
        (_stand_still, "responsive"),
    ],
)
def test_the_campaign_sees_what_it_looks_for(
    campaign: Campaign, sabotage: Callable[[], AbstractContextManager[Any]], invariant: str
) -> None:
    campaign.carry_out(PLAN)
    with sabotage():
        report = campaign.carry_out(PLAN)
    assert invariant in {violation.invariant for violation in report.violations}


def test_the_campaign_sees_a_tree_that_hangs_and_goes_on_with_the_next(campaign: Campaign) -> None:
    async def reserve(*_: Any) -> float:
        await asyncio.Event().wait()
        return 0.0

    with mock.patch.object(Budget, "reserve", reserve):
        report = campaign.carry_out(replace(PLAN, limits={"max_tokens": None, "timeout": None}))
    assert "bounded" in {violation.invariant for violation in report.violations}
    assert not campaign.carry_out(PLAN).failed
