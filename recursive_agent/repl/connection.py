"""One REPL as the host sees it: a worker at the other end of a socket, and the calls it has made of the host.

The host believes nothing that a worker says: see `messages`. What a worker can make the host hold or do is bounded: bytes
and values of a message, messages a second, calls under way and in all, and bytes of answers that it does not read.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import thread_time
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread

from ..errors import SandboxError
from ..sizes import is_large, least_bytes
from .base import CellResult, CellStatus, HostCall, HostCallError, HostFunction, HostRequest, MemoryPool, ReplLimits
from .files import Files
from .link import Worker, WorkerGone
from .messages import LAUNCH, Call, Cancel, Done, Failed, Finish, Message, Opened, read
from .protocol import SHARED_STRING, NotPlainData, ProtocolError, pack
from .watchdog import IDLE_SECONDS, cpu_seconds

KILL_GRACE = 1.0
"""Seconds after its limit at which a cell that could not be interrupted is killed."""
_MOST_CALLS = 2048
"""Calls of one REPL under way at once."""
_ATTEMPTS = 3
_HEADROOM = 4096
"""Bytes and values of a message beside what the agent's code put into it."""
_SMALL = 4 * 1024
"""Bytes up to which a message is read at once: at worst it takes a millisecond or two."""
_REPEATS = 8
"""How often over a message may hold the shared texts that its worker was given."""
_UNREAD_BYTES = 64 * 1024 * 1024
"""Bytes of answers that may wait for a worker to read them."""
_SHOWN_CHARS = 2_000
_MOST_NAMES = 100
"""Calls that an agent is told it never awaited, or that are still running."""
_LOST = "All variables are lost; the next cell starts in a fresh interpreter."


class _Clock:
    """The wall deadline of a cell, which stands still while host calls are pending."""

    def __init__(self, seconds: float) -> None:
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        self._left: float | None = None

    def pause(self) -> None:
        if self._left is None:
            self._left = self.scope.deadline - anyio.current_time()
            self.scope.deadline = math.inf

    def go_on(self) -> None:
        if self._left is not None:
            self.scope.deadline = anyio.current_time() + self._left
            self._left = None


class WorkerRepl:
    """A REPL in a worker; implements `Repl`. `clerk` lets one thread at a time handle large values."""

    def __init__(
        self,
        take_worker: Callable[[], Awaitable[Worker]],
        tasks: anyio.abc.TaskGroup,
        files: Files,
        clerk: anyio.CapacityLimiter,
        *,
        call: HostCall,
        functions: Sequence[HostFunction],
        context: Any,
        launcher: bool,
        returns: Mapping[str, Any] | None,
        limits: ReplLimits,
        on_close: Callable[[WorkerRepl], None],
    ) -> None:
        self._take_worker = take_worker
        self._tasks = tasks
        self._files = files
        self._clerk = clerk
        self._call = call
        self._limits = limits
        self._on_close = on_close
        self._names = frozenset({function.name for function in functions} | ({LAUNCH} if launcher else set()))
        self._settings = {
            "cell_timeout": limits.cell_timeout,
            "memory_mb": limits.memory_mb,
            "output_chars": limits.output_chars,
            "message_bytes": limits.message_bytes,
            "message_objects": limits.message_objects,
            "cpu_seconds": limits.cpu_seconds,
            "functions": [[function.name, function.doc] for function in functions],
            "launcher": launcher,
            "returns": returns,
        }
        self._context = context
        self._opening: bytes | None = None
        self._texts: list[str] = []
        self._referred = 0
        """Characters of shared texts in the message that is being read."""
        self._worker: Worker | None = None
        self._calls: dict[int, anyio.CancelScope] = {}
        self._last_call = self._made_calls = 0
        self._answering = 0
        self._idle = anyio.Event()
        self._clock: _Clock | None = None
        self._cpu_mark = 0.0
        """CPU of the worker when its cell began, or ended."""
        self._running = self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the worker, for observation; None where there is none."""
        return None if self._worker is None or not self._worker.watched else self._worker.pid

    @property
    def pool(self) -> MemoryPool | None:
        """What shares a limit of memory with it."""
        return self._limits.pool

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take a worker and set it up. Raises SandboxError."""
        opening = self._opening or await self._encode()
        problem = ""
        for _ in range(_ATTEMPTS):  # a spare may have been killed while it waited
            worker = self._worker = await self._take_worker()
            self._last_call = 0
            worker.allow(self._limits.message_bytes + _HEADROOM)
            worker.send(opening, self._tasks, self._files.descriptors(self._texts))
            try:
                message = read(await worker.receive())
            except (WorkerGone, ProtocolError) as error:
                problem = str(error)
            else:
                if isinstance(message, Opened):
                    self._mark_cpu()
                    return
                problem = message.reason if isinstance(message, Failed) else "it said something else"
            self._drop_worker()
        raise SandboxError(f"the REPL could not be set up: {problem}")

    async def _encode(self) -> bytes:
        """The message that sets a worker up."""
        context, self._context = self._context, None
        try:
            if is_large(context):
                encoded, texts = await anyio.to_thread.run_sync(self._files.encode, context, limiter=self._clerk)
            else:
                encoded, texts = self._files.encode(context)
        except OSError as error:
            raise SandboxError(f"no memory file for the context could be made ({error.strerror})") from error
        if self._closed:
            self._files.release(texts)
            raise SandboxError("the REPL is closed")
        self._texts = texts
        try:
            self._opening = pack(["open", self._settings, encoded])
        except NotPlainData as error:
            raise SandboxError(f"context must be plain data: {error}") from error
        return self._opening

    def _mark_cpu(self) -> None:
        if self.pid is not None:
            self._cpu_mark = cpu_seconds(self.pid) or 0.0

    def check_cpu(self, used: float) -> None:
        """Kill the worker where it has used more CPU than its cell, or the time between cells, may take."""
        seconds = used - self._cpu_mark
        if self._running:
            if seconds > self._limits.cell_timeout + KILL_GRACE + IDLE_SECONDS:
                self.kill(f"the cell used {seconds:.1f} s of CPU, its limit is {self._limits.cell_timeout:g}")
        elif seconds > IDLE_SECONDS:
            self.kill("it used CPU between cells")

    def kill(self, reason: str) -> None:
        """Kill the worker for something it did."""
        if self._worker is not None:
            self._worker.kill(reason)

    def _drop_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
        calls, self._calls = self._calls, {}
        for scope in calls.values():
            scope.cancel()

    async def aclose(self) -> None:
        """Kill the worker, cancel its calls and wait for their end, release everything."""
        if not self._closed:
            self._closed = True
            self._files.release(self._texts)
            self._texts = []
            self._on_close(self)
        self._drop_worker()
        with anyio.CancelScope(shield=True):
            while self._answering:
                self._idle = anyio.Event()
                await self._idle.wait()

    # -- cells -------------------------------------------------------------------------------------------------------

    async def run(self, code: str) -> CellResult:
        """Run one cell; see `Repl.run`. Cancelling it kills the worker."""
        if self._closed or self._running:
            raise SandboxError("the REPL is closed" if self._closed else "a cell is already running in this REPL")
        self._running = True
        try:
            note = ""
            why = None
            if self._worker is not None and self._worker.ended():
                why = self._worker.reason
                self._drop_worker()
            if self._worker is None:
                await self.start()
                note = _restarted(why)
            assert self._worker is not None
            self._mark_cpu()
            return await self._run(self._worker, code, note)
        except BaseException:
            self._drop_worker()
            raise
        finally:
            self._running = False
            self._mark_cpu()

    async def _run(self, worker: Worker, code: str, note: str) -> CellResult:
        started = anyio.current_time()
        finish: Finish | None = None
        clock = self._clock = _Clock(self._limits.cell_timeout + KILL_GRACE)
        if self._calls:
            clock.pause()
        worker.send(pack(["run", code]), self._tasks)
        why = f"the cell did not stop at its limit of {self._limits.cell_timeout:g} seconds"
        with clock.scope:
            try:
                while True:
                    message = await self._message(worker)
                    if isinstance(message, Call):
                        self._begin(worker, message)
                    elif isinstance(message, Done):
                        return self._result(message, finish, note, anyio.current_time() - started)
                    elif isinstance(message, Finish):
                        finish = message
                    elif isinstance(message, Cancel):
                        self._cancel(message.id)
                    else:
                        raise ProtocolError("a message out of place")
            except WorkerGone as error:
                why = str(error)
            except ProtocolError as error:
                why = f"it broke the protocol ({error})"
        self._drop_worker()
        wall = anyio.current_time() - started
        if finish is not None:
            return CellResult(status=CellStatus.FINISHED, value=finish.value, output=note, wall=wall)
        text = f"The interpreter was killed: {why}. {_LOST}"
        return CellResult(status=CellStatus.KILLED, output=note, error=text, wall=wall)

    async def _message(self, worker: Worker) -> Message:
        body = await worker.receive()
        self._referred = 0
        limits = self._limits
        take = partial(
            read,
            body,
            objects=limits.message_objects + _HEADROOM,
            text=limits.output_chars + 1000,
            extension=self._shared_text,
        )

        def timed() -> tuple[Message, float]:
            begun = thread_time()
            return take(), thread_time() - begun

        small = len(body) <= _SMALL
        message, seconds = timed() if small else await anyio.to_thread.run_sync(timed, limiter=self._clerk)
        worker.spend(seconds)
        return message

    def _shared_text(self, code: int, data: bytes) -> str:
        if code != SHARED_STRING or len(data) > 8:
            raise ProtocolError("an unknown extension")
        text = self._texts[int.from_bytes(data, "little")]
        self._referred += len(text)
        if self._referred > _REPEATS * sum(map(len, self._texts)):
            raise ProtocolError("a message that repeats its context too often")
        return text

    def _result(self, done: Done, finish: Finish | None, note: str, wall: float) -> CellResult:
        if (done.status is CellStatus.FINISHED) != (finish is not None) or (finish is not None and done.refused):
            raise ProtocolError("a status that does not fit")
        return CellResult(
            status=done.status,
            output=note + done.output,
            error=done.error,
            value=finish.value if finish is not None else None,
            refused=done.refused,
            unawaited=self._known(done.unawaited),
            running=self._known(done.running),
            wall=min(done.wall, wall),
            cpu=min(done.cpu, self._cpu_of_cell(wall)),
        )

    def _known(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of functions that it was given, as many as are shown: they become part of a prompt."""
        return tuple(name for name in names if name in self._names)[:_MOST_NAMES]

    def _cpu_of_cell(self, wall: float) -> float:
        """CPU that the worker has used in this cell; its one thread can use no more than the time that has passed."""
        used = None if self.pid is None else cpu_seconds(self.pid)
        return wall if used is None else max(0.0, used - self._cpu_mark)

    # -- calls of the host -------------------------------------------------------------------------------------------

    def _begin(self, worker: Worker, call: Call) -> None:
        if call.name not in self._names:
            raise ProtocolError("a call of a function that it was not given")
        if call.id <= self._last_call:
            raise ProtocolError("a call that does not follow the last one")
        self._last_call = call.id
        self._made_calls += 1
        if len(self._calls) >= _MOST_CALLS or self._made_calls > self._limits.most_calls:
            raise ProtocolError("more calls than allowed")
        request = HostRequest(
            id=call.id, name=call.name, args=call.args, kwargs=call.kwargs, cell=call.cell, size=call.size
        )
        scope = self._calls[call.id] = anyio.CancelScope()
        if self._clock is not None:
            self._clock.pause()
        # Called here and awaited there: tasks start in any order, but launches must be numbered as they were made.
        try:
            answer: Awaitable[Any] | Exception = self._call(request)
        except Exception as error:  # told to the agent as any other failure of a call is
            answer = error
        self._answering += 1
        # Not the request: its arguments would be held for as long as the answer takes, also where it is refused.
        self._tasks.start_soon(self._answer, worker, self._calls, scope, call.id, call.name, answer)

    def _cancel(self, number: int) -> None:
        scope = self._calls.pop(number, None)
        if scope is not None:
            scope.cancel()
            self._settled()

    def _settled(self) -> None:
        if not self._calls and self._clock is not None:
            self._clock.go_on()

    async def _answer(
        self,
        worker: Worker,
        calls: dict[int, anyio.CancelScope],
        scope: anyio.CancelScope,
        number: int,
        name: str,
        answer: Awaitable[Any] | Exception,
    ) -> None:
        try:
            with scope:
                frame = await self._ask(number, name, answer)
                if calls.pop(number, None) is not None:
                    worker.send(self._fitting(worker, number, name, frame), self._tasks)
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
            return _refusal(number, "ToolError", f"{name} gave no plain data: {error}")
        except Exception as error:
            return _refusal(number, "ToolError", f"{name} failed: {_spelled(error)}")

    @property
    def _room(self) -> int:
        """Bytes of one answer that the worker can take in."""
        return max(1, self._limits.memory_mb // 4) * 1024 * 1024

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
            f"interpreter of {self._limits.memory_mb:,} MiB takes in at once: ask for less, or in parts",
        )

    def _fitting(self, worker: Worker, number: int, name: str, frame: bytes) -> bytes:
        """The frame, or an error in its place where the worker could not take it in."""
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


def _restarted(why: str | None) -> str:
    return f"[The interpreter was restarted{'' if why is None else f' ({why})'}: the variables of earlier cells are lost.]\n"


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
