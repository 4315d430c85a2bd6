"""Carries plans out, one after the other in one process, and checks each.

Most trees share one sandbox, on the virtual clock, with the endpoint on the same loop. `Plan.machine` says otherwise:
`own` and `open` start a sandbox of their own, and everything of it must be gone afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest import mock

import anyio

from recursive_agent import Agent, Limits, OpenTelemetry, Result
from recursive_agent.errors import NotFinished
from recursive_agent.limits import Budget, Slots
from recursive_agent.model import Endpoint, connect
from recursive_agent.repl import ProcessSandbox

from . import cells
from .application import Application, WatchedSandbox
from .clock import VirtualLoop, descendants
from .endpoint import KEY, CampaignEndpoint
from .invariants import GRACE, Observed, Violation, check
from .inventory import Inventory, settle, steady
from .machine import Machine, clock_of_the_world
from .plan import NodePlan, Plan

REAL_SECONDS = 60.0
"""Seconds (real) after which a tree is given up, however busy the machine."""
_RETURNS: dict[str, Any] = {"": None, "str": str, "int": int, "list[str]": list[str]}
_OWN_NOISE = ("socket.accept() out of system resource", "BaseSelectorEventLoop._start_serving")
"""Of the campaign's endpoint, which has no descriptors left either."""


@dataclass(frozen=True, slots=True)
class Report:
    """One tree, checked."""

    plan: Plan
    violations: list[Violation] = field(default_factory=list)
    status: str = ""
    calls: int = 0
    agents: int = 0
    faults: int = 0
    real_seconds: float = 0.0
    virtual_seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return bool(self.violations)


class _GivenUp(BaseException):
    """A tree that cannot even be cancelled: its loop is of no use any more."""

    def __init__(self, seen: Observed) -> None:
        self.seen = seen


class Campaign:
    """Carries plans out, one after the other; a context manager. What a tree has broken is made anew for the next."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._crew: _Crew | None = None
        self._folder = Path()

    def __enter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rao-campaign-")))
        self._stack.enter_context(_temporary(self._folder))
        return self

    def __exit__(self, *exc: object) -> None:
        self._dismiss()
        self._stack.close()

    def carry_out(self, plan: Plan) -> Report:
        """One tree, checked."""
        self._crew = self._crew or _Crew(VirtualLoop(), self._folder)
        began = time.monotonic()
        seen = self._crew.observe(plan)
        if self._crew.used_up:
            self._dismiss()
        return report(seen, time.monotonic() - began)

    def _dismiss(self) -> None:
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.close()


def run(plans: Iterable[Plan]) -> Iterator[Report]:
    """Carry plans out and check each."""
    with Campaign() as campaign:
        for plan in plans:
            yield campaign.carry_out(plan)


class _Crew:
    """A loop with its sandbox, as long as they are of use."""

    def __init__(self, loop: VirtualLoop, folder: Path) -> None:
        self.used_up = False
        self._loop = loop
        self._folder = folder
        self._noise: list[str] = []
        self._machine: Machine | None = None
        self._house = _House()
        self._baseline: Inventory | None = None
        loop.set_exception_handler(self._hear)

    def observe(self, plan: Plan) -> Observed:
        """Carry one plan out."""
        offset = lambda: self._loop.skipped + (self._machine.jumped if self._machine else 0.0)  # noqa: E731
        # Looked at less often, so that an hour of waiting is not fourteen thousand jumps.
        with clock_of_the_world(offset), mock.patch("recursive_agent.repl.watchdog.PERIOD", 5.0):
            if self._baseline is None:
                self._run(self._house.open())
                self._baseline = self._run(self._warm_up())
                gc.collect()
                gc.freeze()
            try:
                seen = self._run(self._one(plan))
            except _GivenUp as given_up:
                seen, self.used_up = given_up.seen, True
            except SystemExit as error:  # asyncio lets it through whatever it interrupts
                self.used_up = True
                assert self._machine is not None
                self._machine.restore()
                seen = Observed(plan=plan, machine=self._machine, error=error)
            self.used_up = self.used_up or bool(seen.left) or seen.broken is not None
            return seen

    def close(self) -> None:
        """Close the loop; one that was given up is left as it is, without its processes."""
        gc.unfreeze()
        if not self.used_up and self._baseline is not None:
            self._run(self._house.close())
        if self.used_up:
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for task in asyncio.all_tasks(self._loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(Exception):
                self._loop.close()
            gc.collect()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def _run(self, coroutine: Any) -> Any:
        asyncio.set_event_loop(self._loop)
        try:
            return self._loop.run_until_complete(coroutine)
        finally:
            asyncio.set_event_loop(None)

    def _hear(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        said = str(context.get("message", ""))
        if not any(own in said for own in _OWN_NOISE):
            self._noise.append(f"{said}: {context.get('exception')!r}"[:300])

    async def _warm_up(self) -> Inventory:
        """What is made once in a process is made now: imports, threads, the first REPL."""
        for interface in ("chat", "tokens"):
            plan = Plan(
                seed=-1, root=NodePlan(name="0"), interface=interface, score="fine", limits={"max_tokens": None}
            )
            await self._one(plan, warm=True)
        return await steady()

    # -- one tree ----------------------------------------------------------------------------------------------------

    async def _one(self, plan: Plan, *, warm: bool = False) -> Observed:
        loop, house = self._loop, self._house
        folder = self._folder / f"tree-{plan.seed}"
        machine = self._machine = Machine(folder)
        application = Application(plan, machine)
        seen = Observed(plan=plan, machine=machine)
        loop.at_work = lambda: house.at_work or _detached() > application.hanging
        loop.room = machine.room
        loop.longest_block = 0.0
        self._noise = seen.noise
        with watched(seen), unraisable(seen.noise), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            async with CampaignEndpoint(plan, machine.strike, time.time) as endpoint:
                seen.endpoint = endpoint
                try:
                    await self._watch(seen, solve(plan, machine, application, endpoint, house.sandbox), house)
                finally:
                    machine.restore()
                    application.release.set()
                seen.traces = sorted(machine.traces.glob("*.jsonl")) if machine.traces.is_dir() else []
                end = time.monotonic() + 5
                while endpoint.running and time.monotonic() < end:  # who was left alone notices
                    await asyncio.sleep(0.001)
            seen.block = loop.longest_block
            if not warm:
                gc.collect()
                if machine.struck and house.broken is None:
                    seen.broken = await house.probe()
                seen.broken = seen.broken or house.broken
                if seen.broken is None and self._baseline is not None:
                    files = [path.name for path in machine.temporary.iterdir()]
                    seen.left = await settle(self._baseline, Inventory.take) + [f"file {name}" for name in files]
        seen.noise += [f"{item.category.__name__}: {item.message}"[:300] for item in warned]
        return seen

    async def _watch(self, seen: Observed, work: Any, house: _House) -> None:
        """Await the tree, but not for ever."""
        loop, machine = self._loop, seen.machine
        task = loop.create_task(work, name="the tree")
        machine.cancel_task = task.cancel
        began = loop.time()
        late = asyncio.Event()
        loop.real_deadline, loop.when_overdue = time.monotonic() + REAL_SECONDS, late.set
        alarm = loop.create_task(late.wait(), name="alarm")
        timeout = seen.plan.limits.get("timeout", 900.0)
        waited = {task, alarm, *house.tasks}
        await asyncio.wait(
            waited, timeout=None if timeout is None else timeout + GRACE, return_when=asyncio.FIRST_COMPLETED
        )
        if house.broken is not None and not task.done():
            await asyncio.wait({task, alarm}, timeout=30.0, return_when=asyncio.FIRST_COMPLETED)
        seen.seconds = loop.time() - began
        alarm.cancel()
        if not task.done():
            in_real = f"{REAL_SECONDS:g} real seconds passed; " if late.is_set() else ""
            seen.overdue = in_real + _where(task)
            machine.restore()
            task.cancel()
            loop.real_deadline, loop.when_overdue = time.monotonic() + 10, lambda: None
            await asyncio.wait({task}, timeout=60.0)
            if not task.done():
                seen.overdue += "; and it cannot be cancelled"
                raise _GivenUp(seen)
        loop.real_deadline = float("inf")
        try:
            seen.result = task.result()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            seen.error = error


class _House:
    """The sandbox that trees share, in a task of its own: whatever happens to it, the campaign goes on."""

    def __init__(self) -> None:
        self.sandbox: WatchedSandbox | None = None
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return [self._task] if self._task is not None and not self._task.done() else []

    @property
    def at_work(self) -> bool:
        return self.sandbox is not None and self.sandbox.at_work

    @property
    def broken(self) -> str | None:
        """Why there is no sandbox any more."""
        if self._task is None or not self._task.done():
            return None
        error = None if self._task.cancelled() else self._task.exception()
        return f"the sandbox has ended: {error!r}"

    async def open(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="the house")
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    async def _keep(self) -> None:
        async with WatchedSandbox(ProcessSandbox(spares=4)) as self.sandbox:
            self._ready.set()
            await self._stop.wait()

    async def close(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task

    async def probe(self) -> str | None:
        """Whether the sandbox still gives an interpreter that works; why not."""
        assert self.sandbox is not None

        async def nobody(request: Any) -> None:
            return None

        try:
            async with asyncio.timeout(60):
                repl = await self.sandbox.open(call=nobody)
                try:
                    ran = await repl.run("1 + 1")
                finally:
                    await repl.aclose()
        except Exception as error:
            return f"no REPL after the faults have ended: {type(error).__name__}: {error}"
        return None if ran.output.strip() == "2" else f"a REPL after the faults says {ran}"


async def solve(
    plan: Plan,
    machine: Machine,
    application: Application,
    endpoint: CampaignEndpoint,
    sandbox: Any,
    rng: random.Random | None = None,
) -> Result:
    """The caller of one tree. `sandbox` is what trees share, `rng` draws the jitter between attempts."""
    settings: dict[str, Any] = {
        "tools": application.tools,
        "limits": Limits(**plan.limits),
        "sampling": {"max_tokens": plan.sampling},
        "prompt_style": plan.style,
        "trace_dir": machine.traces if plan.trace else None,
        "prices": {"prompt": 1.0, "completion": 2.0} if plan.prices else None,
        "observers": [OpenTelemetry(machine.tracers, content=True)],
        "sandbox": sandbox if plan.machine == "shared" else "process",
    }
    arguments: dict[str, Any] = {"returns": _RETURNS[plan.returns], "score": application.scorer, "seed": plan.seed}
    remote = Endpoint("scripted", endpoint.base_url, KEY)
    rng = rng or random.Random(plan.seed)
    model = connect(remote, interface=plan.interface, timeout=plan.request_timeout, patience=None, rng=rng)  # type: ignore[arg-type]
    try:
        agent = Agent(model, **settings)
        with anyio.CancelScope() as scope:
            machine.cancel_scope = scope.cancel
            async with contextlib.AsyncExitStack() as stack:
                if plan.machine == "open":
                    await stack.enter_async_context(agent)
                return await _enter(plan, machine, agent, arguments)
        raise asyncio.CancelledError
    finally:
        await model.aclose()


async def _enter(plan: Plan, machine: Machine, agent: Agent, arguments: dict[str, Any]) -> Result:
    goal = cells.goal("0")
    if plan.entry == "solve":
        return await agent.solve(goal, **arguments)
    most = plan.seed % 23 if plan.entry == "leave" else sys.maxsize
    async with agent.stream(goal, **arguments) as stream:
        seen = 0
        async for _ in stream:
            seen += 1
            if seen > most:
                machine.cancelled = True
                break
    try:
        return stream.result
    except NotFinished:
        if machine.cancelled:
            raise asyncio.CancelledError from None
        raise


# -- what is watched ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(seen: Observed) -> Iterator[None]:
    """Every budget and every set of slots that is made meanwhile."""
    budget, slots = Budget.__init__, Slots.__init__

    def of_budget(self: Budget, *arguments: Any, **named: Any) -> None:
        budget(self, *arguments, **named)
        seen.budgets.append(self)

    def of_slots(self: Slots, total: int, *arguments: Any, **named: Any) -> None:
        slots(self, total, *arguments, **named)
        seen.slots.append((self, total))

    with mock.patch.object(Budget, "__init__", of_budget), mock.patch.object(Slots, "__init__", of_slots):
        yield


def _detached() -> int:
    """Threads that do something for a tree; one that waits for the interpreter looks to the kernel as if it slept."""
    return sum(thread.name == "rao-detached" for thread in threading.enumerate())


@contextlib.contextmanager
def unraisable(noise: list[str]) -> Iterator[None]:
    def hear(given: Any) -> None:
        noise.append(f"unraisable {given.exc_value!r} in {given.object!r}"[:300])

    with mock.patch("sys.unraisablehook", hear):
        yield


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    with mock.patch.dict("os.environ", {"TMPDIR": str(folder)}), mock.patch("tempfile.tempdir", None):
        yield


def _where(task: asyncio.Task[Any]) -> str:
    """Where every task stands, innermost place first."""
    places = []
    for one in asyncio.all_tasks():
        frames = one.get_stack()
        if frames and one is not asyncio.current_task():
            last = traceback.extract_stack(frames[-1], limit=1)[-1]
            name = getattr(one.get_coro(), "__qualname__", one.get_name())
            places.append(f"{name} at {Path(last.filename).name}:{last.lineno}")
    return "tasks: " + ", ".join(sorted(set(places)))


def report(seen: Observed, real: float) -> Report:
    """A tree, checked."""
    violations = check(seen)
    shutil.rmtree(seen.machine.traces.parent, ignore_errors=True)
    tree = seen.tree
    return Report(
        plan=seen.plan,
        violations=violations,
        status=str(tree.status) if tree is not None and tree.nodes else type(seen.error).__name__,
        calls=len(seen.endpoint.bills) if seen.endpoint is not None else 0,
        agents=len(tree.nodes) if tree is not None else 0,
        faults=sum(bool(bill.kind) for bill in seen.endpoint.bills) + len(seen.machine.struck) if seen.endpoint else 0,
        real_seconds=real,
        virtual_seconds=seen.seconds,
    )


__all__ = ["Report", "report", "run", "solve"]
