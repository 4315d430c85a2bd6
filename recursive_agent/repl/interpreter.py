"""One agent's interpreter, on the worker's side: runs cells, makes calls of the host, keeps the variables.

Between cells nobody runs. Everything that can run the agent's code, or grow its memory, happens in `run_cell` between
the limiter's `start` and `stop`: compiling, taking in replies, making results of `returns=`, running the loop, describing
errors, letting go of what the cell leaves behind. The loop does not turn between cells; replies that arrive then are kept
as they came and taken in by the next cell; automatic garbage collection is off until then.

Background tasks (`asyncio.create_task`) of a cell do not end with it: they stand still, and run on inside the clock and
the limits of the next cell, before its own code starts and whenever it waits. One that failed without anybody looking at
its exception is shown at the end of the output of the cell in which that was found, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from . import names
from .calls import (
    ERRORS,
    CellExit,
    Disconnected,
    Finished,
    HostCall,
    Subagent,
    TimedOut,
    agent_function,
    make_error,
)
from .cell_loop import CellLoop
from .fits import misfit
from .guards import make_builtins
from .incoming import Lost, number_of
from .modules import MODULES, Facade, import_facade
from .outgoing import Outgoing
from .output import CutText, cell_name, describe, remember_source
from .policy import PolicyError, compile_cell
from .protocol import MESSAGE_OBJECTS, ProtocolError, pack, unpack
from .returns import read_returns
from .tolerance import advice_on

MAX_IN_FLIGHT = 1024
"""Host calls of one REPL under way at once; further ones wait for their turn."""
MAX_WAITING = 10_000
"""Host calls that a cell may make without awaiting any."""
_SETTLING = 8
_NAMED = 100
_UNWINDING = 3
_SHORT = 20_000
_MIB = 1024 * 1024
_LAUNCH = "launch_subagent(goal, context=None, returns=None, max_steps=None, max_tokens=None)"
_PRINT = "print(*values, sep=' ', end='\\n', file=None, flush=False)"


PolicyError.__module__ = "builtins"  # tracebacks show the bare name


class Limiter(Protocol):
    """Stops a cell at its limits; one for a process of its own, one for a thread."""

    def start(self, seconds: float) -> None:
        """The cell starts: it may run for so long."""

    def relax(self) -> None:
        """The cell ran out of memory: give the worker room to say so."""

    def tighten(self) -> bool:
        """Put the memory limit of cells into force; whether it was out of force."""

    def hurry(self) -> None:
        """The cell has called `finish`: interrupt whatever keeps it."""

    def stop(self) -> None:
        """The cell is over."""


class Interpreter:
    """Runs cells. `send` takes a frame for the host."""

    def __init__(self, loop: CellLoop, send: Callable[[bytes], None], limiter: Limiter, *, policy: bool) -> None:
        self.loop = loop
        self.limiter = limiter
        self.in_cell = False
        self.overdue = False
        """The limiter struck where nothing could be raised; the selector is to raise instead."""
        self.cpu_clock: Callable[[], float] = time.process_time
        """CPU used so far by what runs the cells and nothing else."""
        self.arrived: list[bytes | bytearray | Lost] = []
        """Replies that came between cells, as they came."""
        self._send = send
        self._policy = policy
        self._cell = 0
        self._next_id = 1
        self._pending: dict[int, HostCall] = {}
        self._calls: dict[int, HostCall] = {}
        """Calls made in this cell that have not begun, by identity: one that has would keep its answer here."""
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._subagents: list[Subagent] = []
        self._outgoing = Outgoing([], 0, 0)
        self._returns: Any = None
        self._variables: dict[str, Any] = {"__name__": "__main__"}
        self._started = self._waited = 0.0
        self._waiting: tuple[float, float] | None = None
        self._ending: CellExit | None = None
        self._finished = self._over = False
        self._refused: str | None = None
        self._error: BaseException | None = None
        self._collecting = 0
        self._hints: list[str] = []
        """What this cell's code is to be told about itself, once it has run."""
        self._hinted: set[str] = set()
        self._output = CutText(0)
        self.seconds = 30.0
        self._output_chars = self._memory_mb = 0

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self, settings: dict[str, Any], context: Any, shared: list[str]) -> None:
        """Set the REPL up; `shared` are the strings of `context` that came by memory file, in order."""
        self.seconds = settings["cell_timeout"]
        self._output_chars = settings["output_chars"]
        self._memory_mb = settings.get("memory_mb", 0)
        self._returns = settings.get("returns")
        objects = settings.get("message_objects", MESSAGE_OBJECTS)
        self._outgoing = Outgoing(shared, settings["message_bytes"], objects)
        hints: dict[str, str] = {"finish": "finish(value)", "context": "context", "subagents": "subagents"}
        if self._policy:
            known = make_builtins(self._variables, self._importer(hints))
            _name_functions(known)
        else:
            import builtins

            known = dict(vars(builtins))
        known[names.EXIT] = CellExit
        known[names.CHECK] = self._check
        known[names.ECHO] = self._echo
        known.update(ERRORS, print=agent_function(self._printer(), _PRINT))
        known["finish"] = agent_function(self._finisher(), "finish(value)")
        for name, doc in settings["functions"]:
            known[name] = self._host_function(name, doc)
            hints[name] = f"await {name}(…)"
        if settings["launcher"]:
            launch = agent_function(self._launcher(), _LAUNCH, kind="host function")
            known.update(launch_subagent=launch, subagents=self._subagents)
            hints["launch_subagent"] = "await launch_subagent(goal)"
        else:
            del hints["subagents"]
        self._variables["__builtins__"] = known
        self._variables["context"] = context
        self._variables["asyncio"] = known["__import__"]("asyncio")

    def _importer(self, hints: dict[str, str]) -> Callable[..., Any]:
        """`__import__` of the agent's code: what is there already need not be imported, and is no module.

        To import it does no harm, so that is taken for what is meant, with a hint.
        """

        def known(name: str) -> Any:
            return self._variables[name] if name in self._variables else self._variables["__builtins__"][name]

        def importer(
            name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
        ) -> Any:
            try:
                return import_facade(name, globals, locals, fromlist, level)
            except ImportError:
                top = name.partition(".")[0]
                wanted = [part for part in fromlist or (top,) if part in hints]
                rest = [part for part in fromlist or () if part not in hints]
                if not wanted and top not in hints:
                    raise
                said = "; ".join(
                    f"{part} is there already, without an import: write {hints[part]}" for part in wanted or [top]
                )
                if level or not wanted or (rest and name not in MODULES):
                    raise ImportError(said, name=name) from None
                found = {part: known(part) for part in wanted}
                found.update({part: getattr(import_facade(name, None, None, [part]), part) for part in rest})
                if len(self._hints) < _NAMED:
                    self._hints.append(f"{said}.")
                return found[top] if not fromlist else Facade(name, None, found)

        return importer

    def _host_function(self, name: str, doc: str) -> Callable[..., HostCall]:
        def function(*args: Any, **kwargs: Any) -> HostCall:
            return self._made(HostCall(self, name, args, kwargs))

        function.__name__ = function.__qualname__ = name
        function.__doc__ = doc
        return agent_function(function, f"await {name}(…)", kind="host function")

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
            returned = None if returns is None else read_returns(returns)
            kwargs = {
                "goal": goal,
                "context": context,
                "returns": returned and returned.schema,
                "max_steps": max_steps,
                "max_tokens": max_tokens,
            }
            return self._made(Subagent(self, kwargs, returned))

        return launch_subagent

    def _made(self, call: HostCall) -> HostCall:
        """Remember a call, to tell at the cell's end whether it was ever awaited."""
        if len(self._calls) >= MAX_WAITING:
            self._calls = {key: known for key, known in self._calls.items() if not known._started}
            if len(self._calls) >= MAX_WAITING:
                raise RuntimeError(f"{MAX_WAITING:,} host calls were made and none of them awaited")
        self._calls[id(call)] = call
        self._stop_if_overdue()
        return call

    # -- what cells call ---------------------------------------------------------------------------------------------

    def _printer(self) -> Callable[..., None]:
        write = print

        def print_(
            *values: Any, sep: str | None = None, end: str | None = None, file: Any = None, flush: bool = False
        ) -> None:
            """Show values in the observation."""
            write(*values, sep=sep, end=end, file=self._output if file is None else file)
            self._stop_if_overdue()

        print_.__name__ = "print"
        return print_

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
        """After whatever may have swallowed the end of the cell."""
        if self._finished:
            raise Finished
        if self.remaining() <= 0:
            raise TimedOut

    def write(self, text: str) -> None:
        """Add to the output of the cell (warnings, say)."""
        self._output.write(text)

    def _finisher(self) -> Callable[..., NoReturn]:
        def finish(value: Any = None) -> NoReturn:
            """End the agent, with `value` as its result."""
            if self._finished or self._over:  # the first one counts
                raise Finished
            frame = self._outgoing.frame("finish", ["finish", value])
            self._refuse_unawaited(frame)
            if self._returns is not None:
                reason = misfit(self._returns, self._outgoing.plain(frame)[1])
                self._refused = None if reason is None else reason[: self._output_chars]
            if self._finished or self._over:  # by what the value ran while it was packed
                raise Finished
            self._finished = True
            if self._refused is None:
                self._send(frame)
            self.limiter.hurry()
            raise Finished

        return finish

    def _refuse_unawaited(self, frame: bytes) -> None:
        """Refuse a result that holds the text of a call (`f"{launch_subagent(…)}"`) in the place of what it gives."""
        for call in list(self._calls.values())[:_NAMED]:
            if call._shown and not call._started and repr(call)[:-1].encode("utf-8", "replace") in frame:
                shown = repr(call)
                raise TypeError(f"finish: the value holds the text {shown}: that call was never awaited; write `await`")

    # -- calls of the host ---------------------------------------------------------------------------------------------

    def _refuse_late(self) -> None:
        """What clings on to a cell that is over makes no calls."""
        if self._finished or self._over:
            raise Finished
        if self._ending is not None or self.remaining() <= 0:
            raise TimedOut

    async def perform(self, call: HostCall) -> Any:
        """Make a call of the host and wait for the answer. Cancelling it cancels the host's side too."""
        self._calls.pop(id(call), None)
        async with self._slots:
            made = self._outgoing.call(call._name, list(call._args), call._kwargs, self._cell)
            self._refuse_late()
            number = self._next_id
            self._next_id += 1
            call._future = future = self.loop.create_future()
            frame = self._outgoing.numbered(made, number)
            del made
            self._pending[number] = call
            if isinstance(call, Subagent):
                self._subagents.append(call)
            self._send(frame)
            del frame
            try:
                answer = await future
            except BaseException as error:
                if isinstance(error, GeneratorExit) and not self.in_cell:  # thrown away together with the loop
                    raise
                if self._pending.pop(number, None) is not None:
                    if isinstance(call, Subagent):
                        call._status = "cancelled"
                    self._send(pack(["cancel", number]))
                raise
        return call._value(answer)

    async def await_again(self, call: HostCall) -> Any:
        """The answer of a call that was awaited before."""
        if call._future is None:  # it is still waiting for its turn
            raise RuntimeError(f"{call._name}: this call is already being awaited")
        return call._value(await asyncio.shield(call._future))

    def forget(self, subagent: Subagent) -> None:
        """A refused launch made no sub-agent."""
        self._subagents[:] = [known for known in self._subagents if known is not subagent]  # runs no `__eq__`

    # -- what the host says ------------------------------------------------------------------------------------------

    def take_in(self, body: bytes | bytearray | Lost) -> None:
        """Take in a reply, in a cell. Where memory runs out, the call fails with the reason and the variables survive."""
        if isinstance(body, Lost):
            self._fail(body.number, body.size)
            return
        size, number = len(body), number_of(body)
        try:
            reply: list[Any] = unpack(body)
            del body
            self.deliver(*reply[1:])
        except (MemoryError, ProtocolError) as error:
            large = isinstance(error, MemoryError) or isinstance(error.__context__, MemoryError)
            why = None if large else str(error)
            error.__traceback__ = error.__context__ = None  # what was decoded so far
            self._fail(number, size, why)

    def _fail(self, number: int, size: int, why: str | None = None) -> None:
        """Fail a call whose answer there is no memory for, or which cannot be read."""
        call = self._pending.pop(number, None)
        if call is not None:
            text = f"{call._name}: the answer of {size / _MIB:,.1f} MiB "
            text += f"cannot be read ({why})" if why is not None else self._too_large()
            self._settle_call(call, None, call._failure(text))

    def _too_large(self) -> str:
        most = f"{self._memory_mb:,} MiB for all variables"
        return f"does not fit into this interpreter's memory ({most}): ask for less, or delete large variables first"

    def deliver(self, number: int, good: bool, payload: Any) -> None:
        """Take in the answer to a call, even if nobody waits for it."""
        call = self._pending.get(number)
        if call is None:
            return
        error = None if good else make_error(payload["kind"], payload["message"], payload["data"])
        del self._pending[number]
        self._settle_call(call, payload if good else None, error)

    @staticmethod
    def _settle_call(call: HostCall, value: Any, error: Exception | None) -> None:
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
        """Do what waits for the host: the clock stands still, but for the CPU that is used meanwhile."""
        self._waiting = time.monotonic(), self.cpu_clock()
        try:
            return select()
        finally:
            began, cpu = self._waiting
            self._waited += max(0.0, time.monotonic() - began - (self.cpu_clock() - cpu))
            self._waiting = None

    def remaining(self) -> float:
        """Seconds left of the cell's time."""
        now = time.monotonic()
        if self._waiting is not None:
            began, cpu = self._waiting
            now = began + self.cpu_clock() - cpu
        return self.seconds - (now - self._started - self._waited)

    # -- cells -------------------------------------------------------------------------------------------------------

    def run_cell(self, source: str) -> dict[str, Any]:
        """Run one cell; the fields of its `CellResult`, and `refused`, why the value of `finish` was not taken."""
        self._cell += 1
        self._started, self._waited = time.monotonic(), 0.0
        cpu = time.process_time()
        self.in_cell = True
        try:
            self.limiter.start(self.seconds)
            report = self._report(source)
        finally:
            self._stop()
            self.in_cell = self.overdue = False
        report["wall"] = time.monotonic() - self._started
        report["cpu"] = time.process_time() - cpu
        return report

    def _stop(self) -> None:
        while True:
            try:
                return self.limiter.stop()
            except CellExit:  # struck once more just before it was stopped
                continue

    def _report(self, source: str) -> dict[str, Any]:
        """Everything of a cell, its end included: what it leaves behind is let go of before this returns."""
        self._finished = self._over = False
        self._refused = None
        self._output = CutText(self._output_chars)
        if self._collecting:  # cells after one that ran out of memory: what they let go of is really freed
            self._collecting -= 1
            gc.collect()
        arrived, self.arrived = self.arrived, []
        while arrived:
            self.take_in(arrived.pop(0))
        status, error = self._compile_and_run(source)
        self.limiter.relax()
        self._show_failures()
        self._show_hints()
        self._over = True
        if self._finished:
            status, error = ("finished" if self._refused is None else "ok"), None
        report = {
            "status": status,
            "output": _text(self._output.value()),
            "error": _text(error),
            "unawaited": [call._name for call in self._calls.values() if not call._started][:_NAMED],
            "running": [call._name for call in self._pending.values()][:_NAMED],
            "refused": _text(self._refused),
        }
        self._calls = {}
        self._error = None
        self._output = CutText(0)
        return report

    def _compile_and_run(self, source: str) -> tuple[str, str | None]:
        name = cell_name(self._cell)
        remember_source(name, source)
        try:
            code = self._compile(source, name)
        except SyntaxError as problem:
            text, advice = describe(problem.with_traceback(None), self._output_chars), advice_on(problem, source)
            return "error", text if advice is None else f"{text}\n{advice}"
        except (ValueError, RecursionError, MemoryError, OverflowError) as problem:
            return "error", f"SyntaxError: this cell cannot be compiled ({type(problem).__name__}: {problem})"
        except CellExit:
            return "timeout", f"Compiling this cell took more than {self.seconds:g} seconds; write less at once."
        return self._execute(code)

    def _compile(self, source: str, name: str) -> Any:
        try:
            return compile_cell(source, name, restricted=self._policy, hints=self._hints)
        except MemoryError:  # what the cell is to delete fills it
            if len(source) > _SHORT:
                raise
            self.limiter.relax()
            try:
                return compile_cell(source, name, restricted=self._policy)
            finally:
                self.limiter.tighten()

    def _execute(self, code: Any) -> tuple[str, str | None]:
        main = self.loop.create_task(self._main(code))
        ended: BaseException | None = None
        try:
            self.loop.run_until_complete(main)
        except Disconnected:
            raise
        except BaseException as exit_:  # CellExit, or a limit that struck inside asyncio itself
            self.limiter.relax()
            ended = exit_
            self._ending = exit_ if isinstance(exit_, CellExit) else None
            self._unwind(main)
            self._ending = None
        failed = ended or self._error
        self._error = None
        if self._finished:
            return "ok", None
        if failed is None:
            if self.remaining() > 0:
                return "ok", None
            failed = TimedOut()  # the cell has swallowed it
        try:
            text = describe(failed, self._output_chars)
        finally:
            # Its frames hold the variables of functions that failed, and this one.
            BaseException.with_traceback(failed, None)  # runs no `__setattr__`
        if isinstance(failed, TimedOut) and self.remaining() <= 0:  # not one kept from another cell and raised again
            return "timeout", f"{text}\nThe cell was stopped after {self.seconds:g} seconds; its variables are kept."
        if isinstance(failed, MemoryError):
            self._collecting = 3
            return "memory", f"{text}\nThe memory limit was reached; delete large variables to go on."
        return "error", text

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

    def _show_failures(self) -> None:
        """Print the exceptions of background tasks that nobody has looked at."""
        failures, unlisted = self.loop.take_failures()
        for failure in failures:
            self._output.write(f"Background task failed:\n{describe(failure, self._output_chars)}\n")
            BaseException.with_traceback(failure, None)
        if unlisted:
            self._output.write(f"… and {unlisted:,} more background tasks failed.\n")

    def _show_hints(self) -> None:
        """Print what there is to say about the form of the code: each thing once in a REPL."""
        hints = [hint for hint in dict.fromkeys(self._hints) if hint not in self._hinted]
        self._hints = []
        if not hints or len(self._hinted) >= _NAMED:
            return
        self._hinted.update(hints)
        printed = self._output.value()
        between = "\n" if printed and not printed.endswith("\n") else ""
        self._output.write(between + "".join(f"{hint}\n" for hint in hints))

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


def _name_functions(known: dict[str, Any]) -> None:
    """Name our functions as the agent knows them, for the errors of a wrong call."""
    named: set[int] = set()
    for name, value in known.items():
        if type(value) is types.FunctionType and not names.is_special(name):
            if id(value) in named:  # under two names
                value = types.FunctionType(
                    value.__code__, value.__globals__, name, value.__defaults__, value.__closure__
                )
                known[name] = value
            if value.__qualname__ != name:
                value.__name__ = value.__qualname__ = name
            named.add(id(value))


def _text(text: str | None) -> str | None:
    """Text that can be sent: what is no valid Unicode, spelt out."""
    return text and text.encode("utf-8", "backslashreplace").decode()


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
