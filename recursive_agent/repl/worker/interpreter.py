"""One agent's interpreter, on the worker's side: runs cells and keeps the variables.

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
import gc
import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..protocol import MESSAGE_OBJECTS
from . import chance, names
from .cell import Cell, Limiter
from .cell_loop import CellLoop
from .clock import Clock, here
from .dispatch import Dispatcher
from .errors import ERRORS, CellExit, Disconnected, Diverged, TimedOut
from .functions import make_finish, make_host_function, make_import, make_launcher, make_print, name_functions
from .guards import make_builtins
from .language import LanguageError, compile_cell
from .modules import facades_for
from .outgoing import Outgoing
from .output import CELL_PREFIX, CutText, Report, cell_name, describe, remember_source
from .shadowed import bring_back
from .tolerance import advice_on

_SETTLING = 8
"""Turns of the loop in which tasks get to start their calls."""
_MOST_HINTS = 100
_UNWINDING = 3
_COLLECTIONS = 3
"""Cells after one that ran out of memory which begin with a collection of garbage."""
_SHORT = 20_000
"""Characters of a cell that is compiled even where memory is full: it may delete what fills it."""

LanguageError.__module__ = "builtins"  # tracebacks show the bare name


class Interpreter:
    """Runs cells. `send` takes a frame for the host. Unless `restricted`, cells are plain Python."""

    def __init__(self, loop: CellLoop, send: Callable[[bytes], None], limiter: Limiter, *, restricted: bool) -> None:
        self.loop = loop
        self.limiter = limiter
        self.cell = Cell()
        self.clock = loop.clock = Clock(self.cell)
        self.calls = Dispatcher(self.cell, loop, send, self.clock)
        self.take_in_arrived: Callable[[], None] = lambda: None
        """Takes in the answers that came before the cell."""
        self._restricted = restricted
        self._variables: dict[str, Any] = {"__name__": "__main__"}
        self._functions: dict[str, Any] = {}
        self._error: BaseException | None = None
        self._collecting = 0
        self._hinted: set[str] = set()
        """Hints that were shown: each is shown once in a REPL."""
        self._output_chars = 0

    def open(self, settings: dict[str, Any], context: Any, shared: list[str]) -> None:
        """Set the REPL up; `shared` are the strings of `context` that came by memory file, in order."""
        cell, calls = self.cell, self.calls
        cell.seconds = settings["cell_timeout"]
        self._output_chars = settings["output_chars"]
        calls.memory_mb = settings.get("memory_mb", 0)
        objects = settings.get("message_objects", MESSAGE_OBJECTS)
        calls.outgoing = Outgoing(shared, settings["message_bytes"], objects)
        usage = {"finish": "finish(value)", "context": "context"}
        seed = settings.get("seed", 0)
        self.clock.records = settings.get("records", False)
        here.clock = self.clock
        modules = facades_for(chance.functions(seed))
        if self._restricted:
            known = make_builtins(self._variables, make_import(cell, self._variables, usage, modules))
            name_functions(known)
        else:
            import builtins

            known = dict(vars(builtins))
        known[names.EXIT] = CellExit
        known[names.CHECK] = cell.check
        known[names.ECHO] = self._echo
        known.update(ERRORS, print=make_print(cell))
        known["finish"] = make_finish(cell, calls, self.limiter, settings.get("returns"), self._output_chars)
        for name, doc in settings["functions"]:
            known[name] = make_host_function(calls, name, doc)
            usage[name] = f"await {name}(…)"
        if settings["launcher"]:
            known.update(launch_subagent=make_launcher(calls), subagents=calls.subagents)
            usage.update(subagents="subagents", launch_subagent="await launch_subagent(goal)")
        self._variables["__builtins__"] = self._functions = known
        self._variables["context"] = context
        self._variables["asyncio"] = known["__import__"]("asyncio")

    def _echo(self, value: Any) -> None:
        if value is not None:
            self._variables["_"] = value
            self.cell.output.write(repr(value) + "\n")

    def run_cell(self, source: str, log: Sequence[float] | None = None, *, complete: bool = True) -> Report:
        """Run one cell; with the log of one, which ran to its end or not, replay it."""
        cell = self.cell
        cell.begin(self._output_chars)
        self.clock.begin(log, complete=complete)
        cpu = time.process_time()
        try:
            self.limiter.start(cell.seconds, cpu)
            report = self._report(source)
        finally:
            used = self._stop()
            cell.end()
        return Report(*report, cell.elapsed, used - cpu)

    def _stop(self) -> float:
        """Stop the limiter; CPU that the process has used."""
        while True:
            try:
                used = time.process_time()
                self.limiter.stop(used)
                return used
            except CellExit:  # struck once more just before it was stopped
                continue

    def _report(self, source: str) -> tuple[str, str, str | None, str | None, list[str], list[str]]:
        """Everything of a cell, its end included: what it leaves behind is let go of before this returns.

        The fields of its `Report`, without the times.
        """
        cell, calls = self.cell, self.calls
        if self._collecting:  # what these cells let go of is really freed
            self._collecting -= 1
            gc.collect()
        status, error = self._take_in_and_run(source)
        self.limiter.relax()
        self._show_failures()
        self._show_hints()
        cell.over = True
        self.clock.end(timed_out=status == "timeout")
        if cell.finished:
            status, error = ("finished" if cell.refused is None else "ok"), None
        report = (
            status,
            _text(cell.output.value()) or "",
            _text(error),
            _text(cell.refused),
            calls.unawaited,
            calls.under_way,
        )
        calls.let_go()
        self._error = None
        cell.output = CutText(0)
        return report

    def _take_in_and_run(self, source: str) -> tuple[str, str | None]:
        try:
            if self.clock.diverged is not None:
                raise self.clock.diverge(self.clock.diverged)
            self.take_in_arrived()
        except Diverged as problem:
            return "error", describe(problem.with_traceback(None), self._output_chars)
        return self._compile_and_run(source)

    def _compile_and_run(self, source: str) -> tuple[str, str | None]:
        name = cell_name(self.cell.number)
        remember_source(name, source)
        try:
            code = self._compile(source, name)
        except SyntaxError as problem:
            text, advice = describe(problem.with_traceback(None), self._output_chars), advice_on(problem, source)
            return "error", text if advice is None else f"{text}\n{advice}"
        except (ValueError, RecursionError, MemoryError, OverflowError) as problem:
            return "error", f"SyntaxError: this cell cannot be compiled ({type(problem).__name__}: {problem})"
        except CellExit:
            return "timeout", f"Compiling this cell took more than {self.cell.seconds:g} seconds; write less at once."
        return self._execute(code)

    def _compile(self, source: str, name: str) -> Any:
        try:
            return compile_cell(source, name, restricted=self._restricted, hints=self.cell.hints)
        except MemoryError:  # what the cell is to delete fills it
            if len(source) > _SHORT:
                raise
            self.limiter.relax()
            try:
                return compile_cell(source, name, restricted=self._restricted)
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
            self.cell.ending = exit_ if isinstance(exit_, CellExit) else None
            self._unwind(main)
            self.cell.ending = None
        failed = ended or self._error
        self._error = None
        if self.cell.finished:
            return "ok", None
        if failed is None:
            if self.cell.remaining() > 0:
                return "ok", None
            failed = TimedOut()  # the cell has swallowed it
        try:
            text = describe(failed, self._output_chars)
            text = "\n".join([text, *bring_back(failed, CELL_PREFIX, self._variables, self._functions)])
        finally:
            # Its frames hold the variables of functions that failed, and this one.
            BaseException.with_traceback(failed, None)  # runs no `__setattr__`
        if (
            isinstance(failed, TimedOut) and self.cell.remaining() <= 0
        ):  # not one kept from another cell and raised again
            return (
                "timeout",
                f"{text}\nThe cell was stopped after {self.cell.seconds:g} seconds; its variables are kept.",
            )
        if isinstance(failed, MemoryError):
            self._collecting = _COLLECTIONS
            return "memory", f"{text}\nThe memory limit was reached; delete large variables to go on."
        return "error", text

    async def _main(self, code: Any) -> None:
        try:
            await self._settle()  # tasks whose reply arrived between the cells go on first
            if code.co_flags & inspect.CO_COROUTINE:
                await _Body(eval(code, self._variables), self.cell)
            else:
                exec(code, self._variables)
        except (CellExit, Disconnected):
            raise
        except BaseException as error:
            self.limiter.relax()
            self._error = error
        await self._settle()  # new tasks get to start their calls

    async def _settle(self) -> None:
        for _ in range(_SETTLING):
            if not self.loop.busy:
                break
            await asyncio.sleep(0)

    def _show_failures(self) -> None:
        """Print the exceptions of background tasks that nobody has looked at."""
        failures, unlisted = self.loop.take_failures()
        for failure in failures:
            self.cell.output.write(f"Background task failed:\n{describe(failure, self._output_chars)}\n")
            BaseException.with_traceback(failure, None)
        if unlisted:
            self.cell.output.write(f"… and {unlisted:,} more background tasks failed.\n")

    def _show_hints(self) -> None:
        """Print the hints on the form of the code, each once in a REPL."""
        if not self.cell.hints:
            return
        hints = [hint for hint in dict.fromkeys(self.cell.hints) if hint not in self._hinted]
        self.cell.hints = []
        if not hints or len(self._hinted) >= _MOST_HINTS:
            return
        self._hinted.update(hints)
        printed = self.cell.output.value()
        between = "\n" if printed and not printed.endswith("\n") else ""
        self.cell.output.write(between + "".join(f"{hint}\n" for hint in hints))

    def _unwind(self, main: asyncio.Task[None]) -> None:
        """Let go of what the cell was doing; whatever clings on is interrupted again by the limiter."""
        main.cancel()
        self.cell.overdue = False
        for _ in range(_UNWINDING):
            try:
                self.loop.stop()  # beforehand: one turn of the loop, and nothing left in its queue
                self.loop.run_forever()
            except Disconnected:
                raise
            except BaseException:  # another task, say, that raised SystemExit
                continue
        if main.done() and not main.cancelled():
            main.exception()


def _text(text: str | None) -> str | None:
    """Text that can be sent: what is no valid Unicode, spelt out."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


class _Body:
    """Awaits the coroutine of a cell. When the cell is ended while it waits, the coroutine gets that exception instead of a
    cancellation, which `except BaseException` could catch.
    """

    def __init__(self, coroutine: Any, cell: Cell) -> None:
        self._coroutine = coroutine
        self._cell = cell

    def __await__(self) -> _Body:
        return self

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> Any:
        return self._coroutine.send(None)

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        ending = self._cell.ending
        return self._coroutine.throw(*error) if ending is None else self._coroutine.throw(ending)

    def close(self) -> None:
        self._coroutine.close()
