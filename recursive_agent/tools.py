"""Host functions an agent may call: typed Python functions, sync or async."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, overload

import anyio
import anyio.to_thread
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, ValidationError, validate_call

from .errors import ConfigurationError
from .plain import plain
from .returns import describe

F = TypeVar("F", bound=Callable[..., Any])
RESERVED = frozenset({"launch_subagent", "subagents", "finish", "context", "print", "asyncio"})


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Who calls: a tool with a parameter annotated `ToolContext` is given this (agents neither see nor pass it).

    `node` is a path of launch order ("0.2.1" is a child of "0.2"), unique in its run.
    """

    run: str
    node: str
    parent: str | None
    depth: int
    goal: str


@overload
def tool(function: F) -> F: ...
@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[F], F]: ...
def tool(function: Any = None, *, name: str | None = None, description: str | None = None) -> Any:
    """Mark a function as a tool, optionally under another name or description. A bare function works as well."""

    def mark(target: F) -> F:
        target.__dict__["__rao_tool__"] = {"name": name, "description": description}
        return target

    return mark if function is None else mark(function)


class ToolFailed(Exception):
    """A tool refused its arguments or raised; the message is for the agent. Internal."""


class Tool:
    """One host function, ready to be called by agents."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise ConfigurationError(f"tools must be functions, not {function!r}")
        marked: Mapping[str, Any] = getattr(function, "__rao_tool__", {})
        self.name = str(marked.get("name") or getattr(function, "__name__", ""))
        if not self.name.isidentifier() or self.name.startswith("_") or self.name in RESERVED:
            raise ConfigurationError(
                f"{self.name or function!r} cannot be a tool's name; wrap it in a function with a plain, free name or use "
                "@tool(name=...)"
            )
        if not inspect.isroutine(function) and not isinstance(function, partial | type):
            # An instance: what is called is its method.
            described, function = function, function.__call__  # type: ignore[operator]
        else:
            described = function
        self._is_async = inspect.iscoroutinefunction(inspect.unwrap(function))
        try:
            hints = typing.get_type_hints(_underlying(function))
            signature = inspect.signature(function, eval_str=True)
        except (NameError, TypeError):  # names only a type checker sees; pydantic below has the last word
            hints, signature = {}, inspect.signature(function)
        self._context_parameter = next((p for p in signature.parameters if _is_context(hints.get(p))), None)
        # Where the agent gives arguments by position, ours stands among them.
        self._context_position: int | None = None
        if self._context_parameter is not None:
            kind = signature.parameters[self._context_parameter].kind
            if kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
                self._context_position = list(signature.parameters).index(self._context_parameter)
        shown = [p for p in signature.parameters.values() if p.name != self._context_parameter]
        self.signature = f"{self.name}{signature.replace(parameters=shown)}"
        self.description = inspect.cleandoc(marked.get("description") or described.__doc__ or function.__doc__ or "")
        try:
            self._call = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)
        except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
            raise ConfigurationError(f"the tool {self.name} has annotations pydantic cannot read: {error}") from error

    async def call(self, context: ToolContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call with checked arguments; the result is plain data. Sync functions run in a thread.

        Raises ToolFailed with what to tell the agent.
        """
        given = dict(kwargs)
        if self._context_parameter is not None:
            if self._context_parameter in given:
                raise ToolFailed(f"{self.name}() got an unexpected argument {self._context_parameter!r}")
            if self._context_position is not None and len(args) >= self._context_position:
                args = (*args[: self._context_position], context, *args[self._context_position :])
            else:
                given[self._context_parameter] = context
        try:
            if self._is_async:
                result = await self._call(*args, **given)
            else:
                result = await anyio.to_thread.run_sync(partial(self._call, *args, **given), abandon_on_cancel=True)
                if inspect.isawaitable(result):
                    result = await result
            return plain(result)
        except ValidationError as error:
            raise ToolFailed(f"{self.name}(): {describe(error)}; the signature is {self.signature}") from None
        except (Exception, SystemExit) as error:  # sys.exit() in a library must not end the run, nor the program
            raise ToolFailed(f"{self.name}() raised {type(error).__name__}: {error}") from error
        except anyio.get_cancelled_exc_class() as error:
            # Something inside the tool was cancelled, not this call: the agent must not wait for an answer for ever.
            if anyio.get_current_task().has_pending_cancellation():
                raise
            raise ToolFailed(f"{self.name}() was cancelled from within") from error


def _underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, partial):
        function = function.func
    return function


def _is_context(hint: Any) -> bool:
    return hint is ToolContext or ToolContext in typing.get_args(hint)


def tool_set(functions: Iterable[Callable[..., Any]]) -> dict[str, Tool]:
    """Tools by name, in the given order. Raises ConfigurationError for two of one name."""
    tools: dict[str, Tool] = {}
    for function in functions:
        made = Tool(function)
        if made.name in tools:
            raise ConfigurationError(f"two tools are called {made.name}; use @tool(name=...) to tell them apart")
        tools[made.name] = made
    return tools
