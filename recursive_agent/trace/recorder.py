"""Writes the events of a live run to its trace without holding up the event loop, and gives up without ending the run."""

from __future__ import annotations

from collections import deque

import anyio

from ..errors import TraceError, described
from ..threads import call_in_thread
from .schema import Event
from .store import TraceWriter
from .weight import is_heavy_event

GRACE = 30.0
"""Seconds that large events have to reach the disk when the run is over."""


class Recorder:
    """The trace of one run as it goes on.

    Light events are written at once. A heavy one goes to a thread, and what comes after it waits behind it, so that the
    file holds the events in their order. A trace that can no longer be written does not end a run that is being paid
    for: the file keeps what it has, and `problem` says why the rest is missing.
    """

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self._queue: deque[tuple[Event, bool]] = deque()
        self._failure: str | None = None
        self._closing = False
        self._abandoned = False
        self._taken = 0
        self._done = 0
        self._wake = anyio.Event()
        self._progress = anyio.Event()
        self._scope = anyio.CancelScope(shield=True)

    @property
    def problem(self) -> str | None:
        """What is missing in the trace and why, or None."""
        return self._failure or self._writer.left_out

    def begin(self, event: Event) -> None:
        """Write the first event. Raises TraceError: nothing has been paid for yet."""
        self._writer.append(event)

    def put(self, event: Event) -> None:
        """Take the next event. Never raises, never waits."""
        if self._failure is not None:
            return
        heavy = is_heavy_event(event)
        if heavy or self._done < self._taken:
            self._taken += 1
            self._queue.append((event, heavy))
            self._wake.set()
        else:
            self._append(event, False)

    async def written(self) -> None:
        """Wait until everything taken so far is in the file, or never will be."""
        ticket = self._taken
        while self._done < ticket and self._failure is None:
            await self._progress.wait()

    async def run(self) -> None:
        """Write what is waiting, until `close`."""
        with self._scope:
            while not self._closing or self._queue:
                while self._queue:
                    event, heavy = self._queue.popleft()
                    if heavy:
                        await call_in_thread(self._append, event, True)
                    else:
                        self._append(event, False)
                    self._done += 1
                    self._progress.set()
                    self._progress = anyio.Event()
                if not self._closing:
                    await self._wake.wait()
                    self._wake = anyio.Event()

    async def settle(self) -> None:
        """Write what is left, for `GRACE` seconds at most; then give up."""
        with anyio.move_on_after(GRACE, shield=True):
            await self.written()
        if self._done < self._taken and self._failure is None:
            self._failure = f"{self._writer.path}: the trace could not be written within {GRACE:g} seconds"
            self._abandoned = True  # the thread that is still writing closes the file
            self._scope.cancel()

    async def close(self) -> None:
        """Write what is left, and end `run` and the file."""
        self._closing = True
        self._wake.set()
        await self.settle()
        if self._failure is None and self._writer.removed:
            self._failure = f"{self._writer.path}: the trace was removed during the run"
        self.release()

    def release(self) -> None:
        """Close the file, unless a thread that hangs is writing it."""
        if not self._abandoned:
            self._writer.close()

    def _append(self, event: Event, heavy: bool) -> None:
        try:
            self._writer.append(event, heavy=heavy)
        except TraceError as error:
            self._give_up(str(error))
        except Exception as error:  # a fault of ours, which must not cost the run
            self._give_up(f"{self._writer.path}: the trace cannot be written any more ({described(error)})")
        finally:
            if self._abandoned:
                self._writer.close()

    def _give_up(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._writer.close()
