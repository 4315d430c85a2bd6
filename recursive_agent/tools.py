"""Host functions an agent may call: typed Python functions, sync or async."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pickle import PicklingError
from types import FrameType, FunctionType
from typing import Any, TypeVar, overload

import anyio

from .errors import ConfigurationError
from .plain import NotPlain, plain
from .returns import describe, error_text, shortened
from .sizes import is_small_and_plain
from .threads import settled_in_thread

F = TypeVar("F", bound=Callable[..., Any])
MOST_VALUES = 1_000_000
"""Values that one call may give (a thousand characters of text count as one)."""
MOST_ITEMS = 100_000
"""Items of an async generator that are collected."""
_FURTHER = "*"
RESERVED = frozenset({"launch_subagent", "subagents", "finish", "context", "print", "asyncio"})


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The agent that calls a tool. rao passes it to a tool's parameter annotated `ToolContext`; agents neither see nor pass it.

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
def tool(
    *, name: str | None = None, description: str | None = None, repeat: bool | None = None
) -> Callable[[F], F]: ...
def tool(
    function: Any = None, *, name: str | None = None, description: str | None = None, repeat: bool | None = None
) -> Any:
    """Mark a function as a tool, to give it another name or description. Plain functions work without it.

    `repeat` is for runs that are resumed after their process died. An answer that is recorded is never asked for again. With
    `repeat=False` a call that was under way is not made again either: the agent gets a ToolError which says so. With
    `repeat=True` (a search, say) a call is also repeated if its answer was too large to be recorded.
    """

    def mark(target: F) -> F:
        target.__dict__["__rao_tool__"] = {"name": name, "description": description, "repeat": repeat}
        return target

    return mark if function is None else mark(function)


def _signature(name: str, function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # written in C, without saying what it takes
        raise ConfigurationError(
            f"what the tool {name} takes cannot be read: wrap it in a function of your own, with annotations"
        ) from None


def _as_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Something that pydantic takes for a function: a cached one, or one written in C, is called by one of ours."""
    if isinstance(function, partial | type) or inspect.isfunction(function) or inspect.ismethod(function):
        return function

    def call(*args, **kwargs):  # type: ignore[no-untyped-def]
        return function(*args, **kwargs)

    return wraps(function)(call)


class ToolFailed(Exception):
    """A tool refused its arguments or raised; the message is for the agent. Internal."""


class Tool:
    """One host function, ready to be called by agents."""

    def __init__(self, function: Callable[..., Any]) -> None:
        from pydantic import ConfigDict, validate_call  # slow to import, and not every agent has tools

        from .signatures import describe_function

        if not callable(function):
            raise ConfigurationError(f"tools must be functions, not {function!r}")
        self._function = function
        self.origin: str | None = None
        """Name of the MCP server that it comes from, whose words its description is then."""
        marked: Mapping[str, Any] = getattr(function, "__rao_tool__", {})
        self.repeat: bool | None = marked.get("repeat")
        """Whether a call may be made again when a run is resumed; None: if it was under way, and not answered."""
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
            hints = typing.get_type_hints(_underlying(function), include_extras=True)
            signature = inspect.signature(function, eval_str=True)
        except (NameError, TypeError, ValueError):  # names only a type checker sees; pydantic below has the last word
            hints, signature = {}, _signature(self.name, function)
        self._context_parameter = next((p for p in signature.parameters if _is_context(hints.get(p))), None)
        # Where the agent gives arguments by position, ours stands among them.
        self._context_position: int | None = None
        if self._context_parameter is not None:
            kind = signature.parameters[self._context_parameter].kind
            if kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
                self._context_position = list(signature.parameters).index(self._context_parameter)
        taken = [each for each in signature.parameters.values() if each.name != self._context_parameter]
        first, either = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        self._positional = [each.name for each in taken if each.kind in (first, either)]
        self._by_position_only = [each.name for each in taken if each.kind is first]
        self._described = describe_function(self.name, signature, hints, self._context_parameter)
        self.signature = self._described.signature
        self.description = inspect.cleandoc(marked.get("description") or described.__doc__ or function.__doc__ or "")
        try:
            self._call = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(_as_function(function))
        except Exception as error:  # a class of the caller's may raise anything while pydantic reads it
            raise ConfigurationError(
                f"the tool {self.name} has annotations pydantic cannot read: {error_text(error)}"
            ) from error

    @property
    def parameters(self) -> Sequence[str]:
        """A line for each parameter that has more to it than its type: what it means, its bounds."""
        return self._described.parameters

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """Of each class that it takes or gives, by name: lines that say what such a value holds."""
        return self._described.classes

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name; positional ones beyond the named parameters stand under "*".

        Raises ToolFailed where two have one name: then nobody can tell what the call would do.
        """
        arguments = dict(zip(self._positional, args, strict=False))
        if len(args) > len(arguments):
            arguments[_FURTHER] = list(args[len(arguments) :])
        if twice := [name for name in kwargs if name in arguments or name == _FURTHER]:
            raise ToolFailed(f"{self.name}() got multiple values for argument {twice[0]!r:.80}")
        return arguments | dict(kwargs)

    def unnamed(self, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Arguments by name as `call` takes them. Raises ToolFailed where they cannot be put in order."""
        rest = dict(arguments)
        further = rest.pop(_FURTHER, None)
        first = self._by_position_only if further is None else self._positional
        args: list[Any] = []
        for name in first:
            if name not in rest:
                break
            args.append(rest.pop(name))
        if further is not None and (len(args) < len(first) or not isinstance(further, list)):
            raise ToolFailed(f"{self.name}(): arguments under {_FURTHER!r} need all that stand before them")
        return [*args, *(further or ())], rest

    async def call(self, context: ToolContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call with checked arguments; the result is plain data. Sync functions run in a thread.

        Raises ToolFailed with what to tell the agent, whatever the tool raised: that costs this call alone.
        """
        arguments = dict(kwargs)
        if self._context_parameter is not None:
            if self._context_parameter in arguments:
                raise ToolFailed(f"{self.name}() got an unexpected argument {self._context_parameter!r}")
            if self._context_position is not None and len(args) >= self._context_position:
                args = (*args[: self._context_position], context, *args[self._context_position :])
            else:
                arguments[self._context_parameter] = context
        try:
            if self._is_async:
                return await self._answer(await self._call(*args, **arguments))
            owner = ((context.run, context.node), context.run)
            ended = await settled_in_thread(partial(self._in_thread, args, arguments), owner)
            if ended.error is not None:
                raise self._failed(ended.error)
            later = ended.value
            return await self._answer(later.value) if isinstance(later, _Later) else later
        except ToolFailed:
            raise
        except Exception as error:
            raise self._failed(error) from error
        except BaseException as error:
            # sys.exit() in a library, a cancellation from within: the call has failed, and the agent must not wait for an
            # answer for ever. A call that is itself cancelled or thrown away ends as it must.
            if anyio.get_current_task().has_pending_cancellation() or _is_thrown_away(error):
                raise
            raise self._failed(error) from None

    def _in_thread(self, args: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
        value = self._call(*args, **arguments)
        return _Later(value) if inspect.isawaitable(value) or hasattr(type(value), "__aiter__") else self._plain(value)

    async def _answer(self, value: Any) -> Any:
        """What a tool gave in the event loop, as plain data: awaited or collected where it must be."""
        if inspect.isawaitable(value):
            value = await value
        if hasattr(type(value), "__aiter__"):
            value = await self._collected(value)
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value
        if is_small_and_plain(value):
            return self._plain(value)
        # A large value takes its time, and a generator may do anything: not in the event loop.
        ended = await settled_in_thread(partial(self._plain, value))
        if ended.error is not None:
            raise self._failed(ended.error)
        return ended.value

    async def _collected(self, items: AsyncIterable[Any]) -> list[Any]:
        collected: list[Any] = []
        try:
            async for item in items:
                collected.append(item)
                if len(collected) > MOST_ITEMS:
                    raise ToolFailed(f"{self.name}() gave more than {MOST_ITEMS:,} items: ask for fewer")
        finally:
            if (close := getattr(items, "aclose", None)) is not None:
                await close()
        return collected

    def _plain(self, value: Any) -> Any:
        try:
            return plain(value, strict=True, most=MOST_VALUES)
        except NotPlain as error:
            raise ToolFailed(f"what {self.name}() gave cannot be handed to you: {error}") from None

    def _failed(self, error: BaseException) -> ToolFailed:
        from pydantic import ValidationError

        if isinstance(error, ToolFailed):
            return error
        if isinstance(error, ValidationError):
            return ToolFailed(f"{self.name}(): {shortened(describe(error))}; the signature is {self.signature}")
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return ToolFailed(f"{self.name}() was cancelled from within")
        return ToolFailed(f"{self.name}() raised {error_text(error)}")

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled as the function it was made of; everything else is made again."""
        if not _is_importable(self._function) and not _is_pickled_by_value():
            raise PicklingError(
                f"the tool {self.name} cannot be pickled: {self._function!r} has no name in a module that another process "
                "could import; define it with `def` at the top of a module"
            )
        return Tool, (self._function,)

    def __deepcopy__(self, memo: Any) -> Tool:
        return self  # it never changes


class _Later:
    """Something for the event loop to await or collect, on its way out of a thread."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _is_thrown_away(error: BaseException) -> bool:
    """Whether a coroutine is being closed from outside: then GeneratorExit comes from no deeper frame than that of `call`."""
    return isinstance(error, GeneratorExit) and (error.__traceback__ is None or error.__traceback__.tb_next is None)


def _is_importable(function: Any) -> bool:
    """Whether pickle finds it by its name; instances are pickled by what they hold."""
    function = _underlying(function)
    if not isinstance(function, FunctionType):
        return True
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _is_pickled_by_value() -> bool:
    """Whether cloudpickle or dill is at work, which take functions without a name too."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("cloudpickle", "dill", "ray"):
            return True
        frame = frame.f_back
    return False


def _underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, partial):
        function = function.func
    return function


def _is_context(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    return hint is ToolContext or ToolContext in typing.get_args(hint)


def tool_set(functions: Iterable[Callable[..., Any]]) -> dict[str, Tool]:
    """Tools by name, in the given order. Raises ConfigurationError for two of one name."""
    if isinstance(functions, str | Mapping) or not isinstance(functions, Iterable):
        raise ConfigurationError(f"tools must be a list of functions, not {functions!r:.80}: write tools=[...]")
    tools: dict[str, Tool] = {}
    for function in functions:
        entry = Tool(function)
        if entry.name in tools:
            raise ConfigurationError(f"two tools are called {entry.name}; use @tool(name=...) to tell them apart")
        tools[entry.name] = entry
    return tools
