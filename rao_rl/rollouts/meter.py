"""What the two sides of training waited for, and how long the trees that steps took are beside the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean


class Meter:
    """Adds up time by what the sampler and the trainer were doing. All times are seconds of one clock."""

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._last = now
        self._stopped = False
        self._clear()

    def _clear(self) -> None:
        self._wall = self._idle = self._trees = self._waited = self._held = 0.0

    def tick(self, now: float, in_flight: int, *, waiting: bool = False, held: bool = False) -> None:
        """Count the time since the last tick, in which this was so: trees in flight; whether the trainer waited; and whether
        it did although enough groups were done (`held`)."""
        passed, self._last = now - self._last, now
        if self._stopped:
            return
        self._wall += passed
        self._trees += passed * in_flight
        self._idle += passed * (in_flight < self.limit)
        self._waited += passed * waiting
        self._held += passed * held

    def stop(self, stopped: bool) -> None:
        """Do not count the time from here on (an evaluation has the sampler), or count it again."""
        self._stopped = stopped

    def read(self) -> dict[str, float]:
        """The figures since this was read last."""
        wall = self._wall or 1.0
        figures = {
            "flow/sampler_idle": self._idle / wall,
            "flow/trainer_wait": self._waited / wall,
            "flow/in_flight": self._trees / wall,
            "flow/wait_for_old": self._held,
        }
        self._clear()
        return figures


class Lengths:
    """How long the trees are that the steps took, beside those that have begun and are left for later steps."""

    def __init__(self) -> None:
        self._seconds, self._trees = 0.0, 0

    def take(
        self, taken: Sequence[tuple[float, int]], left: Sequence[tuple[float, int]], ages: Iterable[float]
    ) -> dict[str, float]:
        """The figures of a step. Trees are (seconds, sampled tokens): those taken, and those that have ended and are left;
        `ages` are the seconds so far of trees in flight, which are at most their whole length."""
        self._seconds += sum(seconds for seconds, _ in taken)
        self._trees += len(taken)
        begun = [*(seconds for seconds, _ in left), *ages]
        means: dict[str, Sequence[float]] = {
            "flow/taken_seconds": [seconds for seconds, _ in taken],
            "flow/taken_tokens": [tokens for _, tokens in taken],
            "flow/left_seconds": begun,
            "flow/left_tokens": [tokens for _, tokens in left],
        }
        figures = {name: fmean(values) for name, values in means.items() if values}
        every = self._seconds + sum(begun)
        if self._trees and every:
            figures["flow/length_bias"] = (self._seconds / self._trees) / (every / (self._trees + len(begun)))
        return figures
