"""Retries: exponential backoff with full jitter, Retry-After honoured, every lost answer accounted for."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from .base import OnLost
from .failures import Failure

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and how long. Times in seconds; `limit` counts attempts after the first."""

    limit: int = 5
    base: float = 0.5
    cap: float = 30.0
    retry_after_cap: float = 120.0
    rng: random.Random = field(default_factory=random.Random, repr=False)

    def delay(self, attempt: int, asked: float = 0.0) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1), `asked` being what the endpoint asked for.

        Full jitter (uniform below the exponential bound), so that clients who failed together do not return together;
        what the endpoint asked for is waited in any case, up to its cap.
        """
        jitter = self.rng.uniform(0.0, min(self.cap, self.base * 2 ** min(attempt - 1, 32)))
        return min(asked, self.retry_after_cap) + jitter if asked > 0 else jitter


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
    attempt: Callable[[], Awaitable[T]], retries: Retries, *, bound: int, on_lost: OnLost | None
) -> Answered[T]:
    """Run `attempt` until it gives a value; it raises `Failure` where it does not.

    A lost answer counts `bound` tokens as unconfirmed (or what it is known to have cost), and `on_lost` is awaited with
    that number before the next attempt; what it raises ends the call. Raises Exhausted.
    """
    unconfirmed = attempts = 0

    async def counted() -> T:
        nonlocal attempts, unconfirmed
        attempts += 1
        try:
            return await attempt()
        except Failure as failure:
            if failure.lost:
                unconfirmed += _cost(failure, bound)
            raise

    async def before_sleep(state: RetryCallState) -> None:
        failure = _failure(state)
        if failure.lost and on_lost is not None:
            await on_lost(_cost(failure, bound))

    retrying = AsyncRetrying(
        sleep=anyio.sleep,
        stop=stop_after_attempt(retries.limit + 1),
        wait=lambda state: retries.delay(state.attempt_number, _failure(state).wait),
        retry=retry_if_exception(lambda error: isinstance(error, Failure) and error.retryable),
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        value: T = await retrying(counted)
    except Failure as failure:
        raise Exhausted(failure, attempts=attempts, unconfirmed=unconfirmed) from None
    return Answered(value, attempts, unconfirmed)


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float:
    """Seconds that `retry-after-ms` or `retry-after` (seconds or an HTTP date) ask for; 0 where there is neither."""
    try:
        seconds = float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        value = headers.get("retry-after", "")
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
            except (TypeError, ValueError, OverflowError):
                return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _failure(state: RetryCallState) -> Failure:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, Failure)
    return error


def _cost(failure: Failure, bound: int) -> int:
    return bound if failure.spent is None else failure.spent
