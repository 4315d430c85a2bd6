"""The replicas of a pool: which of them are in use, what each is doing, and which one a conversation goes to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Generic

import anyio

from ..concurrency import task_group
from ..errors import ConfigurationError
from ..messages import Message
from .failures import Failure, Rejected, TooSlow, Unreachable
from .remote import MODELS, M

OPENING = 256
"""Characters of an agent's goal that decide about its replica."""
FACTOR = 1.25
SLACK = 4
"""A replica takes new conversations while its calls in flight are at most FACTOR × the mean of all replicas + SLACK."""
STORM = 3
"""Failed attempts in a row after which a replica that still answers (HTTP 500, say) is put aside."""
_FIRST, _LONGEST = 1.0, 60.0
"""Seconds until a replica that was put aside is asked whether it is back: twice as long each time, up to the longest."""
_ASKED = 5.0
"""Seconds that it has to answer that question, or to say its context window."""


class AllOut(Failure):
    """No replica may be used: each was taken out, or put aside for good."""

    def __init__(self) -> None:
        super().__init__("no endpoint of the pool may be used", retryable=False)


class Moved(Failure):
    """The call's replica is not in use any more, so it goes to another one. Says nothing new of the replica."""


@dataclass(slots=True, eq=False)
class Replica(Generic[M]):
    """One endpoint of a pool."""

    model: M
    calls: set[object] = field(default_factory=set)
    """The calls that are at it now, those that wait at its gate included."""
    failures: int = 0
    """Failed attempts since the last answer."""
    absences: int = 0
    """How often it was found to be gone since the last answer."""
    due: float | None = None
    """When it is asked whether it is back; None while it is in use."""
    asked: bool = False
    """Whether it is being asked."""
    trouble: str = ""
    """Why the last attempt at it failed."""
    out: str | None = None
    """Why it was taken out, until it is brought back."""
    silent: float = -math.inf
    """Until when it is not asked for its context window, since it did not say it in time."""
    held: anyio.Event | None = None
    """Set when calls may go to it again; None where they may."""
    scopes: set[anyio.CancelScope] = field(default_factory=set)
    """Those of the attempts under way."""

    @property
    def url(self) -> str:
        """Its base URL, as messages show it."""
        return self.model.endpoint.shown_url

    @property
    def in_use(self) -> bool:
        """Whether calls may go to it."""
        return self.due is None and self.out is None


class Replicas(Generic[M]):
    """The replicas of one model. `clock` gives seconds.

    With `returns=False` a replica that was put aside is used again only when it is brought back: one that was started anew
    may have other weights.
    """

    def __init__(
        self,
        models: Sequence[M],
        *,
        factor: float = FACTOR,
        slack: float = SLACK,
        clock: Callable[[], float] = time.monotonic,
        returns: bool = True,
    ) -> None:
        self.all = [Replica(model) for model in models]
        self._factor, self._slack = factor, slack
        self._clock = clock
        self.returns = returns
        urls = [replica.model.endpoint.base_url for replica in self.all]
        if len(set(urls)) < len(urls):
            raise ConfigurationError("base_url names the same endpoint twice; name each one once")

    @property
    def in_use(self) -> list[Replica[M]]:
        """Those that calls may go to."""
        return [replica for replica in self.all if replica.in_use]

    def of(self, model: M) -> Replica[M]:
        """The replica of a model."""
        return next(replica for replica in self.all if replica.model is model)

    def place(self, opening: str, avoid: Iterable[Replica[M]] = ()) -> Replica[M]:
        """The replica for a conversation with this opening; see `PoolModel` for the rule.

        Those of `avoid` are taken only where there are no others. Raises AllOut if none may be used.
        """
        order = sorted(self.all, key=lambda replica: _weight(opening, replica.model.endpoint.base_url), reverse=True)
        avoided = set(avoid)
        fit = [replica for replica in order if replica.in_use and replica not in avoided]
        if not fit:
            fit = [replica for replica in order if replica.in_use]
        if not fit:  # they may be back sooner than they are asked
            aside = [replica for replica in order if replica.out is None and self.returns]
            if not aside:
                raise AllOut
            return min(aside, key=lambda replica: (replica in avoided, replica.due or 0.0))
        most = self._factor * sum(len(replica.calls) for replica in fit) / len(fit) + self._slack
        for replica in fit:
            if len(replica.calls) <= most and replica.model.waiting is None:
                return replica
        return min(fit, key=lambda replica: len(replica.calls))

    def may_begin(self, replica: Replica[M]) -> bool:
        """Whether an attempt may still begin at the replica that was chosen for it: it may have waited long since then."""
        return replica.in_use or (replica.out is None and self.returns and not self.in_use)

    def answered(self, replica: Replica[M]) -> None:
        """A replica answered a call."""
        replica.failures = replica.absences = 0
        replica.due = None

    def failed(self, replica: Replica[M], failure: Failure) -> None:
        """An attempt at a replica failed. What is the call's own fault, or says that it has too many, is no sign of death."""
        if failure.throttled or not failure.retryable or isinstance(failure, Moved):
            return
        replica.trouble = failure.reason.rstrip(".")
        replica.failures += 1
        # One that answers too slowly may have much to do. It is not gone, nor has it been started anew.
        gone = isinstance(failure, Unreachable) and not isinstance(failure, TooSlow)
        if gone or replica.failures >= STORM:
            self._put_aside(replica)

    async def look(self) -> None:
        """Ask a replica that was put aside whether it is back, if it is time. Costs no tokens."""
        now = self._clock()
        for replica in self.all if self.returns else ():
            if replica.out is None and replica.due is not None and replica.due <= now and not replica.asked:
                replica.asked = True
                try:
                    await self._ask(replica)
                finally:
                    replica.asked = False
                return

    async def answers(self, replica: Replica[M]) -> bool:
        """Whether a replica is there, by its /models."""
        try:
            await replica.model.wire.get(MODELS, timeout=_ASKED)
        except Failure as failure:
            if not isinstance(failure, Rejected) or failure.status >= 500 or failure.status == 0:
                replica.trouble = failure.reason.rstrip(".")
                return False
        return True

    async def window(self) -> int | None:
        """The smallest context window of the replicas in use, as far as they say.

        One that hangs is asked again after a minute, not by every call, if another one has told its own.
        """
        now = self._clock()
        told: dict[Replica[M], int | None] = {}
        asked = [replica for replica in self.in_use or self.all if replica.silent <= now]

        async def ask(replica: Replica[M]) -> None:
            with anyio.move_on_after(_ASKED):
                told[replica] = await replica.model.context_length()

        async with task_group() as group:
            for replica in asked:
                group.start_soon(ask, replica)
        window = min((length for length in told.values() if length is not None), default=None)
        if window is not None:
            for replica in asked:
                replica.silent = -math.inf if replica in told else now + _LONGEST
        return window

    async def _ask(self, replica: Replica[M]) -> None:
        if await self.answers(replica):
            replica.due, replica.failures = None, 0
        else:
            self._put_aside(replica)

    def _put_aside(self, replica: Replica[M]) -> None:
        now = self._clock()
        if replica.due is not None and now < replica.due:
            return  # calls that were in flight when it went say nothing new
        replica.absences += 1
        if any(other is not replica for other in self.in_use):
            replica.model.open_gates()
        replica.due = now + min(_LONGEST, _FIRST * 2.0 ** min(replica.absences - 1, 16))


def opening_of(messages: Sequence[Message]) -> str:
    """What a conversation is placed by: how its last message begins. Those before it are the same for all agents."""
    return messages[-1].content[:OPENING] if messages else ""


def _weight(opening: str, url: str) -> bytes:
    """Rendezvous hashing: the replica with the largest weight has the conversation."""
    return blake2b(f"{url}\n{opening}".encode("utf-8", "replace"), digest_size=8).digest()
