"""What the agent's code holds of the world outside: calls of host functions, and sub-agents."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from .errors import LaunchRefused, SubagentError, ToolError
from .fits import misfit

if TYPE_CHECKING:
    import asyncio


class ReturnType(NamedTuple):
    """The type of a sub-agent's result: the JSON schema of its plain value, and how to build the agent's type from it."""

    schema: dict[str, Any]
    build: Callable[[Any], Any]


class Caller(Protocol):
    """Sends calls to the host and waits for the answers."""

    async def perform(self, call: PendingCall) -> Any:
        """Send a call and wait for the answer."""

    async def await_again(self, call: PendingCall) -> Any:
        """The answer of a call that was awaited before."""

    def forget(self, subagent: Subagent) -> None:
        """Take a sub-agent that was refused off the list `subagents`."""


class PendingCall(Coroutine[Any, Any, Any]):
    """A call of a host function: it is sent when it is awaited (or becomes a task), and then only once."""

    __slots__ = ("__weakref__", "_args", "_caller", "_future", "_kwargs", "_name", "_shown", "_steps")

    def __init__(self, caller: Caller, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._caller = caller
        self._name = name
        self._args = args
        self._kwargs = kwargs
        self._future: asyncio.Future[Any] | None = None
        self._steps: Coroutine[Any, Any, Any] | None = None
        self._shown = False
        """Whether the agent's code turned it into text."""

    @property
    def _started(self) -> bool:
        return self._steps is not None

    def _start(self) -> Coroutine[Any, Any, Any]:
        if self._steps is None:
            self._steps = self._caller.perform(self)
            return self._steps
        return self._caller.await_again(self)

    def _settle(self, value: Any, error: Exception | None) -> None:
        """Note the host's answer, whether anybody waits for it or not. Runs no code of the agent's."""

    def _value(self, value: Any) -> Any:
        """The value of `await call`, from the host's answer."""
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
        """Refuse items, which only a result can have."""
        raise TypeError(f"{self._name}(…) is a call, not its result: write `(await {self._name}(…))[…]`")

    def __repr__(self) -> str:
        self._shown = True
        arguments = [repr(a) for a in self._args] + [f"{k}={v!r}" for k, v in self._kwargs.items()]
        text = ", ".join(arguments)
        text = text if len(text) <= 80 else text[:79] + "…"
        return f"<{self._name}({text}), {'started' if self._started else 'not awaited yet'}>"


_UNREAD = object()


class Subagent(PendingCall):
    """A sub-agent: await it for its result; `status` and `result` stay readable afterwards."""

    __slots__ = ("_answer", "_result", "_returns", "_status")

    def __init__(self, caller: Caller, kwargs: dict[str, Any], returns: ReturnType | None) -> None:
        super().__init__(caller, "launch_subagent", (), kwargs)
        self._returns = returns
        self._status = "not started"
        self._answer: Any = _UNREAD
        self._result: Any = None

    @property
    def goal(self) -> str:
        """The goal that it was launched with."""
        goal: str = self._kwargs["goal"]
        return goal

    @property
    def status(self) -> str:
        """`not started`, `running`, `finished`, or how it ended otherwise."""
        return "running" if self._status == "not started" and self._started else self._status

    @property
    def result(self) -> Any:
        """Its result; of one that failed, its partial result; None until then."""
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
            self._caller.forget(self)

    def _value(self, value: Any) -> Any:
        """The result, checked and built once, in the cell that first asks: both may take long or run the agent's code."""
        if self._answer is _UNREAD:
            if self._status == "finished":
                return self._result
            raise self._misfit(self._result)
        if self._returns is not None:
            reason = misfit(self._returns.schema, value)
            if reason is not None:
                self._status, self._result, self._answer = "error", value, _UNREAD
                raise self._misfit(value, reason)
            result = self._returns.build(value)
        else:
            result = value
        self._result, self._answer = result, _UNREAD
        return result

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
