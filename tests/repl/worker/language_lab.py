"""Cells in this very process, without a worker, and an oracle that says what they must never hold."""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import decimal
import inspect
import selectors
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from recursive_agent.repl.worker import names
from recursive_agent.repl.worker.calls import PendingCall, Subagent
from recursive_agent.repl.worker.errors import ERRORS, CellExit
from recursive_agent.repl.worker.functions import agent_function
from recursive_agent.repl.worker.guards import make_builtins
from recursive_agent.repl.worker.language import compile_cell
from recursive_agent.repl.worker.modules import MODULES, Facade, import_facade
from recursive_agent.repl.worker.reads import SafeType, is_agents


class Host:
    """Stands for the interpreter behind the functions that a cell may call."""

    def __init__(self) -> None:
        self.printed: list[str] = []

    def print(self, *values: Any, file: Any = None, **_: Any) -> None:
        self.printed.append(" ".join(map(str, values)))

    def finish(self, value: Any = None) -> None:
        raise CellExit

    def echo(self, value: Any) -> None:
        self.printed.append(repr(value))

    def check(self) -> None:
        pass


class Lab:
    """The variables of one REPL. `run` runs a cell; raises what the cell raises."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.host = host = Host()
        self.variables: dict[str, Any] = {"__name__": "__main__"}
        known = make_builtins(self.variables, import_facade)
        known.update(ERRORS, print=host.print, finish=host.finish)
        known.update({names.EXIT: CellExit, names.CHECK: host.check, names.ECHO: host.echo})

        def tool(*args: Any, **kwargs: Any) -> PendingCall:
            return PendingCall(host, "tool", args, kwargs)  # type: ignore[arg-type]

        def launch_subagent(goal: str) -> Subagent:
            return Subagent(host, {"goal": goal}, None)  # type: ignore[arg-type]

        known.update(
            tool=agent_function(tool, "await tool(…)"),
            launch_subagent=agent_function(launch_subagent, "await launch_subagent(goal)"),
            subagents=[],
        )
        self.variables.update(__builtins__=known, asyncio=import_facade("asyncio"))
        self.builtins = known

    def run(self, source: str, name: str = "<cell 1>") -> None:
        """Run a cell and let tasks that it made take a few steps."""
        code = compile_cell(source, name)
        self.loop.run_until_complete(self._body(code))

    async def _body(self, code: types.CodeType) -> None:
        if code.co_flags & inspect.CO_COROUTINE:
            await asyncio.wait_for(eval(code, self.variables), 0.05)
        else:
            exec(code, self.variables)
        await asyncio.sleep(0)

    def offered(self) -> dict[str, Any]:
        """Everything that a cell can name at its start."""
        found = {name: value for name, value in self.builtins.items() if not names.is_special(name)}
        for module in MODULES.values():
            found[module.__dict__["__name__"]] = module
        return found


def _classes_of(*examples: Any) -> frozenset[int]:
    return frozenset(id(example) for example in examples)


_METACLASSES = type
_CONSTRUCTORS = _classes_of(
    types.FunctionType, types.MethodType, types.CodeType, types.ModuleType, types.CellType, types.BuiltinFunctionType,
    types.GeneratorType, types.CoroutineType, types.TracebackType, types.FrameType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.MethodWrapperType, types.GetSetDescriptorType, types.MappingProxyType,
    asyncio.Task, asyncio.Future, PendingCall, Subagent, Host, Facade, weakref.ref,
)  # fmt: skip
_FUNCTIONS = _classes_of(
    builtins.__import__, eval, exec, compile, open, getattr, setattr, delattr, vars, globals, locals, input, dir,
    breakpoint, object.__getattribute__, object.__setattr__, object.__reduce_ex__, sys.exit, sys._getframe,
)  # fmt: skip
_KINDS = (
    types.FrameType,
    types.CodeType,
    types.ModuleType,
    types.CellType,
    types.MappingProxyType,
    asyncio.AbstractEventLoop,
    asyncio.Handle,
    selectors.BaseSelector,
    contextvars.Context,
    Host,
)


class Oracle:
    """Recognises what no cell may ever hold."""

    def __init__(self, lab: Lab) -> None:
        self._namespaces = {
            id(vars(module)) for module in list(sys.modules.values()) if isinstance(module, types.ModuleType)
        }
        self._namespaces |= {id(lab.builtins), id(lab.variables)}
        self._namespaces |= {id(vars(module)) for module in MODULES.values()}
        self._classes = [cls for cls in _all_classes() if not is_agents(cls)]
        self._before = [_state(cls) for cls in self._classes]

    def names(self, value: Any) -> str | None:
        """What is wrong with holding `value`; None if nothing is."""
        if isinstance(value, _KINDS):
            return type(value).__name__
        if id(value) in _CONSTRUCTORS:
            return f"the class {value.__name__}"
        if isinstance(value, type) and issubclass(value, _METACLASSES) and value is not SafeType:
            return "a metaclass"
        if id(value) in _FUNCTIONS:
            return f"the function {value.__name__}"
        if type(value) is dict and id(value) in self._namespaces:
            return "the namespace of a module"
        return None

    def everything(self, value: Any, depth: int = 2) -> str | None:
        """What is wrong with holding `value` or what it plainly contains."""
        problem = self.names(value)
        if problem is not None or depth == 0:
            return problem
        for part in _parts(value):
            problem = self.everything(part, depth - 1)
            if problem is not None:
                return f"{problem} in a {type(value).__name__}"
        return None

    def changed(self) -> list[str]:
        """Classes of Python's, of the library's and of ours that are no longer as they were."""
        return [
            f"{cls.__module__}.{cls.__qualname__}: {sorted(set(_state(cls).items()) ^ set(before.items()))}"
            for cls, before in zip(self._classes, self._before, strict=True)
            if _state(cls) != before
        ]


def _state(cls: type) -> dict[str, int]:
    state = {name: id(value) for name, value in type.__dict__["__dict__"].__get__(cls).items()}
    for name in ("__doc__", "__abstractmethods__", "__annotations__"):  # made when they are asked for
        state.pop(name, None)
    return state


def _all_classes() -> list[type]:
    found: dict[int, type] = {}
    todo: list[type] = [object]
    while todo:
        cls = todo.pop()
        if id(cls) not in found:
            found[id(cls)] = cls
            todo.extend(type.__subclasses__(cls))
    return list(found.values())


def _parts(value: Any) -> Iterator[Any]:
    cls = type(value)
    if cls in (list, tuple, set, frozenset):
        yield from list(value)[:20]
    elif cls is dict:
        for key, part in list(value.items())[:20]:
            yield key
            yield part
    elif is_agents(cls):
        try:
            yield from list(object.__getattribute__(value, "__dict__").values())[:20]
        except AttributeError:
            return


def in_lab(work: Callable[[Lab, Oracle], None]) -> None:
    """Do `work` on an event loop of its own, with a decimal context of its own."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    try:
        with decimal.localcontext():
            lab = Lab(loop)
            work(lab, Oracle(lab))
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
