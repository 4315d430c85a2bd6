"""One gate for all calls to an endpoint: when it refuses one for their number, all of them slow down together.

Open, it lets every call through. A refusal closes it: for as long as the endpoint asks, or for a time that doubles with
each round, nobody goes; then one call goes ahead as a probe, and the others follow as answers come in: twice as many with
each round up to half of what was under way before, then slowly more. So a storm of parallel agents becomes a trickle,
and no agent has to find out by itself what its sibling has learnt.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from .base import OnWait, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROWTH = 0.25
"""Calls more at once for each round of answers, beyond half of what was too many."""
_CALM = 120.0
"""Seconds without a refusal after which a gate is wide open again, where nobody waits."""

_caller: ContextVar[OnWait | None] = ContextVar("rao-caller-of-model", default=None)


@contextmanager
def own_waits(listener: OnWait) -> Iterator[None]:
    """Within the block, call `listener` when a call made in it has to wait itself, and with None when it goes on."""
    token = _caller.set(listener)
    try:
        yield
    finally:
        _caller.reset(token)


def tell_caller(waiting: Waiting | None) -> None:
    """Tell whoever makes the present call that it has to wait, or that it goes on."""
    if (listener := _caller.get()) is not None:
        listener(waiting)


class Listeners:
    """The listeners that learn of waits."""

    def __init__(self) -> None:
        self._listeners: list[OnWait] = []

    @contextmanager
    def added(self, listener: OnWait) -> Iterator[None]:
        """Add `listener` while the block lasts."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def tell(self, waiting: Waiting | None) -> None:
        """Call every listener."""
        for listener in tuple(self._listeners):
            listener(waiting)


@dataclass(slots=True, eq=False)
class _Turn:
    """A call that waits."""

    called: anyio.Event


class Gate:
    """Lets calls to one endpoint through, on one event loop. Pair every `enter` with one of the three ways to leave."""

    def __init__(self, listeners: Listeners | None = None) -> None:
        self.limit = math.inf
        """Calls that may be under way at once."""
        self.under_way = 0
        self.trouble: str | None = None
        """Why the last attempt failed, where it will be made again; None once one was answered."""
        self._until = 0.0
        self._threshold = math.inf
        self._rounds = 0
        self._round = 0
        """Counts closings, so that refusals of one storm are taken as one."""
        self._refused_at = -math.inf
        self._queue: deque[_Turn] = deque()
        self._waiting: Waiting | None = None
        self._listeners = listeners or Listeners()

    @property
    def waiting(self) -> Waiting | None:
        """What calls wait for now, None where the gate lets them through."""
        return self._waiting

    async def enter(self, *, again: bool = False) -> int:
        """Wait for a turn; `again` goes before those who have not been refused yet. Returns the round, for leaving."""
        if not self._queue and self._may_go():
            self.under_way += 1
            return self._round
        turn = _Turn(anyio.Event())
        tell_caller(self._waiting or self._trickle())
        (self._queue.appendleft if again else self._queue.append)(turn)
        try:
            while not (self._queue[0] is turn and self._may_go()):
                pause = math.inf
                if self._queue[0] is turn and self.under_way < self.limit:
                    pause = max(self._until - anyio.current_time(), 0.0)
                with anyio.move_on_after(pause):
                    await turn.called.wait()
                turn.called = anyio.Event()
        except BaseException:
            self._queue.remove(turn)
            self._call_next()
            if not self._queue and not self.under_way:
                self._flow()  # nobody is left who waits
            raise
        self._queue.popleft()
        self.under_way += 1
        self._call_next()
        tell_caller(None)
        return self._round

    def answered(self) -> None:
        """A call was answered: let more through."""
        self.under_way -= 1
        self.trouble = None
        if self.limit is not math.inf:
            self._rounds = max(0, self._rounds - 1)
            self.limit += 1.0 if self.limit < self._threshold else _GROWTH / self.limit
            if not self._queue and anyio.current_time() - self._refused_at > _CALM:
                self.limit = math.inf
            if anyio.current_time() >= self._until:
                self._flow()
        self._call_next()

    def left(self, trouble: str | None = None) -> None:
        """A call ended in a way that says nothing of how many the endpoint takes; `trouble` if it will be made again."""
        self.under_way -= 1
        self.trouble = trouble or self.trouble
        self._call_next()

    def refused(self, entered: int, pause: Callable[[int], float], reason: str) -> None:
        """The endpoint takes no more now. `pause` gives the seconds to wait in the round of this number.

        Calls that left before the gate closed are refused for the same reason: they prolong the wait where they were told
        to wait longer, and do not begin another round.
        """
        now = anyio.current_time()
        if entered == self._round:
            self._round += 1
            self._rounds += 1
            if self.limit > 1.0:  # a probe that is refused says nothing of how many may go together
                self._threshold = max(1.0, min(self.limit, self.under_way) / 2)
            self.limit = 1.0
            self._until = now + pause(self._rounds)
        else:
            self._until = max(self._until, now + pause(0))
        self.under_way -= 1
        self._refused_at = now
        since = time.time() if self._waiting is None else self._waiting.since
        self._waiting = Waiting(
            reason=reason, seconds=max(self._until - now, 0.0), since=since, calls=len(self._queue) + 1
        )
        self._listeners.tell(self._waiting)
        self._call_next()

    def open(self) -> None:
        """Let every call through: the endpoint that they wait for is not used any more, and they are made elsewhere."""
        self.limit = self._threshold = math.inf
        self._until, self._rounds = 0.0, 0
        self._flow()
        self._call_next()

    def _trickle(self) -> Waiting:
        """Why a call waits although the endpoint takes calls again."""
        most = f"{self.limit:.0f} at once" if self.limit < math.inf else "one after the other"
        return Waiting(
            reason=f"after a rate limit calls go out {most}", seconds=0.0, since=time.time(), calls=len(self._queue) + 1
        )

    def _flow(self) -> None:
        """Calls wait no longer."""
        if self._waiting is not None:
            self._waiting = None
            self._listeners.tell(None)

    def _may_go(self) -> bool:
        return self.under_way < self.limit and (self._until <= 0.0 or anyio.current_time() >= self._until)

    def _call_next(self) -> None:
        if self._queue:
            self._queue[0].called.set()
