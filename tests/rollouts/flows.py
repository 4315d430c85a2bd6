"""Attempts for tests of the queue: each ends when the test says so, or after a time (see `benchmarks.virtual_time`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import anyio

from rao_rl.envs.base import Task
from rao_rl.rollouts.flow import Outcome
from rao_rl.rollouts.many import PlannedAttempt


class FakeAttempts:
    """Groups of `generations` attempts, of which attempt `a` of group `p` is in flight until `let(p, a)`.

    `seconds` gives it a time instead. Counts what was made, and how many were in flight at most.
    """

    def __init__(self, generations: int = 2, seconds: Callable[[int, int], float] | None = None) -> None:
        self.generations = generations
        self.seconds = seconds
        self.version = 0
        """The weights at this moment."""
        self.made: Counter[tuple[int, int]] = Counter()
        self.begun: list[tuple[int, int]] = []
        self.under_way: dict[tuple[int, int], anyio.Event] = {}
        self.most_under_way = 0
        self.cancelled: list[tuple[int, int]] = []
        self.known: dict[tuple[int, int], Outcome] = {}
        self.fails: dict[tuple[int, int], Exception] = {}

    def planned(self, place: int) -> Sequence[PlannedAttempt]:
        task = Task(id=str(place), goal="wait")
        return [PlannedAttempt(task=task, group=str(place), seed=number) for number in range(self.generations)]

    def recorded(self, place: int, plan: PlannedAttempt) -> Outcome | None:
        return self.known.get((place, plan.seed))

    async def attempt(self, place: int, plan: PlannedAttempt) -> Outcome:
        key = place, plan.seed
        self.begun.append(key)
        version = self.version
        event = self.under_way[key] = anyio.Event()
        self.most_under_way = max(self.most_under_way, len(self.under_way))
        seconds = 0.0
        try:
            if self.seconds is None:
                await event.wait()
            else:
                seconds = self.seconds(*key)
                await anyio.sleep(seconds)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(key)
            raise
        finally:
            del self.under_way[key]
        if key in self.fails:
            raise self.fails[key]
        self.made[key] += 1
        outcome = Outcome(seconds=seconds, tokens=int(seconds), version=version)
        self.known[key] = outcome
        return outcome

    async def let(self, *keys: tuple[int, int]) -> None:
        """End these attempts, and wait until that has had its consequences."""
        for key in keys:
            self.under_way[key].set()
        await anyio.wait_all_tasks_blocked()
