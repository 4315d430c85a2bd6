"""The functions that cells find: `print`, `finish`, `launch_subagent`, functions of the host, `import`."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from . import names
from .calls import PendingCall, Subagent
from .cell import Cell, Limiter
from .dispatch import Dispatcher
from .errors import Finished
from .fits import misfit
from .modules import Facade, import_facade
from .returns import read_returns

_MOST_HINTS = 100
_LAUNCH = "launch_subagent(goal, context=None, returns=None, max_steps=None, max_tokens=None)"
_PRINT = "print(*values, sep=' ', end='\\n', file=None, flush=False)"


class _AgentFunction:  # no docstring: __doc__ is the function's
    __slots__ = ("__doc__", "__name__", "__qualname__", "_function", "_kind", "_usage")

    def __init__(self, function: Callable[..., Any], usage: str, *, kind: str = "function") -> None:
        self._function = function
        self._usage = usage
        self._kind = kind
        self.__name__ = self.__qualname__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._function(*args, **kwargs)
        except TypeError:
            try:
                inspect.signature(self._function).bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{self.__name__}(): {error}; call it as {self._usage}") from None
            raise

    def __repr__(self) -> str:
        return f"<{self._kind} {self.__name__}: {self._usage}>"


_AgentFunction.__name__ = _AgentFunction.__qualname__ = "function"


def agent_function(function: Callable[..., Any], usage: str, *, kind: str = "function") -> Callable[..., Any]:
    """A function as the agent knows it: its name and usage in errors too, and no way to our globals."""
    return _AgentFunction(function, usage, kind=kind)


def name_functions(known: dict[str, Any]) -> None:
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


def make_print(cell: Cell) -> Callable[..., Any]:
    """`print`, into the output of the cell."""
    write = print

    def print_(
        *values: Any, sep: str | None = None, end: str | None = None, file: Any = None, flush: bool = False
    ) -> None:
        """Show values in the observation."""
        write(*values, sep=sep, end=end, file=cell.output if file is None else file)
        cell.stop_if_overdue()

    print_.__name__ = "print"
    return agent_function(print_, _PRINT)


def make_finish(
    cell: Cell, calls: Dispatcher, limiter: Limiter, returns: Mapping[str, Any] | None, most_chars: int
) -> Callable[..., Any]:
    """`finish`. A value that does not fit `returns` is refused, for a reason of at most `most_chars` characters."""

    def finish(value: Any = None) -> NoReturn:
        """End the agent, with `value` as its result."""
        if cell.finished or cell.over:  # the first one counts
            raise Finished
        frame = calls.outgoing.frame("finish", ["finish", value])
        calls.refuse_unawaited(frame)
        if returns is not None:
            reason = misfit(returns, calls.outgoing.plain(frame)[1])
            cell.refused = None if reason is None else reason[:most_chars]
        if cell.finished or cell.over:  # by what the value ran while it was packed
            raise Finished
        cell.finished = True
        if cell.refused is None:
            calls.send(frame)
        limiter.hurry()
        raise Finished

    return agent_function(finish, "finish(value)")


def make_host_function(calls: Dispatcher, name: str, doc: str) -> Callable[..., Any]:
    """A function of the host."""

    def function(*args: Any, **kwargs: Any) -> PendingCall:
        return calls.register(PendingCall(calls, name, args, kwargs))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return agent_function(function, f"await {name}(…)", kind="host function")


def make_launcher(calls: Dispatcher) -> Callable[..., Any]:
    """`launch_subagent`."""

    def launch_subagent(
        goal: str,
        context: Any = None,
        returns: Any = None,
        max_steps: int | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
    ) -> PendingCall:
        """Start a sub-agent on `goal`; await the call for its result."""
        if not isinstance(goal, str):
            raise TypeError(f"launch_subagent: goal must be text, not {type(goal).__name__}")
        return_type = None if returns is None else read_returns(returns)
        kwargs = {
            "goal": goal,
            "context": context,
            "returns": return_type and return_type.schema,
            "max_steps": max_steps,
            "max_tokens": max_tokens,
        }
        if model is not None:  # a run with one model has its calls recorded as before
            kwargs["model"] = model
        return calls.register(Subagent(calls, kwargs, return_type))

    return agent_function(launch_subagent, _LAUNCH, kind="host function")


def make_import(
    cell: Cell, variables: dict[str, Any], usage: Mapping[str, str], modules: Mapping[str, Facade]
) -> Callable[..., Any]:
    """`__import__` of the agent's code. `usage` says how to use the names that are there without an import.

    To import one of those does no harm: it succeeds, with a hint.
    """

    def known(name: str) -> Any:
        return variables[name] if name in variables else variables["__builtins__"][name]

    def importer(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        try:
            return import_facade(name, globals, locals, fromlist, level, modules)
        except ImportError:
            top = name.partition(".")[0]
            present = [part for part in fromlist or (top,) if part in usage]
            rest = [part for part in fromlist or () if part not in usage]
            if not present and top not in usage:
                raise
            hint = "; ".join(
                f"{part} is there already, without an import: write {usage[part]}" for part in present or [top]
            )
            if level or not present or (rest and name not in modules):
                raise ImportError(hint, name=name) from None
            found = {part: known(part) for part in present}
            found.update({part: getattr(import_facade(name, None, None, [part], 0, modules), part) for part in rest})
            if len(cell.hints) < _MOST_HINTS:
                cell.hints.append(f"{hint}.")
            return found[top] if not fromlist else Facade(name, None, found)

    return importer
