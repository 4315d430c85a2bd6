"""Retries: bounded in number where the network or the server fails, bounded in time where the endpoint is too busy.

Exponential backoff with jitter, what the endpoint asks for is honoured, every lost answer is accounted for. Calls that the
endpoint turns away for their number wait at the gate that all calls to it share.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from .base import OnLost, Waiting
from .failures import Failure
from .gate import Gate, tell_caller
from .waits import retry_after

__all__ = ["Answered", "Exhausted", "Retries", "call_with_retries", "retry_after"]

T = TypeVar("T")
ChooseGate = Callable[[], Awaitable[Gate]]
"""Chooses the endpoint of the next attempt, and gives its gate."""
_BLIND_ROUNDS = 3
"""Rounds after which a gate waits a moment even where no backoff is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how long. Times in seconds; `limit` counts attempts after the first (0: none at all).

    Calls that the endpoint turns away for their number (429, overloaded) do not count: they wait until it takes them, for
    `patience` seconds in all (None: until the caller's own limits end it).
    """

    limit: int = 5
    base: float = 0.5
    cap: float = 30.0
    retry_after_cap: float = 120.0
    patience: float | None = 900.0
    rng: random.Random = field(default_factory=random.Random, repr=False)

    def delay(self, attempt: int, asked: float = 0.0) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1), `asked` being what the endpoint asked for.

        Full jitter (uniform below the exponential bound), so that clients who failed together do not return together;
        what the endpoint asked for is waited in any case, up to its cap.
        """
        jitter = self.rng.uniform(0.0, self._bound(attempt))
        return min(asked, self.retry_after_cap) + jitter if asked > 0 else jitter

    def pause(self, turn: int, asked: float = 0.0) -> float:
        """Seconds that a closed gate stays closed in round `turn` (from 1; 0: only what the endpoint asked for)."""
        asked = min(asked, self.retry_after_cap)
        if turn == 0:
            return asked
        bound = self._bound(turn)
        if asked > 0:
            return asked + self.rng.uniform(0.0, min(bound, max(1.0, asked / 4)))
        least = max(bound / 2, 0.02 * (turn - _BLIND_ROUNDS))
        return least + self.rng.uniform(0.0, bound / 2)

    def _bound(self, attempt: int) -> float:
        return min(self.cap, self.base * 2.0 ** min(attempt - 1, 32))


@dataclass(slots=True)
class Answered(Generic[T]):
    """What came of a call: its value, and what it took."""

    value: T
    attempts: int
    unconfirmed: int


class Exhausted(Exception):
    """The last failure of a call that is not, or no longer, retried."""

    def __init__(self, failure: Failure, *, attempts: int, unconfirmed: int) -> None:
        super().__init__(failure.reason)
        self.failure = failure
        self.attempts = attempts
        self.unconfirmed = unconfirmed


async def call_with_retries(
    attempt: Callable[[], Awaitable[T]],
    retries: Retries,
    *,
    bound: int,
    on_lost: OnLost | None,
    gate: Gate | ChooseGate | None = None,
) -> Answered[T]:
    """Run `attempt` until it gives a value; it raises `Failure` where it does not.

    A lost answer counts `bound` tokens as unconfirmed (or what it is known to have cost), and `on_lost` is awaited with
    that number before the next attempt; what it raises ends the call. Attempts go through `gate`, which those of other
    calls share; a function is asked for it before each attempt. Raises Exhausted.
    """
    unconfirmed = attempts = 0
    choose = _always(gate or Gate()) if gate is None or isinstance(gate, Gate) else gate

    async def counted() -> T:
        nonlocal attempts, unconfirmed
        turned_away: float | None = None
        if attempts:
            tell_caller(None)
        gate = await choose()
        while True:
            entered = await gate.enter(again=turned_away is not None)
            attempts += 1
            try:
                value = await attempt()
            except Failure as failure:
                if failure.lost:
                    unconfirmed += _cost(failure, bound)
                if not failure.throttled:
                    gate.left(failure.reason if failure.retryable else None)
                    raise
                gate.refused(entered, partial(retries.pause, asked=failure.wait), failure.reason)
                now = anyio.current_time()
                turned_away = now if turned_away is None else turned_away
                if now - turned_away >= _patience(retries):
                    raise
            except BaseException:
                gate.left()
                raise
            else:
                gate.answered()
                return value

    async def before_sleep(state: RetryCallState) -> None:
        failure = _failure(state)
        if failure.lost and on_lost is not None:
            await on_lost(_cost(failure, bound))
        pause = 0.0 if state.next_action is None else state.next_action.sleep
        tell_caller(Waiting(reason=failure.reason, seconds=pause, since=time.time(), calls=1, throttled=False))

    retrying = AsyncRetrying(
        sleep=anyio.sleep,
        stop=stop_after_attempt(retries.limit + 1),
        wait=lambda state: retries.delay(state.attempt_number, _failure(state).wait),
        retry=retry_if_exception(lambda error: isinstance(error, Failure) and error.retryable and not error.throttled),
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        value: T = await retrying(counted)
    except Failure as failure:
        raise Exhausted(failure, attempts=attempts, unconfirmed=unconfirmed) from None
    return Answered(value, attempts, unconfirmed)


def _always(gate: Gate) -> ChooseGate:
    async def choose() -> Gate:
        return gate

    return choose


def _patience(retries: Retries) -> float:
    if retries.limit < 1:
        return 0.0
    return math.inf if retries.patience is None else retries.patience


def _failure(state: RetryCallState) -> Failure:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, Failure)
    return error


def _cost(failure: Failure, bound: int) -> int:
    return bound if failure.spent is None else failure.spent
