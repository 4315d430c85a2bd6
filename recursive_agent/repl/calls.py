"""What the agent's code holds of the world outside: calls of host functions, sub-agents and their failures."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from .interpreter import Interpreter


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

    __slots__ = ("__weakref__", "_args", "_future", "_interpreter", "_kwargs", "_name", "_steps")

    def __init__(self, interpreter: Interpreter, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._interpreter = interpreter
        self._name = name
        self._args = args
        self._kwargs = kwargs
        self._future: asyncio.Future[Any] | None = None
        self._steps: Coroutine[Any, Any, Any] | None = None

    @property
    def _started(self) -> bool:
        return self._steps is not None

    def _start(self) -> Coroutine[Any, Any, Any]:
        if self._steps is None:
            self._steps = self._interpreter.perform(self)
            return self._steps
        return self._interpreter.await_again(self)

    def _settle(self, value: Any, error: Exception | None) -> Any:
        """Take the host's answer in, whether anybody waits for it or not; the value to give."""
        return value

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

    def __repr__(self) -> str:
        arguments = [repr(a) for a in self._args] + [f"{k}={v!r}" for k, v in self._kwargs.items()]
        text = ", ".join(arguments)
        text = text if len(text) <= 80 else text[:79] + "…"
        return f"<{self._name}({text}), {'started' if self._started else 'not awaited yet'}>"


class Subagent(HostCall):
    """A sub-agent: await it for its result; `status` and `result` stay readable afterwards."""

    __slots__ = ("_build", "_result", "_status")

    def __init__(self, interpreter: Interpreter, kwargs: dict[str, Any], build: Callable[[Any], Any] | None) -> None:
        super().__init__(interpreter, "launch_subagent", (), kwargs)
        self._build = build
        self._status = "not started"
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
        return self._result

    def _settle(self, value: Any, error: Exception | None) -> Any:
        if error is None:
            self._status = "finished"
            self._result = value = self._build(value) if self._build is not None else value
            return value
        self._status = getattr(error, "status", "error")
        self._result = getattr(error, "partial", None)
        if isinstance(error, LaunchRefused):
            self._interpreter.forget(self)
        return None

    def __repr__(self) -> str:
        goal = self.goal if len(self.goal) <= 60 else self.goal[:59] + "…"
        result = "" if self._result is None else f", result={_short(self._result)}"
        return f"<subagent {goal!r}: {self.status}{result}>"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


class _HostFunction:  # as the agent sees it; no Python function, whose globals would be this module's
    __slots__ = ("__doc__", "__name__", "_function")

    def __init__(self, function: Callable[..., HostCall]) -> None:
        self._function = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> HostCall:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<host function {self.__name__}: await {self.__name__}(…)>"


def host_function(function: Callable[..., HostCall]) -> Callable[..., HostCall]:
    """`function` as the agent is to see it: something to call, without a way to our globals."""
    return _HostFunction(function)
