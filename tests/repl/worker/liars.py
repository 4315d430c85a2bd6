# ruff: noqa: E501, SIM102 (lists of words)
"""Random calls of everything that cells are offered, with objects that lie: `python -m tests.repl.worker.liars [SEED] [CALLS]`.

Each object of theirs notes what the library hands to its methods, and claims to be equal to everything. Nothing forbidden
may be handed over, nothing that the library compares with its own, and no table of the library may keep one of theirs.
It runs in a process of its own, whose caches are those of a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import operator
import random
import signal
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from recursive_agent.repl.worker import caches, names
from recursive_agent.repl.worker.cell_loop import CellLoop
from recursive_agent.repl.worker.reads import guarded_getattr, is_agents

from .language_lab import Lab, Oracle, in_lab
from .test_language_walk import SEEDS

_PLAIN = frozenset({int, str, float, complex, bytes, bool, type(None), slice, type(...), tuple, list, dict, set})
_HANDED = frozenset(
    ["Match", "Task", "_GatheringFuture", "Future", "traceback", "object", "NotImplementedType", "function", "Field", "GenericAlias", "RegexFlag", "method", "_UnpackGenericAlias", "UnionType", "Decimal", "Fraction", "struct_time", "bytearray", "memoryview", "frozenset", "map"]
)  # fmt: skip
"""What plain Python hands over as well: results of theirs, items of containers, matches, exceptions of `with`."""
_COMPARED = frozenset({"__eq__", "__lt__", "__gt__", "__contains__"})
_WITHOUT = frozenset(
    ["finish", "print", "input", "exit", "quit", "open", "tool", "launch_subagent", "dataclass", "total_ordering", "unique", "abstractmethod", "wraps", "count", "cycle", "repeat", "sleep", "time", "process_time"]
)  # fmt: skip
"""What would not end, or changes their classes."""
_OPERATORS: tuple[Callable[..., Any], ...] = (
    *(operator.or_, operator.and_, operator.xor, operator.add, operator.sub, operator.mul, operator.mod, operator.getitem),
    *(operator.eq, operator.lt, operator.contains, operator.ior, operator.iadd, isinstance, issubclass, format),
)  # fmt: skip
_DEFINED = {
    "__eq__": "True",
    "__lt__": "True",
    "__contains__": "True",
    "__call__": "any",
    "__hash__": "hash",
    "__repr__": "'U'",
    "__str__": "'a'",
}
_LEFT_OUT = frozenset(
    ["__getattr__", "__setattr__", "__delattr__", "__class_getitem__", "__init__", "__new__", "__init_subclass__", "__post_init__", "__dir__", "__get__", "__set__", "__delete__", "__set_name__", "__getitem__", "__iter__", "__next__", "__len__", "__bool__", "__index__", "__int__", "__float__", "__complex__", "__bytes__", "__format__", "__length_hint__"]
)  # fmt: skip
_PROTOCOLS = """
    def __getattr__(self, name): return self
    def __iter__(self): return iter([self, 1, 'a'])
    def __getitem__(self, key): return note('__getitem__', (key,), self)
    def __len__(self): return 2
    def __index__(self): return 1
    def __float__(self): return 1.0
"""


def _class(name: str, base: type | None) -> str:
    lines = [f"class {name}({base.__name__ if base else ''}):"]
    public = [name for name in dir(base) if not name.startswith("_")] if base else []
    for method in [*sorted(names.METHODS - _LEFT_OUT - set(_DEFINED)), *public]:
        lines.append(f"    def {method}(self, *a, **k): return note({method!r}, (*a, *k.values()), self)")
    for method, answer in _DEFINED.items():
        value = {"any": "self", "hash": "hashes()"}.get(answer, answer)
        lines.append(f"    def {method}(self, *a, **k):")
        lines.append(f"        note({method!r}, (*a, *k.values()), self)")
        lines.append(f"        return {value}")
    return "\n".join(lines) + (_PROTOCOLS if base is None else "\n")


_SOURCE = "".join(_class(f"Liar{base.__name__}", base) for base in (str, int, dict, list, bytes)) + _class("Liar", None)


@dataclasses.dataclass
class Report:
    """What is wrong, and how many calls were made."""

    calls: int = 0
    wrong: set[str] = dataclasses.field(default_factory=set)


class Campaign:
    """Random calls in one lab."""

    def __init__(self, lab: Lab, oracle: Oracle, seed: int, report: Report) -> None:
        self._lab, self._oracle, self._report = lab, oracle, report
        self._random = random.Random(seed)
        self._given: list[Any] = []
        self._doing = ""
        self._answers = 0
        self._busy = False
        like = [0, 1, "a", b"a", (), int, str, None, object, tuple, type(None), ..., "%Y", list, dict, typing.Any]
        self._like = [*like, typing.Generic, typing.List[int], typing.Union]  # noqa: UP006
        lab.builtins.update(note=self._note, hashes=lambda: hash(self._random.choice(self._like)))
        lab.run(_SOURCE)
        lab.run(SEEDS)
        self._offers, self._parts = list(self._offered()), list(self._seeded())
        self._tables = {id(table): table for _, table in tables()}

    def _offered(self) -> Iterator[tuple[str, Any]]:
        for name, value in self._lab.offered().items():
            inside = vars(value).items() if type(value).__name__ == "module" else [(name, value)]
            for inner, part in inside:
                if inner not in _WITHOUT and not inner.startswith("_"):
                    yield f"{name}.{inner}", part

    def _seeded(self) -> Iterator[tuple[str, Any]]:
        for seed in self._lab.variables["seeds"]:
            yield f"<{type(seed).__name__}>", seed
            for name in dir(seed):
                with contextlib.suppress(Exception):
                    if name not in _WITHOUT:
                        yield f"<{type(seed).__name__}>.{name}", guarded_getattr(seed, name)

    def _note(self, method: str, given: tuple[Any, ...], liar: Any) -> Any:
        if not self._busy:
            self._busy = True
            try:
                for value in given:
                    self._judge(method, value)
            finally:
                self._busy = False
        self._answers += 1
        if self._answers > 2000:
            raise ValueError("enough")
        answers = [liar, liar, liar, True, 1, "a", (), [], NotImplemented, 0.5, b"a", None]
        return self._random.choice(answers)

    def _judge(self, method: str, value: Any) -> None:
        kind = type(value)
        if is_agents(kind) or any(value is known for known in self._given):
            return
        problem = "a table of the library" if id(value) in self._tables else self._oracle.everything(value)
        if problem is None and method in _COMPARED and (isinstance(value, type) or kind.__module__ == "typing"):
            if kind.__name__ not in _HANDED and not (
                isinstance(value, type) and (value in (int, str) or is_agents(value))
            ):
                problem = f"{value!r}, which the library compares with its own"
        elif problem is None and not isinstance(value, type | BaseException) and kind not in _PLAIN:
            if kind.__name__ not in _HANDED:
                problem = f"a {kind.__name__}"
        if problem is not None:
            self._report.wrong.add(f"{self._doing} hands {problem} to {method}")

    def _argument(self) -> Any:
        made = self._lab.variables
        usual = ["a", "1", 1, 2, b"a", [1, 2], (1, 2), {"a": 1}, int, str, None, 1.5, [], {}, 0, ["a", "b"]]
        liars: list[Callable[[], Any]] = [
            *(made["Liar"], made["Liar"], lambda: made["Liarstr"]("a"), lambda: made["Liarstr"]("%Y")),
            *(lambda: made["Liarint"](1), lambda: made["Liardict"](a=1), lambda: made["Liarlist"]([1])),
            *(lambda: made["Liarbytes"](b"a"), lambda: made["Liar"]),
        ]  # fmt: skip
        return self._random.choice(liars)() if self._random.random() < 0.6 else self._random.choice(usual)

    async def run(self, calls: int) -> None:
        for _ in range(calls):
            self._report.calls += 1
            signal.setitimer(signal.ITIMER_REAL, 1)
            try:
                await self._call()
            except (Exception, asyncio.CancelledError, SystemExit, KeyboardInterrupt):
                pass  # whatever an agent's code may raise
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

    async def _call(self) -> None:
        name, target = self._random.choice(self._offers if self._random.random() < 0.6 else self._parts)
        self._doing, self._answers, self._given = name, 0, [target]
        arguments = [self._argument() for _ in range(self._random.choice([0, 1, 1, 2, 2, 2, 3, 3, 4]))]
        if self._random.random() < 0.15:
            arguments = [self._random.choice([list, tuple])(arguments)]
        self._given += arguments
        if self._random.random() < 0.25 or not callable(target):
            step = self._random.choice(_OPERATORS)
            self._doing = f"{step.__name__} of {name}"
            pair = [target, self._argument()]
            self._given += pair
            self._random.shuffle(pair)
            await self._use(step(*pair))
        else:
            await self._use(target(*arguments))

    async def _use(self, result: Any) -> None:
        if asyncio.iscoroutine(result):
            await asyncio.wait_for(result, 0.001)
        elif hasattr(result, "__next__"):
            for _ in zip(range(5), result, strict=False):
                pass
        elif callable(result) and not isinstance(result, type):
            more = [self._argument() for _ in range(self._random.choice([0, 1, 2]))]
            self._given += more
            result(*more)
        else:
            repr(result)
            hash(result)


def tables() -> Iterator[tuple[str, Any]]:
    """The dicts, lists and sets in variables of the library's modules and classes, by name."""
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if type(module) is types.ModuleType and not name.startswith(("tests", "__main__")):
            for variable, value in list(vars(module).items()):
                for part in [value, *vars(value).values()] if isinstance(value, type) else [value]:
                    if type(part) in (dict, list, set):
                        yield f"{name}.{variable}", part


def kept() -> list[str]:
    """Tables of the library that hold an object of an agent's class among their keys or items; its caches too."""
    found = [name for name, table in tables() if _holds_liar(table)]
    for cached in gc.get_objects():
        if type(cached) is type(functools.lru_cache(len)) and not getattr(cached, "__module__", "").startswith(
            "__main"
        ):
            if any(map(_holds_liar, gc.get_referents(cached))):
                found.append(f"the cache of {cached.__qualname__}")
    return found


def _holds_liar(table: Any) -> bool:
    if type(table) not in (dict, list, set):
        return False
    items = [*table, *table.values()] if type(table) is dict else list(table)
    parts = [part for item in items for part in (item if type(item) is tuple else (item,))]
    return any(is_agents(type(part)) for part in parts)


def campaign(seed: int, calls: int) -> Report:
    """Make so many random calls."""
    report = Report()

    def work(lab: Lab, oracle: Oracle) -> None:
        lab.loop.run_until_complete(Campaign(lab, oracle, seed, report).run(calls))
        report.wrong.update(f"changed: {what}" for what in oracle.changed())
        report.wrong.update(f"kept: {what}" for what in kept())

    asyncio.new_event_loop = CellLoop  # type: ignore[assignment]
    warnings.simplefilter("ignore")
    caches.keep_plain_keys()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    in_lab(work)
    return report


if __name__ == "__main__":
    arguments = [int(text) for text in sys.argv[1:]]
    made = campaign(*[*arguments, *(1, 100_000)[len(arguments) :]])
    print(f"{made.calls} calls")
    print("\n".join(sorted(made.wrong)))
    sys.exit(bool(made.wrong))
