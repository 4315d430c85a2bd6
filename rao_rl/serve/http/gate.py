"""How many requests run and wait at once."""

from __future__ import annotations

from types import TracebackType

import anyio

from .errors import ApiError

_RETRY_AFTER = 1
"""Seconds."""


class Gate:
    """At most `max_concurrency` inside `async with gate:` and `max_queue` waiting, first come first served.

    Whoever comes on top of these gets an ApiError 429 at once. Cancelling those who wait takes them out of the queue.
    """

    def __init__(self, max_concurrency: int, max_queue: int) -> None:
        self._room = max_concurrency + max_queue
        self._inside = 0
        self._free = anyio.Semaphore(max_concurrency)

    @property
    def running(self) -> int:
        """Requests that are let in."""
        return self._inside - self.queued

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return self._free.statistics().tasks_waiting

    async def __aenter__(self) -> Gate:
        if self._inside >= self._room:
            raise ApiError(
                429,
                f"{self.running} requests are running and {self.queued} waiting, which is all this server takes; try "
                "again later.",
                code="too_many_requests",
                retry_after=_RETRY_AFTER,
            )
        self._inside += 1
        try:
            await self._free.acquire()
        except BaseException:
            self._inside -= 1
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside -= 1
        self._free.release()
