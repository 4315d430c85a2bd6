"""The queue between rollouts and training: planned attempts flow through it, and each step takes complete groups.

Attempts begin in the order of the plan as soon as there is room: at most `limit` trees are in flight, and at most `size`
groups have begun for each of the steps that may still use them. When step v has its weights and waits for its groups, these
are the steps v to v + `staleness`; while it trains, the `staleness` steps after it. So no tree is more than `staleness`
updates old when it is trained on. Which groups a step takes is said in `choice.py`. A group is complete when its attempts have
ended, and the further attempts at its sub-tasks too.

Where steps take the first complete groups, no further group begins while those of two steps are complete: they would only
grow old (`ENOUGH`).

The weights may be pushed while trees are in flight: their later calls are then of newer weights, which each call records, and
a tree is as old as its oldest call. `drain` waits instead until nothing is in flight.

Nothing here knows what an attempt does, so tests and benchmarks run the queue with attempts of their own, and with the clock of
their event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from recursive_agent.concurrency import task_group
from recursive_agent.trace.tree import ExecutionTree

from .choice import Order, choose
from .many import PlannedAttempt
from .meter import Lengths, Meter

ENOUGH = 2
"""Steps whose groups may be complete and wait before no further group begins. In simulated runs (`benchmarks/async.py`), with 2
there are nearly as many steps an hour as without such a bound, from newer weights; with 1 there are fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    tree: ExecutionTree | None = None
    lost: str = ""
    """Why there is no tree."""
    tokens: int = 0
    """Sampled tokens."""
    seconds: float = 0.0
    version: int | None = None
    """The oldest weights of a tree that was recorded before; None: those at its start."""
    further: Sequence[PlannedAttempt] = ()
    """Further attempts that belong to its group."""


class Attempts(Protocol):
    """What flows: the plan, what of it is recorded already, and a way to make the rest."""

    def planned(self, place: int) -> Sequence[PlannedAttempt]:
        """The attempts of the group at a place of the plan."""

    def recorded(self, place: int, plan: PlannedAttempt) -> Outcome | None:
        """How an attempt of that group ended that was made before; None: it is to be made."""

    async def attempt(self, place: int, plan: PlannedAttempt) -> Outcome:
        """Make an attempt. What it raises ends the run."""


@dataclass(slots=True, eq=False)
class FlowAttempt:
    """An attempt of a group that has begun. `begun` is the time on the clock of the event loop."""

    plan: PlannedAttempt
    begun: float | None = None
    outcome: Outcome | None = None
    recorded: bool = False
    further: list[FlowAttempt] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class FlowGroup:
    """A group that has begun; see `choice.Candidate` for `oldest` and `rank`."""

    place: int
    oldest: int
    begun: float
    attempts: list[FlowAttempt] = field(default_factory=list)
    under_way: int = 0
    """Attempts that have not ended."""
    rank: int | None = None
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """The groups of a step, in the order of the plan, and the figures of the queue since the step before."""

    groups: list[FlowGroup]
    figures: dict[str, float]


class Flow:
    """The queue; open it with `flowing`. Groups at places in `used`, and before `first`, are left out.

    `pushed` tells it the weights, and each step calls `take` once. Its methods are called in one event loop.
    """

    def __init__(
        self,
        attempts: Attempts,
        tasks: TaskGroup,
        *,
        size: int,
        limit: int,
        staleness: int = 0,
        order: Order = "completed",
        first: int = 0,
        used: Collection[int] = (),
    ) -> None:
        self.size = size
        self.limit = limit
        self.staleness = staleness
        self.order: Order = order
        self.in_flight = 0
        """Trees in flight."""
        self._attempts = attempts
        self._tasks = tasks
        self._used = set(used)
        self._next = first
        self._version = 0
        self._steps = 0
        """Steps for which groups may have begun and not be taken."""
        self._begun: dict[int, FlowGroup] = {}
        self._ready: deque[tuple[FlowGroup, FlowAttempt]] = deque()
        self._ranks = 0
        self._waiting = self._draining = self._ending = False
        self._error: Exception | None = None
        self._changed = anyio.Event()
        self._meter = Meter(limit, anyio.current_time())
        self._lengths = Lengths()

    @property
    def complete(self) -> int:
        """Groups that are complete and were not taken yet."""
        return sum(group.rank is not None for group in self._begun.values())

    async def take(self, left: int | None = None, only: Collection[int] | None = None) -> Taken:
        """The groups of the next step, as soon as they are complete. Raises what an attempt has raised.

        `left` is how many steps the run still makes at most, this one included: groups of later ones do not begin. `only` are
        the places of the groups that this step had in an earlier life of the run, which it takes again.
        """
        most = self.staleness + 1 if left is None else left
        self._tick()
        self._steps, self._waiting = min(self.staleness + 1, most), True
        try:
            for place in sorted(set(only or ()) - self._begun.keys()):
                self._open(place)
            self._fill()
            while (chosen := self._chosen(only)) is None:
                self._check()
                await self._changed.wait()
        finally:
            self._tick()
            self._waiting = False
        self._steps = max(0, min(self.staleness, most - 1))
        for group in chosen:
            self._used.add(group.place)
            del self._begun[group.place]
        return Taken(chosen, {**self._meter.read(), **self._figures(chosen)})

    def pushed(self, version: int) -> None:
        """The sampler has weights `version` from here on."""
        self._version = version
        self._draining = False
        self._fill()

    async def drain(self) -> None:
        """Wait until no tree is in flight; none begins before the next push.

        Raises what an attempt has raised, unless the queue is at its `end`: no step needs that attempt any more.
        """
        self._tick()
        self._draining = self._waiting = True
        try:
            while self.in_flight and (self._ending or self._error is None):
                await self._changed.wait()
        finally:
            self._tick()
            self._waiting = False
        if not self._ending:
            self._check()

    def end(self) -> None:
        """No further attempt begins; those in flight go on as long as the block of `flowing` does."""
        self._ending = True

    def count_time(self, counted: bool) -> None:
        """Whether the time from here on counts in the shares of time that each side waited."""
        self._tick()
        self._meter.stop(not counted)

    # -- what begins ------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Begin what there is room for."""
        while self.in_flight < self.limit and not (self._ending or self._draining or self._error):
            if self._ready:
                self._start(*self._ready.popleft())
            elif (place := self._next_place()) is not None:
                self._open(place)
            else:
                return

    def _next_place(self) -> int | None:
        """The place of the group that may begin now."""
        enough = self.order == "completed" and self.complete >= ENOUGH * self.size
        if enough or len(self._begun) >= self.size * self._steps:
            return None
        while self._next in self._used or self._next in self._begun:
            self._next += 1
        return self._next

    def _open(self, place: int) -> None:
        """Begin a group: its recorded attempts have ended, the others are ready."""
        group = self._begun[place] = FlowGroup(place, self._version, anyio.current_time())
        group.attempts = [FlowAttempt(plan) for plan in self._attempts.planned(place)]
        versions = [self._prepare(group, attempt) for attempt in group.attempts]
        known = [version for version in versions if version is not None]
        # What is to be rolled out yet is of the present weights or newer ones.
        group.oldest = min(known if known and not group.under_way else [*known, self._version])
        self._look(group)

    def _prepare(self, group: FlowGroup, attempt: FlowAttempt) -> int | None:
        """Put an attempt among those that are ready, unless it is recorded; the oldest weights of what is recorded."""
        group.under_way += 1
        outcome = self._attempts.recorded(group.place, attempt.plan)
        if outcome is None:
            self._ready.append((group, attempt))
            return None
        attempt.recorded = True
        self._end(group, attempt, outcome)
        return outcome.version

    def _start(self, group: FlowGroup, attempt: FlowAttempt) -> None:
        self._tick()
        self.in_flight += 1
        attempt.begun = anyio.current_time()
        self._tasks.start_soon(self._run, group, attempt)

    async def _run(self, group: FlowGroup, attempt: FlowAttempt) -> None:
        outcome = None
        try:
            outcome = await self._attempts.attempt(group.place, attempt.plan)
        except Exception as error:
            self._error = self._error or error
        finally:
            self._tick()
            self.in_flight -= 1
            if outcome is not None:
                self._ended(group, attempt, outcome)
            self._changed.set()
            self._changed = anyio.Event()

    def _ended(self, group: FlowGroup, attempt: FlowAttempt, outcome: Outcome) -> None:
        try:
            self._end(group, attempt, outcome)
            self._look(group)
            self._fill()
        except Exception as error:  # of the plan, or of what is recorded
            self._error = self._error or error

    def _end(self, group: FlowGroup, attempt: FlowAttempt, outcome: Outcome) -> None:
        attempt.outcome = outcome
        attempt.further = [FlowAttempt(plan) for plan in outcome.further]
        for further in attempt.further:
            self._prepare(group, further)
        group.under_way -= 1

    def _look(self, group: FlowGroup) -> None:
        """Note that a group is complete, where it is."""
        if not group.under_way and group.rank is None:
            group.rank, self._ranks = self._ranks, self._ranks + 1
            group.ended = anyio.current_time()

    # -- what is taken ----------------------------------------------------------------------------

    def _chosen(self, only: Collection[int] | None) -> list[FlowGroup] | None:
        if only is not None:
            groups = [self._begun[place] for place in sorted(only) if place in self._begun]
            return groups if len(groups) == len(only) and all(group.rank is not None for group in groups) else None
        begun = list(self._begun.values())
        return choose(begun, self.size, version=self._version, staleness=self.staleness, order=self.order)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _tick(self) -> None:
        taking = self._waiting and not self._draining
        held = taking and self.order == "completed" and self.complete >= self.size
        self._meter.tick(anyio.current_time(), self.in_flight, waiting=self._waiting, held=held)

    def _figures(self, taken: Sequence[FlowGroup]) -> dict[str, float]:
        behind = [self._version - group.oldest for group in taken]
        now = anyio.current_time()
        left = [attempt for group in self._begun.values() for attempt in group.attempts]
        ages = [now - each.begun for each in left if each.begun is not None and each.outcome is None]
        return {
            "flow/staleness_mean": fmean(behind),
            "flow/staleness_max": float(max(behind)),
            "flow/groups_left": float(len(self._begun)),
            **self._lengths.take(
                _lengths(attempt for group in taken for attempt in group.attempts), _lengths(left), ages
            ),
        }


def _lengths(attempts: Iterable[FlowAttempt]) -> list[tuple[float, int]]:
    outcomes = (attempt.outcome for attempt in attempts)
    return [(outcome.seconds, outcome.tokens) for outcome in outcomes if outcome is not None and not outcome.lost]


@asynccontextmanager
async def flowing(
    attempts: Attempts,
    *,
    size: int,
    limit: int,
    staleness: int = 0,
    order: Order = "completed",
    first: int = 0,
    used: Collection[int] = (),
) -> AsyncIterator[Flow]:
    """The queue of these attempts while the block lasts; trees that are in flight at its end are cancelled."""
    async with task_group() as tasks:
        flow = Flow(attempts, tasks, size=size, limit=limit, staleness=staleness, order=order, first=first, used=used)
        try:
            yield flow
        finally:
            flow.end()
            tasks.cancel_scope.cancel()
