"""What the agent's code holds of the world outside: calls of host functions, sub-agents and their failures."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, NoReturn

from .fits import misfit

if TYPE_CHECKING:
    import asyncio

    from .interpreter import Interpreter
    from .returns import Returned


class CellExit(SystemExit):
    """Ends a cell at once. A SystemExit, because asyncio lets those out of tasks; handlers in cells let it pass."""


class Finished(CellExit):
    """`finish` was called."""


class TimedOut(CellExit):
    """The cell reached its limit of time."""


class Disconnected(SystemExit):
    """The host has closed the connection."""


class SubagentError(Exception):
    """A sub-agent ended without a result: `status` says how, `partial` is what it leaves."""

    def __init__(self, status: str = "error", message: str = "", partial: Any = None) -> None:
        super().__init__(message or status)
        self.status = status
        self.message = message
        self.partial = partial


class LaunchRefused(SubagentError):
    """A sub-agent was not started: a limit stands against it."""

    def __init__(self, status: str = "refused", message: str = "", partial: Any = None) -> None:
        super().__init__(status, message, partial)


class ToolError(Exception):
    """A tool failed; the message says why."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


ERRORS: dict[str, type[Exception]] = {
    "SubagentError": SubagentError,
    "LaunchRefused": LaunchRefused,
    "ToolError": ToolError,
}
for _shown in (*ERRORS.values(), TimedOut, Finished):
    _shown.__module__ = "builtins"  # tracebacks show the bare name


def make_error(kind: str, message: str, data: dict[str, Any]) -> Exception:
    """The exception that the host asks to be raised."""
    cls = ERRORS.get(kind, ToolError)
    if issubclass(cls, SubagentError):
        default = "refused" if cls is LaunchRefused else "error"
        error: Exception = cls(str(data.get("status", default)), message, data.get("partial"))
    else:
        error = cls(message)
    for name, value in data.items():
        if not name.startswith("_") and name not in ("status", "partial", "message", "args"):
            setattr(error, name, value)
    return error


class HostCall(Coroutine[Any, Any, Any]):
    """A call of a host function: it happens when it is awaited (or made a task), and then only once."""

    __slots__ = ("__weakref__", "_args", "_future", "_interpreter", "_kwargs", "_name", "_shown", "_steps")

    def __init__(self, interpreter: Interpreter, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._interpreter = interpreter
        self._name = name
        self._args = args
        self._kwargs = kwargs
        self._future: asyncio.Future[Any] | None = None
        self._steps: Coroutine[Any, Any, Any] | None = None
        self._shown = False
        """Whether it was made into text."""

    @property
    def _started(self) -> bool:
        return self._steps is not None

    def _start(self) -> Coroutine[Any, Any, Any]:
        if self._steps is None:
            self._steps = self._interpreter.perform(self)
            return self._steps
        return self._interpreter.await_again(self)

    def _settle(self, value: Any, error: Exception | None) -> None:
        """Note the host's answer, whether anybody waits for it or not. Runs no code of the agent's."""

    def _value(self, value: Any) -> Any:
        """What the call gives to whoever awaits it, from the host's answer."""
        return value

    def _failure(self, message: str) -> Exception:
        """The exception for an answer that could not be received."""
        return ToolError(message)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._start().__await__()

    def send(self, value: Any) -> Any:
        """Drive the call as asyncio's tasks do."""
        return (self._steps or self._start()).send(value)

    def throw(self, *error: Any) -> Any:
        """Drive the call as asyncio's tasks do."""
        return (self._steps or self._start()).throw(*error)

    def close(self) -> None:
        """Give the call up."""
        if self._steps is not None:
            self._steps.close()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{self._name}(…) is a call, not its result, and has no {name!r}: write `await {self._name}(…)`"
        )

    def __getitem__(self, key: object) -> NoReturn:
        """Refuse what only a result could have."""
        raise TypeError(f"{self._name}(…) is a call, not its result: write `(await {self._name}(…))[…]`")

    def __repr__(self) -> str:
        self._shown = True
        arguments = [repr(a) for a in self._args] + [f"{k}={v!r}" for k, v in self._kwargs.items()]
        text = ", ".join(arguments)
        text = text if len(text) <= 80 else text[:79] + "…"
        return f"<{self._name}({text}), {'started' if self._started else 'not awaited yet'}>"


_UNREAD = object()


class Subagent(HostCall):
    """A sub-agent: await it for its result; `status` and `result` stay readable afterwards."""

    __slots__ = ("_answer", "_result", "_returns", "_status")

    def __init__(self, interpreter: Interpreter, kwargs: dict[str, Any], returns: Returned | None) -> None:
        super().__init__(interpreter, "launch_subagent", (), kwargs)
        self._returns = returns
        self._status = "not started"
        self._answer: Any = _UNREAD
        self._result: Any = None

    @property
    def goal(self) -> str:
        """What it was asked for."""
        goal: str = self._kwargs["goal"]
        return goal

    @property
    def status(self) -> str:
        """`not started`, `running`, `finished`, or how it ended otherwise."""
        return "running" if self._status == "not started" and self._started else self._status

    @property
    def result(self) -> Any:
        """What it gave; of one that failed, what it leaves; None until then."""
        if self._answer is not _UNREAD:
            with contextlib.suppress(SubagentError):  # `status` says it
                self._value(self._answer)
        return self._result

    def _settle(self, value: Any, error: Exception | None) -> None:
        if error is None:
            self._status = "finished"
            self._answer = value
            self._kwargs = {"goal": self.goal}  # the context is the child's now
            return
        self._status = getattr(error, "status", "error")
        self._result = getattr(error, "partial", None)
        if isinstance(error, LaunchRefused):
            self._interpreter.forget(self)

    def _value(self, value: Any) -> Any:
        """The result, checked and made once, in the cell that first asks: both may take long or run the agent's code."""
        if self._answer is _UNREAD:
            if self._status == "finished":
                return self._result
            raise self._misfit(self._result)
        if self._returns is not None:
            reason = misfit(self._returns.schema, value)
            if reason is not None:
                self._status, self._result, self._answer = "error", value, _UNREAD
                raise self._misfit(value, reason)
            made = self._returns.build(value)
        else:
            made = value
        self._result, self._answer = made, _UNREAD
        return made

    def _misfit(self, value: Any, reason: str = "it is not of the type asked for") -> SubagentError:
        return SubagentError("error", f"the result of the sub-agent does not fit returns: {reason}", value)

    def _failure(self, message: str) -> Exception:
        return SubagentError("error", message)

    def __repr__(self) -> str:
        self._shown = True
        goal = self.goal if len(self.goal) <= 60 else self.goal[:59] + "…"
        result = self.result
        shown = "" if result is None else f", result={_short(result)}"
        return f"<subagent {goal!r}: {self.status}{shown}>"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


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
