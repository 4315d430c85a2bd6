"""One agent's interpreter, on the worker's side: runs cells, makes calls of the host, keeps the variables.

The agent's code runs only while a cell runs. Replies that arrive in between are taken in before the next cell starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import msgpack

from . import names
from .calls import ERRORS, CellExit, Disconnected, Finished, HostCall, Subagent, TimedOut, host_function, make_error
from .guards import make_builtins
from .modules import import_facade
from .output import CutText, cell_name, describe, remember_source
from .plain import plain
from .policy import compile_cell
from .protocol import SHARED_STRING, NotPlainData, pack
from .returns import describe_type

MAX_IN_FLIGHT = 1024
"""Host calls of one REPL under way at once; further ones wait for their turn."""
MAX_WAITING = 10_000
"""Host calls that a cell may make without awaiting any."""
_SETTLING = 8
_NAMED = 100
_UNWINDING = 3


class Limiter(Protocol):
    """Stops a cell at its limits; one for a process of its own, one for a thread."""

    def start(self, seconds: float) -> None:
        """The cell starts: it may run for so long."""

    def relax(self) -> None:
        """The cell ran out of memory: give the worker room to say so."""

    def hurry(self) -> None:
        """The cell has called `finish`: interrupt whatever keeps it."""

    def stop(self) -> None:
        """The cell is over."""


class CellLoop(asyncio.SelectorEventLoop):
    """An event loop that says whether anything could run at once."""

    _ready: Any

    @property
    def busy(self) -> bool:
        """Whether callbacks are waiting to be run."""
        return bool(self._ready)


class Interpreter:
    """Runs cells. `send` takes a frame for the host."""

    def __init__(self, loop: CellLoop, send: Callable[[bytes], None], limiter: Limiter, *, policy: bool) -> None:
        self.loop = loop
        self.limiter = limiter
        self.in_cell = False
        self.overdue = False
        """The limiter struck where nothing could be raised; the selector is to raise instead."""
        self._send = send
        self._policy = policy
        self._cell = 0
        self._next_id = 1
        self._pending: dict[int, HostCall] = {}
        self._calls: list[HostCall] = []
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._subagents: list[Subagent] = []
        self._shared: dict[int, tuple[int, str]] = {}
        self._variables: dict[str, Any] = {"__name__": "__main__"}
        self._started = self._waited = 0.0
        self._waiting_since: float | None = None
        self._ending: CellExit | None = None
        self._finished = False
        self._error: BaseException | None = None
        self._collecting = 0
        self._output = CutText(0)
        self.seconds = 30.0
        self._output_chars = self._message_bytes = 0

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self, settings: dict[str, Any], context: Any, shared: list[str]) -> None:
        """Set the REPL up; `shared` are the strings of `context` that came by memory file, in order."""
        self.seconds = settings["cell_timeout"]
        self._output_chars = settings["output_chars"]
        self._message_bytes = settings["message_bytes"]
        self._shared = {id(text): (index, text) for index, text in enumerate(shared)}
        if self._policy:
            known = make_builtins(self._variables, import_facade)
        else:
            import builtins

            known = dict(vars(builtins))
        known[names.EXIT] = CellExit
        known[names.CHECK] = self._check
        known[names.ECHO] = self._echo
        known.update(ERRORS, print=self._print, finish=self._finish)
        for name, doc in settings["functions"]:
            known[name] = self._host_function(name, doc)
        if settings["launcher"]:
            known.update(launch_subagent=self._launcher(), subagents=self._subagents)
        self._variables["__builtins__"] = known
        self._variables["context"] = context
        self._variables["asyncio"] = known["__import__"]("asyncio")

    def _host_function(self, name: str, doc: str) -> Callable[..., HostCall]:
        def function(*args: Any, **kwargs: Any) -> HostCall:
            return self._made(HostCall(self, name, args, kwargs))

        function.__name__ = function.__qualname__ = name
        function.__doc__ = doc
        return host_function(function)

    def _launcher(self) -> Callable[..., HostCall]:
        def launch_subagent(
            goal: str,
            context: Any = None,
            returns: Any = None,
            max_steps: int | None = None,
            max_tokens: int | None = None,
        ) -> HostCall:
            """Start a sub-agent on `goal`; await the call for its result."""
            if not isinstance(goal, str):
                raise TypeError(f"launch_subagent: goal must be text, not {type(goal).__name__}")
            schema, build = (None, None) if returns is None else describe_type(returns)
            kwargs = {
                "goal": goal,
                "context": context,
                "returns": schema,
                "max_steps": max_steps,
                "max_tokens": max_tokens,
            }
            return self._made(Subagent(self, kwargs, build))

        return host_function(launch_subagent)

    def _made(self, call: HostCall) -> HostCall:
        """Remember a call, to tell at the cell's end whether it was ever awaited."""
        if len(self._calls) >= MAX_WAITING:
            self._calls = [known for known in self._calls if not known._started]
            if len(self._calls) >= MAX_WAITING:
                raise RuntimeError(f"{MAX_WAITING:,} host calls were made and none of them awaited")
        self._calls.append(call)
        self._stop_if_overdue()
        return call

    # -- what cells call ---------------------------------------------------------------------------------------------

    def _print(
        self, *values: Any, sep: str | None = None, end: str | None = None, file: Any = None, flush: bool = False
    ) -> None:
        print(*values, sep=sep, end=end, file=self._output if file is None else file)
        self._stop_if_overdue()

    def _echo(self, value: Any) -> None:
        if value is not None:
            self._variables["_"] = value
            self._output.write(repr(value) + "\n")

    def _stop_if_overdue(self) -> None:
        """On the way back to the agent's code: a loop that only ever calls us would never be struck."""
        if self.overdue:
            self.overdue = False
            raise Finished if self._finished else TimedOut

    def _check(self) -> None:
        if self._finished:
            raise Finished

    def write(self, text: str) -> None:
        """Add to the output of the cell (warnings, say)."""
        self._output.write(text)

    def _finish(self, value: Any = None) -> NoReturn:
        frame = self._pack("finish", ["finish", value])
        self._finished = True
        self._send(frame)
        self.limiter.hurry()
        raise Finished

    def _pack(self, what: str, message: list[Any]) -> bytes:
        if self._shared:
            message = self._by_reference(message)
        try:
            frame = pack(message, plain, errors="strict")
        except NotPlainData as error:
            raise TypeError(f"{what}: {error}") from None
        if len(frame) > self._message_bytes:
            raise ValueError(f"{what}: {len(frame):,} bytes are more than the limit of {self._message_bytes:,}")
        return frame

    def _by_reference(self, value: Any, depth: int = 0) -> Any:
        """Name the strings that came by memory file instead of sending them back."""
        if type(value) is str:
            known = self._shared.get(id(value))
            return value if known is None else msgpack.ExtType(SHARED_STRING, known[0].to_bytes(4, "little"))
        if depth < 20 and type(value) in (list, tuple):
            return [self._by_reference(item, depth + 1) for item in value]
        if depth < 20 and type(value) is dict:
            return {key: self._by_reference(item, depth + 1) for key, item in value.items()}
        return value

    async def perform(self, call: HostCall) -> Any:
        """Make a call of the host and wait for the answer. Cancelling it cancels the host's side too."""
        async with self._slots:
            number = self._next_id
            self._next_id += 1
            frame = self._pack(call._name, ["call", number, call._name, list(call._args), call._kwargs, self._cell])
            call._future = future = self.loop.create_future()
            self._pending[number] = call
            if isinstance(call, Subagent):
                self._subagents.append(call)
            self._send(frame)
            try:
                return await future
            except GeneratorExit:  # thrown away together with the loop
                raise
            except BaseException:
                if self._pending.pop(number, None) is not None:
                    if isinstance(call, Subagent):
                        call._status = "cancelled"
                    self._send(pack(["cancel", number]))
                raise

    async def await_again(self, call: HostCall) -> Any:
        """The answer of a call that was awaited before."""
        if call._future is None:  # it is still waiting for its turn
            raise RuntimeError(f"{call._name}: this call is already being awaited")
        return await asyncio.shield(call._future)

    def forget(self, subagent: Subagent) -> None:
        """A refused launch made no sub-agent."""
        with contextlib.suppress(ValueError):
            self._subagents.remove(subagent)

    # -- what the host says ------------------------------------------------------------------------------------------

    def deliver(self, number: int, good: bool, payload: Any) -> None:
        """Take in the answer to a call, even if nobody waits for it."""
        call = self._pending.pop(number, None)
        if call is None or call._future is None:
            return
        error = None if good else make_error(payload["kind"], payload["message"], payload["data"])
        try:
            value = call._settle(payload if good else None, error)
        except Exception as failure:
            value, error = None, failure
        if call._future.done():
            return
        if error is None:
            call._future.set_result(value)
        else:
            call._future.set_exception(error)
            call._future.exception()  # seen: one that nobody awaits is no defect

    # -- time --------------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the cell has called `finish`."""
        return self._finished

    @property
    def waits_for_host(self) -> bool:
        """Whether the cell's clock stands still while the loop is idle."""
        return bool(self._pending)

    def wait(self, select: Callable[[], Any]) -> Any:
        """Do what waits for the host: the clock stands still."""
        self._waiting_since = time.monotonic()
        try:
            return select()
        finally:
            self._waited += time.monotonic() - self._waiting_since
            self._waiting_since = None

    def remaining(self) -> float:
        """Seconds left of the cell's time."""
        now = time.monotonic() if self._waiting_since is None else self._waiting_since
        return self.seconds - (now - self._started - self._waited)

    # -- cells -------------------------------------------------------------------------------------------------------

    def run_cell(self, source: str) -> dict[str, Any]:
        """Run one cell; the fields of its `CellResult`."""
        self._cell += 1
        self._calls = []
        self._finished = False
        self._error = None
        self._output = CutText(self._output_chars)
        name = cell_name(self._cell)
        self._started, self._waited = time.monotonic(), 0.0
        cpu = time.process_time()
        if self._collecting:  # cells after one that ran out of memory: what they let go of is really freed
            self._collecting -= 1
            gc.collect()
        status, error = "ok", None
        remember_source(name, source)
        try:
            code = compile_cell(source, name, restricted=self._policy)
        except SyntaxError as problem:
            status, error = "error", describe(problem.with_traceback(None), self._output_chars)
        except (ValueError, RecursionError, MemoryError, OverflowError) as problem:
            status, error = "error", f"SyntaxError: this cell cannot be compiled ({type(problem).__name__}: {problem})"
        else:
            status, error = self._execute(code)
        return {
            "status": status,
            "output": self._output.value().encode("utf-8", "backslashreplace").decode(),
            "error": error and error.encode("utf-8", "backslashreplace").decode(),
            "unawaited": [call._name for call in self._calls if not call._started][:_NAMED],
            "running": [call._name for call in self._pending.values()],
            "wall": time.monotonic() - self._started,
            "cpu": time.process_time() - cpu,
        }

    def _execute(self, code: Any) -> tuple[str, str | None]:
        main = self.loop.create_task(self._main(code))
        ended: BaseException | None = None
        self.in_cell = True
        try:
            self.limiter.start(self.seconds)
            self.loop.run_until_complete(main)
        except Disconnected:
            raise
        except BaseException as exit_:  # CellExit, or a limit that struck inside asyncio itself
            self.limiter.relax()
            ended = exit_
            self._ending = exit_ if isinstance(exit_, CellExit) else None
            self._unwind(main)
            self._ending = None
        finally:
            self._stop()
            self.in_cell = self.overdue = False
        if self._finished:
            return "finished", None
        if isinstance(ended, TimedOut):
            where = describe(ended, self._output_chars)
            return "timeout", f"{where}\nThe cell was stopped after {self.seconds:g} seconds; its variables are kept."
        failed = ended or self._error
        self._error = None
        if failed is None:
            return "ok", None
        text = describe(failed, self._output_chars)
        failed.__traceback__ = None  # its frames hold the variables of functions that failed
        if isinstance(failed, MemoryError):
            self._collecting = 3
            return "memory", f"{text}\nThe memory limit was reached; delete large variables to go on."
        return "error", text

    def _stop(self) -> None:
        while True:
            try:
                return self.limiter.stop()
            except CellExit:  # struck once more just before it was stopped
                continue

    async def _main(self, code: Any) -> None:
        try:
            await self._settle()  # tasks whose reply arrived between the cells go on first
            if code.co_flags & inspect.CO_COROUTINE:
                await _Body(eval(code, self._variables), self)
            else:
                exec(code, self._variables)
        except (CellExit, Disconnected):
            raise
        except BaseException as error:
            self.limiter.relax()
            self._error = error
        await self._settle()  # tasks that were just made get to start their calls

    async def _settle(self) -> None:
        for _ in range(_SETTLING):
            if not self.loop.busy:
                break
            await asyncio.sleep(0)

    @property
    def ending(self) -> CellExit | None:
        """What the cell is being ended by, where it is."""
        return self._ending

    def _unwind(self, main: asyncio.Task[None]) -> None:
        """Let go of what the cell was doing; whatever clings on is interrupted again by the limiter."""
        main.cancel()
        self.overdue = False
        for _ in range(_UNWINDING):
            with contextlib.suppress(CellExit, MemoryError, RecursionError):
                self.loop.stop()  # beforehand: one turn of the loop, and nothing left in its queue
                self.loop.run_forever()
        if main.done() and not main.cancelled():
            main.exception()


class _Body:
    """Awaits the coroutine of a cell. When the cell is ended while it waits, that is what it gets to see: a
    cancellation could be caught by `except BaseException`, the end of a cell cannot.
    """

    def __init__(self, coroutine: Any, interpreter: Interpreter) -> None:
        self._coroutine = coroutine
        self._interpreter = interpreter

    def __await__(self) -> _Body:
        return self

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> Any:
        return self._coroutine.send(None)

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        ending = self._interpreter.ending
        return self._coroutine.throw(*error) if ending is None else self._coroutine.throw(ending)

    def close(self) -> None:
        self._coroutine.close()
