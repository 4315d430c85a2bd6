"""The caller's side of a tree: tools and scorers that fail, and a sandbox that knows whether a cell is at work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from threading import Event
from typing import Any, Self

import anyio

from recursive_agent.repl.base import HostCall, HostRequest, Repl, Sandbox

from .machine import Machine
from .plan import Plan, Step

_caller: ContextVar[WatchedRepl | None] = ContextVar("caller", default=None)


class Odd(BaseException):
    """Nobody's subclass."""


class Shy:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")


class ShyError(Exception):
    """An exception that cannot be shown either."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _round() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


VALUES: dict[str, Callable[[], Any]] = {
    "fine": lambda: {"a": [1, None, "two"]},
    "nan": lambda: float("nan"),
    "huge int": lambda: 10**400,
    "object": object,
    "shy": Shy,
    "deep": lambda: _deep(505),
    "too deep": lambda: _deep(5000),
    "round": _round,
    "set": lambda: {1, 2},
    "generator": lambda: (n for n in range(3)),
    "large": lambda: "z" * 3_000_000,
    "bytes": lambda: b"\xff",
    "surrogate": lambda: "\ud800",
    "exception": lambda: ValueError("as a value"),
    "class": lambda: int,
    "odd keys": lambda: {(1, 2): 3, None: 4, 5: 6},
}
RAISED: dict[str, Callable[[], BaseException]] = {
    "raises": lambda: ValueError("the tool failed"),
    "raises KeyError": lambda: KeyError("missing"),
    "raises shy": ShyError,
    "raises group": lambda: ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    "raises base group": lambda: BaseExceptionGroup("several", [Odd(), ValueError("a")]),
    "raises SystemExit": lambda: SystemExit(3),
    "raises GeneratorExit": GeneratorExit,
    "raises Odd": Odd,
    "raises CancelledError": asyncio.CancelledError,
    "raises StopIteration": lambda: StopIteration(1),
    "raises StopAsyncIteration": StopAsyncIteration,
    "raises TimeoutError": TimeoutError,
    "raises MemoryError": MemoryError,
    "raises RecursionError": RecursionError,
}
TOOLS = (*VALUES, *RAISED, "hangs", "slow", "cancels itself")
WORKS = (*(name for name in RAISED if name != "raises CancelledError"), "fine", "takes a while", "hangs")
SCORES = ("fine", "async", "none", *RAISED, "nan", "two", "text", "shy value", "hangs", "slow", "one raises")


class Application:
    """Tools and scorer of one plan."""

    def __init__(self, plan: Plan, machine: Machine) -> None:
        self._steps: dict[str, Step] = {
            f"{node.name}/{number}": step for node in plan.root.walk() for number, step in enumerate(node.steps)
        }
        self._machine = machine
        self._score = plan.score
        self._scored = 0
        self.hanging = 0
        """Threads of tools that hang: nobody waits for them."""
        self.release = Event()
        """Set when the tree is over: lets threads go that hang."""

    @property
    def tools(self) -> list[Callable[..., Any]]:
        return [self.act, self.work]

    @property
    def scorer(self) -> Callable[[Any], Any] | None:
        return self.score if self._score else None

    async def act(self, place: str) -> Any:
        """Do what the plan says of this place."""
        step = self._steps[place]
        what = step.what
        if what in VALUES:
            return VALUES[what]()
        if what in RAISED:
            raise RAISED[what]()
        match what:
            case "hangs":
                await anyio.sleep_forever()
            case "slow":
                await anyio.sleep(20)
            case "cancels itself":
                task = asyncio.ensure_future(asyncio.sleep(60))
                task.cancel()
                await task
            case _:
                caller = _caller.get()
                await self._machine.strike(place, what, float(step.context), caller.pid if caller else None)
                await anyio.sleep(0)
        return "done"

    def work(self, place: str) -> Any:
        """The same in a thread."""
        what = self._steps[place].what
        if what == "hangs":
            self.hanging += 1
            self.release.wait()
            self.hanging -= 1
        if what == "takes a while":
            time.sleep(0.01)
        if what in RAISED:
            raise RAISED[what]()
        return "done"

    def score(self, node: Any) -> Any:
        self._scored += 1
        what = self._score
        if what in RAISED:
            raise RAISED[what]()
        match what:
            case "fine" | "none":
                return 0.5 if what == "fine" else None
            case "nan" | "two" | "text":
                return {"nan": float("nan"), "two": 2, "text": "good"}[what]
            case "shy value":
                return Shy()
            case "one raises":
                if self._scored == 1:
                    raise Odd
                return True
        return self._score_later(what)

    async def _score_later(self, what: str) -> float:
        if what == "hangs":
            await anyio.sleep_forever()
        await anyio.sleep(20 if what == "slow" else 0)
        return 1.0


class WatchedSandbox:
    """A sandbox that knows whether any of its cells does something without waiting for the host."""

    def __init__(self, inner: Sandbox) -> None:
        self.inner = inner
        self._repls: set[WatchedRepl] = set()

    @property
    def enforced(self) -> frozenset[str]:
        return self.inner.enforced

    @property
    def at_work(self) -> bool:
        return any(repl.running and not repl.outstanding for repl in self._repls)

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.inner.__aexit__(*exc)

    async def open(self, *, call: HostCall, **settings: Any) -> WatchedRepl:
        repl = WatchedRepl(self._repls)

        def watched(request: HostRequest) -> Awaitable[Any]:
            return _Counted(repl, call(request))

        repl.inner = await self.inner.open(call=watched, **settings)
        return repl

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class WatchedRepl:
    """One REPL of a WatchedSandbox."""

    inner: Repl

    def __init__(self, all_of_them: set[WatchedRepl]) -> None:
        self.outstanding = 0
        self.running = False
        self._all = all_of_them
        self._all.add(self)

    @property
    def pid(self) -> int | None:
        return getattr(self.inner, "pid", None)

    async def run(self, code: str) -> Any:
        self.running = True
        try:
            return await self.inner.run(code)
        finally:
            self.running = False

    async def aclose(self) -> None:
        self._all.discard(self)
        await self.inner.aclose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _Counted:
    """An answer that is counted while it is awaited for."""

    def __init__(self, repl: WatchedRepl, answer: Awaitable[Any]) -> None:
        self._repl = repl
        self._answer = answer
        repl.outstanding += 1

    def __await__(self) -> Generator[Any, Any, Any]:
        _caller.set(self._repl)
        try:
            return (yield from self._answer.__await__())
        finally:
            self._repl.outstanding -= 1
