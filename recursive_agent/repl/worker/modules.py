"""The modules that agents may import: new module objects that hold allow-listed names, never the real modules."""

from __future__ import annotations

import _strptime  # type: ignore[import-not-found]  # noqa: F401 (strptime looks for it in sys.modules)
import abc
import asyncio
import base64
import bisect
import calendar
import cmath
import collections
import collections.abc
import contextlib
import copy
import csv
import dataclasses
import datetime
import decimal
import difflib
import enum
import fractions
import functools
import hashlib
import heapq
import html
import io
import itertools
import json
import math
import numbers
import operator
import pprint
import random
import re
import statistics
import string
import sys
import textwrap
import time
import types
import typing
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from . import chance, classes, copying, ordered, regular, rows, times
from .classes import allow_bases, as_function
from .exact import exact, plain_keywords, takes_exact
from .reads import guarded_getattr, open_up, reveal

# -- replacements for functions that would give away more than they should --------------------------------------------


def _run(main: Any, **_: Any) -> NoReturn:
    if asyncio.iscoroutine(main):
        main.close()
    raise RuntimeError("an event loop is already running here: write `await main()` at the top level of the cell")


def _dumps(obj: Any, **options: Any) -> str:
    if "cls" in plain_keywords(options):
        raise TypeError("json.dumps takes default= here, not cls=")
    return json.dumps(obj, **options)


def _loads(text: str | bytes, **options: Any) -> Any:
    if "cls" in plain_keywords(options):
        raise TypeError("json.loads takes object_hook= here, not cls=")
    return json.loads(exact(text), **options)


def _create_task(coro: Any, *, name: str | None = None) -> Any:
    return asyncio.create_task(coro, name=name)


def _ensure_future(awaitable: Any) -> Any:
    return asyncio.ensure_future(awaitable)


async def _wait(fs: Any, *, timeout: Any = None, return_when: Any = asyncio.ALL_COMPLETED) -> Any:
    """asyncio.wait of tasks alone: it would add its callback to whatever has a method of that name."""
    tasks = list(fs)
    for task in tasks:
        if not isinstance(task, asyncio.Future):
            raise TypeError(f"asyncio.wait takes tasks, not {type(task).__name__}: write asyncio.create_task(...)")
    return await asyncio.wait(tasks, timeout=timeout, return_when=exact(return_when))


def _as_completed(fs: Any, *, timeout: Any = None) -> Any:
    """asyncio.as_completed, which starts in the order given: asyncio itself goes by their addresses."""
    if asyncio.isfuture(fs) or asyncio.iscoroutine(fs):
        raise TypeError(f"expect an iterable of futures, not {type(fs).__name__}")
    each = {id(one): one for one in list(fs)}
    return asyncio.as_completed([asyncio.ensure_future(one) for one in each.values()], timeout=timeout)


def _lru_cache(maxsize: Any = 128, typed: bool = False) -> Any:
    if callable(maxsize):
        return functools.lru_cache()(as_function(maxsize))
    decorate = functools.lru_cache(maxsize, bool(typed))
    return lambda function: decorate(as_function(function))


def _cache(function: Any, /) -> Any:
    return functools.lru_cache(None)(as_function(function))


class _ContextManager(contextlib._GeneratorContextManager[Any]):
    """One that decorates functions alone: it gives what it decorates all attributes of the original."""

    def __call__(self, function: Any) -> Any:
        return super().__call__(as_function(function))


class _AsyncContextManager(contextlib._AsyncGeneratorContextManager[Any]):
    def __call__(self, function: Any) -> Any:
        return super().__call__(as_function(function))


def _makes(kind: Any, function: Any) -> Any:
    function = as_function(function)

    @functools.wraps(function)
    def helper(*args: Any, **kwargs: Any) -> Any:
        return kind(function, args, kwargs)

    return helper


def _contextmanager(function: Any, /) -> Any:
    return _makes(_ContextManager, function)


def _asynccontextmanager(function: Any, /) -> Any:
    return _makes(_AsyncContextManager, function)


class _Annotated:
    """typing.Annotated, whose aliases cannot be called: one sets an attribute on whatever its function gives back."""

    __slots__ = ()

    def __getitem__(self, parts: Any) -> Any:
        if type(parts) is not tuple or len(parts) < 2:
            raise TypeError("Annotated[...] takes a type and at least one annotation")
        check: Any = typing._type_check  # type: ignore[attr-defined]
        return _Alias(check(parts[0], "Annotated[t, ...]: t must be a type.", allow_special_forms=True), parts[1:])

    def __repr__(self) -> str:
        return "typing.Annotated"


class _Alias(typing._AnnotatedAlias, _root=True):  # type: ignore[misc, name-defined, call-arg]
    def copy_with(self, params: Any) -> Any:
        return _Alias(params[0], self.__metadata__)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("an annotated type cannot be called: call the type itself")


def _overload(function: Any, /) -> Any:
    return function


def _attrgetter(*names: str) -> Callable[[Any], Any]:
    paths = [name.split(".") for name in names if type(name) is str]
    if len(paths) != len(names) or not paths:
        raise TypeError("attrgetter takes names of attributes")

    def get(value: Any) -> Any:
        found = [functools.reduce(guarded_getattr, path, value) for path in paths]
        return found[0] if len(found) == 1 else tuple(found)

    return get


def _methodcaller(name: str, /, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    return lambda value: guarded_getattr(value, name)(*args, **kwargs)


# -- the lists -------------------------------------------------------------------------------------------------------

_ENUMS = (classes.Enum, classes.IntEnum, classes.StrEnum, classes.Flag, classes.IntFlag)

_ALLOWED: dict[types.ModuleType, str] = {
    abc: "ABC",
    asyncio: "gather sleep wait_for shield timeout timeout_at TaskGroup Queue PriorityQueue LifoQueue "
    " QueueEmpty QueueFull QueueShutDown Lock Event Condition Semaphore BoundedSemaphore Barrier TimeoutError "
    "CancelledError InvalidStateError FIRST_COMPLETED FIRST_EXCEPTION ALL_COMPLETED iscoroutine iscoroutinefunction",
    base64: "b64encode b64decode urlsafe_b64encode urlsafe_b64decode b32encode b32decode b16encode b16decode b85encode "
    "b85decode a85encode a85decode",
    bisect: "bisect bisect_left bisect_right insort insort_left insort_right",
    calendar: "monthrange isleap leapdays weekday timegm day_name day_abbr month_name month_abbr MONDAY SUNDAY",
    collections: "ChainMap Counter UserDict UserList defaultdict deque",
    collections.abc: "Iterable Iterator Sequence MutableSequence Mapping MutableMapping Set MutableSet Callable Hashable "
    "Sized Container Collection Generator Awaitable Coroutine AsyncIterator AsyncIterable AsyncGenerator",
    contextlib: "suppress nullcontext closing aclosing ExitStack AsyncExitStack",
    copy: "Error",
    csv: "writer DictWriter QUOTE_ALL QUOTE_MINIMAL QUOTE_NONE QUOTE_NONNUMERIC Error",
    dataclasses: "field is_dataclass FrozenInstanceError KW_ONLY MISSING InitVar",
    datetime: "date datetime time timedelta timezone tzinfo UTC MINYEAR MAXYEAR",
    decimal: "Decimal getcontext setcontext localcontext Context ROUND_HALF_UP ROUND_HALF_EVEN ROUND_HALF_DOWN ROUND_UP "
    "ROUND_DOWN ROUND_CEILING ROUND_FLOOR DecimalException InvalidOperation DivisionByZero Inexact Overflow Underflow",
    difflib: "SequenceMatcher get_close_matches ndiff unified_diff context_diff",
    enum: "auto unique",
    fractions: "Fraction",
    functools: "partial reduce cached_property cmp_to_key",
    hashlib: "md5 sha1 sha224 sha256 sha384 sha512 sha3_256 sha3_512 blake2b blake2s",
    heapq: "heappush heappop heapify heapreplace heappushpop nlargest nsmallest merge",
    html: "escape unescape",
    io: "StringIO BytesIO",
    itertools: "accumulate batched chain combinations combinations_with_replacement compress count cycle dropwhile "
    "filterfalse groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest",
    json: "JSONDecodeError",
    numbers: "Number Complex Real Rational Integral",
    operator: "add sub mul truediv floordiv mod neg pos pow abs and_ or_ xor not_ invert lshift rshift eq ne lt le gt ge "
    "truth is_ is_not index contains countOf indexOf concat getitem itemgetter matmul",
    pprint: "pformat",
    random: chance.NAMES,
    re: "error Pattern Match",
    statistics: "mean fmean geometric_mean harmonic_mean median median_low median_high median_grouped mode multimode pstdev "
    "pvariance stdev variance quantiles covariance correlation linear_regression NormalDist StatisticsError",
    string: "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits punctuation printable whitespace "
    "capwords",
    textwrap: "wrap fill shorten dedent indent",
    time: "time time_ns monotonic perf_counter process_time sleep strftime strptime gmtime localtime mktime asctime ctime",
    types: "NoneType",
    typing: "Any Optional Union Literal List Dict Set FrozenSet Tuple Type Callable Iterable Iterator Sequence Mapping "
    "MutableMapping Awaitable Coroutine Generator AsyncIterator AsyncGenerator TypeVar Generic "
    "Final ClassVar NoReturn Never Self TypeAlias Required NotRequired Hashable Sized Counter Deque DefaultDict "
    "Text cast",
    unicodedata: "name lookup normalize category numeric decimal digit bidirectional combining east_asian_width",
}
_ALL_PUBLIC = (math, cmath)

_EXACT: dict[types.ModuleType, str] = {
    base64: _ALLOWED[base64],
    calendar: "monthrange isleap leapdays weekday timegm",
    html: _ALLOWED[html],
    string: "capwords",
}
"""Functions of modules that have tables of their own, which methods of an agent's class are not to get at."""

_OURS: dict[str, dict[str, Any]] = {
    "abc": {"abstractmethod": classes.abstractmethod},
    "asyncio": {
        "run": _run,
        "wait": _wait,
        "as_completed": _as_completed,
        "create_task": _create_task,
        "ensure_future": _ensure_future,
    },
    "collections": {"namedtuple": classes.namedtuple, "OrderedDict": ordered.OrderedDict},
    "contextlib": {"contextmanager": _contextmanager, "asynccontextmanager": _asynccontextmanager},
    "csv": {"reader": rows.reader, "DictReader": rows.DictReader},
    "copy": {"copy": copying.copy, "deepcopy": copying.deepcopy},
    "dataclasses": {
        "dataclass": classes.dataclass,
        "replace": classes.replace,
        "fields": copying.fields,
        "asdict": copying.asdict,
        "astuple": copying.astuple,
        "make_dataclass": classes.refuse_functional("make_dataclass"),
    },
    "enum": {cls.__name__: cls for cls in _ENUMS},
    "functools": {
        "wraps": classes.wraps,
        "total_ordering": classes.total_ordering,
        "lru_cache": _lru_cache,
        "cache": _cache,
    },
    "json": {"dumps": _dumps, "loads": _loads},
    "re": regular.FUNCTIONS | regular.FLAGS,
    "operator": {"attrgetter": _attrgetter, "methodcaller": _methodcaller},
    "textwrap": {
        name: takes_exact(getattr(textwrap, name), 0) for name in ("wrap", "fill", "shorten", "dedent", "indent")
    },
    "random": {"Random": chance.Random},
    "time": {"strptime": takes_exact(time.strptime, 0, 1), **times.FUNCTIONS},
    "types": {"SimpleNamespace": classes.SimpleNamespace},
    "typing": {
        "Annotated": _Annotated(),
        "NamedTuple": classes.NamedTuple,
        "OrderedDict": ordered.ALIAS,
        "TypedDict": classes.TypedDict,
        "overload": _overload,
    },
}
"""What stands in the place of the library's own, which would do more than it should."""
for _module, _functions in _EXACT.items():
    _OURS[_module.__name__] = {name: takes_exact(getattr(_module, name)) for name in _functions.split()}

allow_bases(
    [
        *(abc.ABC, ordered.OrderedDict, collections.Counter, collections.defaultdict, collections.deque),
        *(collections.UserDict, collections.UserList),
        *_ENUMS,
        typing.Generic,
    ]
)


_RUNNING = ": the event loop runs already, so write `await main()` at the top level of the cell"
_ADVICE = {
    **dict.fromkeys(("get_event_loop", "new_event_loop", "get_running_loop", "set_event_loop", "Runner"), _RUNNING),
    "to_thread": ": there are no threads; call the function itself",
}
"""What to write instead of names of asyncio that are not offered."""


class Facade:
    """A module as agents see it."""

    __slots__ = ("__dict__",)

    def __init__(self, name: str, doc: str | None, contents: dict[str, Any]) -> None:
        self.__dict__.update(contents, __name__=name, __doc__=doc)

    def __getattr__(self, name: str) -> NoReturn:
        advice = _ADVICE.get(name, "") if self.__dict__["__name__"] == "asyncio" else ""
        raise AttributeError(f"module {self.__dict__['__name__']!r} has no attribute {name!r} in this sandbox{advice}")

    def __repr__(self) -> str:
        return f"<module {self.__dict__['__name__']!r}>"


open_up(Facade)
Facade.__name__ = Facade.__qualname__ = "module"


def _facade(module: types.ModuleType, allowed: str) -> Facade:
    contents = {name: getattr(module, name) for name in allowed.split() if hasattr(module, name)}  # some came later
    for name, value in _OURS.get(module.__name__, {}).items():
        if isinstance(value, types.FunctionType):
            value.__name__ = value.__qualname__ = name
        contents[name] = value
    for value in contents.values():
        if isinstance(value, type):
            reveal(value)
    return Facade(module.__name__, module.__doc__ and module.__doc__.split("\n")[0], contents)


def _make() -> dict[str, Facade]:
    facades = {module.__name__: _facade(module, allowed) for module, allowed in _ALLOWED.items()}
    for module in _ALL_PUBLIC:
        facades[module.__name__] = _facade(module, " ".join(name for name in vars(module) if not name.startswith("_")))
    facades["collections"].__dict__["abc"] = facades["collections.abc"]
    return facades


MODULES = _make()
"""Facades by name, shared by every REPL of a process; cells cannot set their attributes."""


_INTERNAL = frozenset({"time"})


def facades_for(functions: Mapping[str, Any]) -> dict[str, Facade]:
    """The facades of one REPL, with these functions of `random`."""
    shared = MODULES["random"].__dict__
    own = {name: value for name, value in shared.items() if not name.startswith("__")} | dict(functions)
    return MODULES | {"random": Facade("random", shared["__doc__"], own)}


def import_facade(
    name: str,
    globals: Any = None,
    locals: Any = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
    modules: Mapping[str, Facade] = MODULES,
) -> Any:
    """`__import__` of agents' code, from these facades."""
    if type(fromlist) is list and name in _INTERNAL:  # C code of the library (strftime) importing for itself
        return sys.modules[name]
    if level:
        raise ImportError("relative imports mean nothing here")
    module = modules.get(name)
    if module is None:
        offered = ", ".join(sorted(modules))
        raise ImportError(f"the module {name!r} is not available in this sandbox. Available: {offered}", name=name)
    if not fromlist:
        return modules[name.partition(".")[0]]
    for attribute in fromlist:
        if attribute not in module.__dict__:
            raise ImportError(
                f"cannot import {attribute!r} from {name!r}: it is not available in this sandbox", name=name
            )
    return module
