"""Answers the calls that a worker makes of the host, within bounds on their number and on the size of the answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from ..sizes import is_large, least_bytes
from .base import HostCall, HostCallError, HostRequest, RecordedAnswer
from .link import Worker
from .protocol import NotPlainData, ProtocolError, pack

_MOST_CALLS = 2048
"""Calls of one REPL under way at once."""
_CANCELLED = 64
"""Calls that are cancelled in one turn of the event loop."""
_LEAST_ROOM = 1024 * 1024
"""Bytes of one answer that every worker can take in."""
_UNREAD_BYTES = 64 * 1024 * 1024
"""Bytes of answers that may wait for a worker to read them."""
_SHOWN_CHARS = 2_000


class Answerer:
    """Answers the calls of one REPL: of its worker, and of the one that takes its place. `clerk` lets one thread at a time
    handle large values.

    `on_wait(True)` is called when a call begins, `on_wait(False)` when none is left.
    """

    def __init__(
        self,
        call: HostCall,
        names: Iterable[str],
        tasks: anyio.abc.TaskGroup,
        clerk: anyio.CapacityLimiter,
        *,
        most_calls: int,
        memory_mb: int,
        on_wait: Callable[[bool], None],
    ) -> None:
        self.names = frozenset(names)
        """Functions that the worker may call."""
        self._call = call
        self._tasks = tasks
        self._clerk = clerk
        self._most_calls = most_calls
        self._memory_mb = memory_mb
        self._on_wait = on_wait
        self._under_way: dict[int, anyio.CancelScope] = {}
        self._last_id = self._total = 0
        self._answering = 0
        self._idle = anyio.Event()
        self._live: anyio.Event | None = None
        """Set when the replay is over; None where there is none."""

    def replay(self) -> None:
        """A cell is replayed: calls that its record does not answer wait until that is over."""
        if self._live is None:
            self._live = anyio.Event()

    def go_live(self) -> None:
        """No cell is replayed any more."""
        if self._live is not None:
            self._live.set()
            self._live = None

    @property
    def waiting(self) -> bool:
        """Whether a call is under way."""
        return bool(self._under_way)

    def begin(self, worker: Worker, call: HostRequest) -> None:
        """Begin to answer a call. Raises ProtocolError for one that the worker may not make."""
        if call.name not in self.names:
            raise ProtocolError("a call of a function that it may not call")
        if call.id <= self._last_id:
            raise ProtocolError("a call that does not follow the last one")
        self._last_id = call.id
        self._total += 1
        if len(self._under_way) >= _MOST_CALLS or self._total > self._most_calls:
            raise ProtocolError("more calls than allowed")
        scope = self._under_way[call.id] = anyio.CancelScope()
        self._on_wait(True)
        # Called here and awaited there: tasks start in any order, but launches must be numbered in their order.
        try:
            answer: Awaitable[Any] | Exception = self._call(call)
        except Exception as error:  # the agent sees it like any other failure of a call
            answer = error
        live = None
        if isinstance(answer, RecordedAnswer):
            if not answer.recorded:
                live = self._live
            if live is not None:
                worker.send(pack(["absent", call.id]), self._tasks)
            answer = answer.answer
        self._answering += 1
        # Not the call: its arguments would be held for as long as the answer takes, also where it is refused.
        self._tasks.start_soon(self._answer, worker, self._under_way, scope, call.id, call.name, answer, live)

    def cancel(self, number: int) -> None:
        """The worker no longer waits for this call."""
        scope = self._under_way.pop(number, None)
        if scope is not None:
            scope.cancel()
            self._settled()

    def _settled(self) -> None:
        if not self._under_way:
            self._on_wait(False)

    def drop(self) -> None:
        """The worker is gone: answer none of its calls, and cancel them. The next worker counts its calls from 1 again."""
        self._last_id = 0
        calls, self._under_way = self._under_way, {}
        scopes = list(calls.values())
        calls.clear()  # so that none is answered from here on
        for scope in scopes[:_CANCELLED]:
            scope.cancel()
        if len(scopes) > _CANCELLED:
            self._tasks.start_soon(_cancel_others, scopes[_CANCELLED:])

    async def wait_closed(self) -> None:
        """Wait until every call has ended."""
        while self._answering:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _answer(
        self,
        worker: Worker,
        calls: dict[int, anyio.CancelScope],
        scope: anyio.CancelScope,
        number: int,
        name: str,
        answer: Awaitable[Any] | Exception,
        live: anyio.Event | None,
    ) -> None:
        try:
            with scope:
                if live is not None:
                    await live.wait()
                frame = await self._ask(number, name, answer)
                if calls.pop(number, None) is not None:
                    # Calls that come together are often answered together.
                    worker.send(self._fitting(worker, number, name, frame), self._tasks, more=bool(calls))
                    self._settled()
        finally:
            calls.pop(number, None)
            self._answering -= 1
            if not self._answering:
                self._idle.set()

    async def _ask(self, number: int, name: str, answer: Awaitable[Any] | Exception) -> bytes:
        try:
            if isinstance(answer, Exception):
                raise answer
            value = await answer
            if not is_large(value):
                return pack(["reply", number, True, value])
            return await anyio.to_thread.run_sync(self._reply, number, name, value, limiter=self._clerk)
        except HostCallError as error:
            return _refusal(number, error.kind, error.message, error.data)
        except NotPlainData as error:
            return _refusal(number, "ToolError", f"{name} returned a value that is not plain data: {error}")
        except Exception as error:
            return _refusal(number, "ToolError", f"{name} failed: {_spelled(error)}")

    @property
    def _room(self) -> int:
        """Bytes of one answer that the worker can take in."""
        return max(_LEAST_ROOM, self._memory_mb // 4 * 1024 * 1024)

    def _reply(self, number: int, name: str, value: Any) -> bytes:
        """The frame of a large value. One text may stand in it many times: it is measured before it is spelt out."""
        least = least_bytes(value)
        return self._too_large(number, name, least) or pack(["reply", number, True, value])

    def _too_large(self, number: int, name: str, size: int) -> bytes | None:
        if size <= self._room:
            return None
        return _refusal(
            number,
            "ToolError",
            f"the answer of {name} has {size / 2**20:,.1f} MiB, more than the {self._room >> 20:,} MiB that this "
            f"interpreter of {self._memory_mb:,} MiB takes in at once: ask for less, or in parts",
        )

    def _fitting(self, worker: Worker, number: int, name: str, frame: bytes) -> bytes:
        """The frame, or an error in its place where the worker could not take it in."""
        if len(frame) <= _LEAST_ROOM and not worker.unsent_bytes:
            return frame
        refusal = self._too_large(number, name, len(frame))
        if refusal is not None:
            return refusal
        if worker.unsent_bytes and worker.unsent_bytes + len(frame) > max(self._room, _UNREAD_BYTES):
            return _refusal(
                number,
                "ToolError",
                f"the answer of {name} was dropped: {worker.unsent_bytes >> 20:,} MiB of other answers have not been "
                "read yet. Make fewer calls at once",
            )
        return frame


async def _cancel_others(scopes: list[anyio.CancelScope]) -> None:
    """Cancel many calls, few at a time: the end of each takes its time in the event loop."""
    for start in range(0, len(scopes), _CANCELLED):
        await anyio.lowlevel.checkpoint()
        for scope in scopes[start : start + _CANCELLED]:
            scope.cancel()


def _refusal(number: int, kind: str, message: str, data: Mapping[str, Any] | None = None) -> bytes:
    """The frame of an exception in the agent's code."""
    try:
        return pack(["reply", number, False, {"kind": kind, "message": message, "data": data or {}}])
    except NotPlainData:
        return pack(["reply", number, False, {"kind": kind, "message": message, "data": {}}])


def _spelled(error: Exception) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # a __str__ that raises
        text = type(error).__name__
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
