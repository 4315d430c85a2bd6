"""Calls of the host: sends them when they are awaited, and settles them when the replies arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..protocol import ProtocolError, pack, unpack
from .calls import PendingCall, Subagent
from .cell import Cell
from .cell_loop import CellLoop
from .clock import Clock
from .errors import make_error
from .incoming import START, Lost, number_of
from .outgoing import Outgoing

MAX_IN_FLIGHT = 1024
"""Host calls of one REPL under way at once; further ones wait for their turn."""
MAX_WAITING = 10_000
"""Host calls that a cell may make without awaiting any."""
_NAMED = 100
"""Calls that are named in a report, or looked for in a result."""
_MIB = 1024 * 1024


class Dispatcher:
    """The calls of one REPL. `send` takes a frame for the host."""

    def __init__(self, cell: Cell, loop: CellLoop, send: Callable[[bytes], None], clock: Clock) -> None:
        self.outgoing = Outgoing([], 0, 0)
        self.memory_mb = 0
        """The memory limit, for errors."""
        self.subagents: list[Subagent] = []
        """Every sub-agent that was launched."""
        self._send = send
        self._clock = clock
        self._cell = cell
        self._loop = loop
        self._next_id = 1
        self._pending: dict[int, PendingCall] = {}
        self._unstarted: dict[int, PendingCall] = {}
        """Calls of this cell that have not begun, by identity: one that has would keep its answer here."""
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)

    def send(self, frame: bytes) -> None:
        """Send a frame, and before it what the log has to say."""
        self._send(self._clock.frames() + frame if self._clock.unsent else frame)

    def flush(self) -> None:
        """Send what the log has to say."""
        if self._clock.unsent:
            self._send(self._clock.frames())

    # -- from the agent's code to the host -----------------------------------------------------------------------------

    def register(self, call: PendingCall) -> PendingCall:
        """Remember a call, to report at the cell's end whether it was ever awaited."""
        if len(self._unstarted) >= MAX_WAITING:
            self._unstarted = {key: known for key, known in self._unstarted.items() if not known._started}
            if len(self._unstarted) >= MAX_WAITING:
                raise RuntimeError(f"{MAX_WAITING:,} host calls were created and none of them awaited")
        self._unstarted[id(call)] = call
        self._cell.stop_if_overdue()
        return call

    async def perform(self, call: PendingCall) -> Any:
        """Send a call to the host and wait for the answer. Cancelling it cancels the host's side too."""
        self._unstarted.pop(id(call), None)
        async with self._slots:
            body = self.outgoing.call(call._name, list(call._args), call._kwargs, self._cell.number)
            self._cell.refuse_late()
            number = self._next_id
            self._next_id += 1
            call._future = future = self._loop.create_future()
            frame = self.outgoing.numbered(body, number)
            del body
            self._pending[number] = call
            if isinstance(call, Subagent):
                self.subagents.append(call)
            self.send(frame)
            del frame
            try:
                answer = await future
            except BaseException as error:
                if isinstance(error, GeneratorExit) and not self._cell.running:  # thrown away together with the loop
                    raise
                if self._pending.pop(number, None) is not None:
                    if isinstance(call, Subagent):
                        call._status = "cancelled"
                    self.send(pack(["cancel", number]))
                raise
        return call._value(answer)

    async def await_again(self, call: PendingCall) -> Any:
        """The answer of a call that was awaited before."""
        if call._future is None:  # it is still waiting for its turn
            raise RuntimeError(f"{call._name}: this call is already being awaited")
        return call._value(await asyncio.shield(call._future))

    def forget(self, subagent: Subagent) -> None:
        """A refused launch started no sub-agent."""
        self.subagents[:] = [known for known in self.subagents if known is not subagent]  # runs no `__eq__`

    def refuse_unawaited(self, frame: bytes) -> None:
        """Refuse a result that holds the text of a call (`f"{launch_subagent(…)}"`) instead of its answer."""
        for call in list(self._unstarted.values())[:_NAMED]:
            if call._shown and not call._started and repr(call)[:-1].encode("utf-8", "replace") in frame:
                shown = repr(call)
                raise TypeError(f"finish: the value holds the text {shown}: that call was never awaited; write `await`")

    # -- from the host to the agent's code -----------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether a call is under way, so that the cell's clock stands still while the loop is idle."""
        return bool(self._pending)

    def awaits(self, number: int) -> bool:
        """Whether this call has no answer yet, and was not given up."""
        return number in self._pending

    @property
    def under_way_count(self) -> int:
        """How many calls have no answer yet."""
        return len(self._pending)

    @property
    def first_under_way(self) -> int:
        """The number of the first call that has no answer yet."""
        return next(iter(self._pending))

    def take_in(self, body: bytes | bytearray | Lost) -> None:
        """Take in a reply, in a cell. Where memory runs out, the call fails with the reason and the variables survive."""
        if isinstance(body, Lost):
            self._fail(body.number, body.size)
            return
        size, start = len(body), body[:START]
        try:
            reply: list[Any] = unpack(body)
            del body
            self.deliver(*reply[1:])
        except (MemoryError, ProtocolError) as error:
            large = isinstance(error, MemoryError) or isinstance(error.__context__, MemoryError)
            why = None if large else str(error)
            error.__traceback__ = error.__context__ = None  # what was decoded so far
            self._fail(number_of(start), size, why)

    def deliver(self, number: int, good: bool, payload: Any) -> None:
        """Take in the answer to a call, even if nobody waits for it."""
        call = self._pending.get(number)
        if call is None:
            return
        error = None if good else make_error(payload["kind"], payload["message"], payload["data"])
        del self._pending[number]
        _settle(call, payload if good else None, error)

    def _fail(self, number: int, size: int, why: str | None = None) -> None:
        """Fail a call whose answer there is no memory for, or which cannot be read."""
        call = self._pending.pop(number, None)
        if call is not None:
            text = f"{call._name}: the answer of {size / _MIB:,.1f} MiB "
            text += f"cannot be read ({why})" if why is not None else self._too_large()
            _settle(call, None, call._failure(text))

    def _too_large(self) -> str:
        most = f"{self.memory_mb:,} MiB for all variables"
        return f"does not fit into this interpreter's memory ({most}): ask for less, or delete large variables first"

    # -- the end of a cell ---------------------------------------------------------------------------------------------

    @property
    def unawaited(self) -> list[str]:
        """Names of the functions called in this cell whose calls were never awaited."""
        return [call._name for call in self._unstarted.values() if not call._started][:_NAMED]

    @property
    def under_way(self) -> list[str]:
        """Names of the functions whose calls the host has not answered yet."""
        return [call._name for call in self._pending.values()][:_NAMED]

    def let_go(self) -> None:
        """Forget the calls of this cell that were never awaited."""
        self._unstarted = {}


def _settle(call: PendingCall, value: Any, error: Exception | None) -> None:
    if call._future is None:
        return
    call._settle(value, error)
    if call._future.done():
        return
    if error is None:
        call._future.set_result(value)
    else:
        call._future.set_exception(error)
        call._future.exception()  # seen: one that nobody awaits is no defect
