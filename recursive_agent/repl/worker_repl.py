"""One REPL as the host sees it: a worker at the other end of a socket, its life, its cells and its messages.

The host believes nothing that a worker says: see `messages`. What a worker can make the host hold or do is bounded: bytes
and values of a message and messages a second here, calls and bytes of their answers in `answers`.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic, thread_time
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from ..errors import SandboxError
from ..sizes import is_large, no_collection
from .answers import Answerer
from .base import CellResult, CellStatus, HostCall, HostFunction, MemoryPool, Recording, Replay, ReplLimits
from .files import Files
from .link import Worker, WorkerGone
from .log import Log
from .messages import LAUNCH, Call, Cancel, Clock, Diverged, Done, Failed, Finish, Live, Message, Opened, read
from .protocol import SHARED_STRING, NotPlainData, ProtocolError, pack
from .starvation import counted, starved_of
from .watchdog import IDLE_SECONDS, cpu_seconds

KILL_GRACE = 1.0
"""Seconds after its limit at which a cell that could not be interrupted is killed."""
_ATTEMPTS = 3
_HEADROOM = 4096
"""Bytes and values of a message beside what the agent's code put into it."""
_SMALL = 4 * 1024
"""Bytes up to which a message is read at once: at worst it takes a millisecond or two."""
_BRIEF = 128
"""Bytes up to which reading a message is cheaper than asking the clock what it took."""
_BYTE_SECONDS = 0.75e-6
"""What reading a byte of such a message takes at most."""
_REPEATS = 8
"""How often over a message may hold the shared texts of its worker."""
_MOST_NAMES = 100
"""Names of calls never awaited, or still running, that a result holds."""
_LOST = "All variables are lost; the next cell starts in a fresh interpreter."


class _Clock:
    """The wall clock of a cell. It stands still while host calls are pending, and while the worker (`pid`) gets no CPU."""

    def __init__(self, pid: int | None) -> None:
        self.scope = anyio.CancelScope()
        self._pid = pid
        self._starved = 0.0 if pid is None else starved_of(pid)
        self._before = 0.0
        """Seconds up to the last pause."""
        self._since: float | None = anyio.current_time()

    def pause(self) -> None:
        if self._since is not None:
            self._before += anyio.current_time() - self._since
            self._since = None

    def go_on(self) -> None:
        if self._since is None:
            self._since = anyio.current_time()

    def over(self, seconds: float) -> bool:
        """Whether it has been running for more than so many seconds, and a grace."""
        wall = self._before - KILL_GRACE + (0.0 if self._since is None else anyio.current_time() - self._since)
        if wall <= seconds:
            return False
        return self._pid is None or counted(wall, starved_of(self._pid) - self._starved) > seconds


class WorkerRepl:
    """A REPL in a worker; implements `Repl`. `clerk` lets one thread at a time handle large values."""

    def __init__(
        self,
        take_worker: Callable[[Worker | None], Awaitable[Worker]],
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
        recording: Recording | None = None,
    ) -> None:
        self._take_worker = take_worker
        self._tasks = tasks
        self._files = files
        self._clerk = clerk
        self._limits = limits
        self._on_close = on_close
        self._answers = Answerer(
            call,
            (*(function.name for function in functions), *((LAUNCH,) if launcher else ())),
            tasks,
            clerk,
            most_calls=limits.most_calls,
            memory_mb=limits.memory_mb,
            on_wait=self._on_wait,
        )
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
            "seed": secrets.randbits(64) if recording is None else recording.seed,
            "records": recording is not None,
        }
        self._log = Log(None if recording is None else recording.on_clock)
        self._context = context
        self._opening: bytes | None = None
        self._texts: list[str] = []
        self._referred = 0
        """Characters of shared texts in the message that is being read."""
        self._worker: Worker | None = None
        self._clock: _Clock | None = None
        self._cpu_mark = 0.0
        """CPU of the worker when its last cell ended."""
        self._running = self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the worker, for observation; None where there is none."""
        return None if self._worker is None or not self._worker.watched else self._worker.pid

    @property
    def pool(self) -> MemoryPool | None:
        """The pool whose memory limit it shares."""
        return self._limits.pool

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take a worker and set it up. Raises SandboxError."""
        opening = self._opening or await self._encode()
        problem = ""
        dead: Worker | None = None
        for _ in range(_ATTEMPTS):  # a spare may have been killed while it waited
            worker = self._worker = await self._take_worker(dead)
            worker.allow(self._limits.message_bytes + _HEADROOM)
            worker.send(opening, self._tasks, self._files.descriptors(self._texts))
            try:
                message = read(await worker.receive())
            except (WorkerGone, ProtocolError) as error:
                problem = str(error)
                dead = worker if isinstance(error, WorkerGone) and worker.reason is None else None
            else:
                dead = None
                if isinstance(message, Opened):
                    self._mark_cpu()
                    return
                problem = message.reason if isinstance(message, Failed) else "its answer was of another kind"
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
            raise SandboxError(f"no memory file for the context can be created ({error.strerror})") from error
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

    def check_time(self) -> None:
        """End the cell that runs, with its worker, where it has lasted too long."""
        if self._clock is not None and self._clock.over(self._limits.cell_timeout):
            self._clock.scope.cancel()

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
        self._answers.drop()

    async def aclose(self) -> None:
        """Kill the worker, cancel its calls and wait for their end, release everything."""
        if not self._closed:
            self._closed = True
            self._files.release(self._texts)
            self._texts = []
            self._on_close(self)
        self._drop_worker()
        with anyio.CancelScope(shield=True):
            await self._answers.wait_closed()

    # -- cells -------------------------------------------------------------------------------------------------------

    async def run(self, code: str, replay: Replay | None = None) -> CellResult:
        """Run one cell; see `RecordingRepl.run`. Cancelling it kills the worker."""
        if self._closed or self._running:
            raise SandboxError("the REPL is closed" if self._closed else "a cell is already running in this REPL")
        self._running = True
        try:
            note = await self._prepare(replay)
            assert self._worker is not None
            order = self._order(code, replay)
            return await self._run(self._worker, order, note)
        except BaseException:
            self._drop_worker()
            raise
        finally:
            self._running = False

    async def _prepare(self, replay: Replay | None) -> str | None:
        """See that there is a worker; the note that it is not the one of the last cell, where that is so."""
        if replay is not None and replay.restarted is not None:
            self._drop_worker()
            await self.start()
            return replay.restarted
        why = None
        if self._worker is not None and self._worker.ended():
            why = self._worker.reason
            self._drop_worker()
        if self._worker is not None:
            return None
        await self.start()
        return _restarted(why)

    def _order(self, code: str, replay: Replay | None) -> bytes:
        """The message that has a cell run."""
        self._log.begin(replay)
        if replay is None:
            self._answers.go_live()
            return pack(["run", code])
        self._answers.replay()
        return pack(["run", code, array("d", replay.clock).tobytes(), replay.complete])

    async def _run(self, worker: Worker, order: bytes, note: str | None) -> CellResult:
        started = monotonic()
        finish: Finish | None = None
        clock = self._clock = _Clock(self.pid)
        if self._answers.waiting:
            clock.pause()
        worker.send(order, self._tasks)
        why = f"the cell did not stop at its limit of {self._limits.cell_timeout:g} seconds"
        with clock.scope:
            try:
                while True:
                    message = await self._message(worker)
                    if isinstance(message, Call):
                        self._answers.begin(worker, message)
                    elif isinstance(message, Done):
                        return self._result(message, finish, note, monotonic() - started)
                    elif isinstance(message, Finish):
                        finish = message
                    elif isinstance(message, Clock):
                        self._log.put(message.values)
                    elif isinstance(message, Live):
                        self._log.go_live()
                        self._answers.go_live()
                    elif isinstance(message, Diverged):
                        self._log.diverge(message.what)
                    elif isinstance(message, Cancel):
                        self._answers.cancel(message.id)
                    else:
                        raise ProtocolError("a message out of place")
            except WorkerGone as error:
                why = str(error)
            except ProtocolError as error:
                why = f"it broke the protocol ({error})"
            finally:
                self._clock = None
        self._drop_worker()
        wall = monotonic() - started
        if finish is not None:
            return CellResult(
                status=CellStatus.FINISHED, value=finish.value, output=note or "", restarted=note, wall=wall
            )
        text = f"The interpreter was killed: {why}. {_LOST}"
        return CellResult(status=CellStatus.KILLED, output=note or "", restarted=note, error=text, wall=wall)

    def _on_wait(self, waiting: bool) -> None:
        if self._clock is not None:
            if waiting:
                self._clock.pause()
            else:
                self._clock.go_on()

    async def _message(self, worker: Worker) -> Message:
        body = await worker.receive()
        self._referred = 0
        if len(body) <= _BRIEF:
            worker.spend(len(body) * _BYTE_SECONDS)
            return self._read(body)
        if len(body) <= _SMALL:
            message, seconds = self._timed(body)
        else:
            message, seconds = await anyio.to_thread.run_sync(self._timed_large, body, limiter=self._clerk)
        worker.spend(seconds)
        return message

    def _timed(self, body: bytes) -> tuple[Message, float]:
        """A message, and the seconds of CPU that reading it took."""
        begun = thread_time()
        return self._read(body), thread_time() - begun

    def _timed_large(self, body: bytes) -> tuple[Message, float]:
        with no_collection():
            return self._timed(body)

    def _read(self, body: bytes) -> Message:
        limits = self._limits
        return read(
            body,
            objects=limits.message_objects + _HEADROOM,
            text=limits.output_chars + 1000,
            extension=self._shared_text,
        )

    def _shared_text(self, code: int, data: bytes) -> str:
        if code != SHARED_STRING or len(data) > 8:
            raise ProtocolError("an unknown extension")
        text = self._texts[int.from_bytes(data, "little")]
        self._referred += len(text)
        if self._referred > _REPEATS * sum(map(len, self._texts)):
            raise ProtocolError("a message that repeats its context too often")
        return text

    def _result(self, done: Done, finish: Finish | None, note: str | None, wall: float) -> CellResult:
        if (done.status is CellStatus.FINISHED) != (finish is not None) or (finish is not None and done.refused):
            raise ProtocolError("a status that does not fit")
        return CellResult(
            status=done.status,
            output=(note or "") + done.output,
            restarted=note,
            diverged=self._log.diverged,
            error=done.error,
            value=finish.value if finish is not None else None,
            refused=done.refused,
            unawaited=self._known(done.unawaited),
            running=self._known(done.running),
            wall=min(done.wall, wall),
            cpu=min(done.cpu, self._cpu_of_cell(wall)),
        )

    def _known(self, names: Sequence[str]) -> tuple[str, ...]:
        """Names of functions that it may call, as many as are shown: they become part of a prompt."""
        return tuple(name for name in names if name in self._answers.names)[:_MOST_NAMES] if names else ()

    def _cpu_of_cell(self, wall: float) -> float:
        """CPU that the worker has used since its last cell; its one thread can use no more than the time that has passed."""
        used = None if self.pid is None else cpu_seconds(self.pid)
        if used is None:
            return wall
        spent, self._cpu_mark = used - self._cpu_mark, used
        return min(max(0.0, spent), wall)


def _restarted(why: str | None) -> str:
    return f"[The interpreter was restarted{'' if why is None else f' ({why})'}: the variables of earlier cells are lost.]\n"
