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
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .guards import AGENT_CLASSES, allow_bases

# -- replacements for functions that would give away more than they should --------------------------------------------


def _wraps(wrapped: Any) -> Callable[[Any], Any]:
    """functools.wraps without its `assigned` and `updated`, which copy whatever attributes they are told to."""

    def decorate(wrapper: Any) -> Any:
        return functools.update_wrapper(wrapper, wrapped, assigned=("__name__", "__qualname__", "__doc__"), updated=())

    return decorate


def _dataclass(cls: Any = None, /, **options: Any) -> Any:
    """dataclasses.dataclass for the agent's own classes; private fields never become positional patterns."""

    def decorate(cls: Any) -> Any:
        if cls not in AGENT_CLASSES:
            raise TypeError("dataclass decorates classes that you define")
        private = any(name.startswith("_") for name in getattr(cls, "__annotations__", {}))
        made = dataclasses.dataclass(cls, **(options | {"match_args": False} if private else options))
        AGENT_CLASSES.add(made)
        return made

    return decorate if cls is None else decorate(cls)


def _replace(instance: Any, /, **changes: Any) -> Any:
    if type(instance) not in AGENT_CLASSES:
        raise TypeError("replace() takes an instance of your own dataclass")
    return dataclasses.replace(instance, **changes)


def _namedtuple(typename: str, field_names: Any, *, rename: bool = False, defaults: Any = None) -> type:
    make: Callable[..., type] = collections.namedtuple
    made = make(typename, field_names, rename=rename, defaults=defaults, module="__main__")
    AGENT_CLASSES.add(made)
    return made


def _run(main: Any, **_: Any) -> NoReturn:
    if asyncio.iscoroutine(main):
        main.close()
    raise RuntimeError("an event loop is already running here: write `await main()` at the top level of the cell")


def _dumps(obj: Any, **options: Any) -> str:
    if "cls" in options:
        raise TypeError("json.dumps takes default= here, not cls=")
    return json.dumps(obj, **options)


def _loads(text: str | bytes, **options: Any) -> Any:
    if "cls" in options:
        raise TypeError("json.loads takes object_hook= here, not cls=")
    return json.loads(text, **options)


for _function, _name in ((_dumps, "dumps"), (_loads, "loads"), (_wraps, "wraps"), (_dataclass, "dataclass")):
    _function.__name__ = _function.__qualname__ = _name

# -- the lists -------------------------------------------------------------------------------------------------------

_ALLOWED: dict[types.ModuleType, str] = {
    abc: "ABC abstractmethod",
    asyncio: "gather sleep create_task ensure_future wait wait_for as_completed shield timeout timeout_at TaskGroup Queue "
    "PriorityQueue LifoQueue QueueEmpty QueueFull Lock Event Condition Semaphore BoundedSemaphore Barrier TimeoutError "
    "CancelledError InvalidStateError FIRST_COMPLETED FIRST_EXCEPTION ALL_COMPLETED iscoroutine iscoroutinefunction",
    base64: "b64encode b64decode urlsafe_b64encode urlsafe_b64decode b32encode b32decode b16encode b16decode b85encode "
    "b85decode a85encode a85decode",
    bisect: "bisect bisect_left bisect_right insort insort_left insort_right",
    calendar: "monthrange isleap leapdays weekday timegm day_name day_abbr month_name month_abbr MONDAY SUNDAY",
    collections: "ChainMap Counter OrderedDict UserDict UserList defaultdict deque",
    collections.abc: "Iterable Iterator Sequence MutableSequence Mapping MutableMapping Set MutableSet Callable Hashable "
    "Sized Container Collection Generator Awaitable Coroutine AsyncIterator AsyncIterable AsyncGenerator",
    contextlib: "contextmanager asynccontextmanager suppress nullcontext closing aclosing ExitStack AsyncExitStack",
    copy: "copy deepcopy",
    csv: "reader writer DictReader DictWriter QUOTE_ALL QUOTE_MINIMAL QUOTE_NONE QUOTE_NONNUMERIC Error",
    dataclasses: "field asdict astuple fields is_dataclass FrozenInstanceError KW_ONLY MISSING InitVar",
    datetime: "date datetime time timedelta timezone tzinfo UTC MINYEAR MAXYEAR",
    decimal: "Decimal getcontext setcontext localcontext Context ROUND_HALF_UP ROUND_HALF_EVEN ROUND_HALF_DOWN ROUND_UP "
    "ROUND_DOWN ROUND_CEILING ROUND_FLOOR DecimalException InvalidOperation DivisionByZero Inexact Overflow Underflow",
    difflib: "SequenceMatcher get_close_matches ndiff unified_diff context_diff",
    enum: "Enum IntEnum StrEnum Flag IntFlag auto unique",
    fractions: "Fraction",
    functools: "partial reduce lru_cache cache cached_property cmp_to_key total_ordering",
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
    random: "Random random randint randrange uniform choice choices shuffle sample seed gauss normalvariate expovariate "
    "betavariate triangular lognormvariate paretovariate weibullvariate vonmisesvariate gammavariate getrandbits randbytes",
    re: "compile match search fullmatch split findall finditer sub subn escape error Pattern Match A ASCII I IGNORECASE M "
    "MULTILINE S DOTALL X VERBOSE U UNICODE RegexFlag NOFLAG",
    statistics: "mean fmean geometric_mean harmonic_mean median median_low median_high median_grouped mode multimode pstdev "
    "pvariance stdev variance quantiles covariance correlation linear_regression NormalDist StatisticsError",
    string: "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits punctuation printable whitespace "
    "capwords",
    textwrap: "wrap fill shorten dedent indent",
    time: "time time_ns monotonic perf_counter process_time sleep strftime strptime gmtime localtime mktime asctime ctime",
    types: "SimpleNamespace",
    typing: "Any Optional Union Literal List Dict Set FrozenSet Tuple Type Callable Iterable Iterator Sequence Mapping "
    "MutableMapping Awaitable Coroutine Generator AsyncIterator AsyncGenerator NamedTuple TypedDict TypeVar Generic "
    "Annotated Final ClassVar NoReturn Never Self TypeAlias Required NotRequired Hashable Sized Counter Deque DefaultDict "
    "OrderedDict Text cast overload",
    unicodedata: "name lookup normalize category numeric decimal digit bidirectional combining east_asian_width",
}
_ALL_PUBLIC = (math, cmath)

_OVERRIDES: dict[str, dict[str, Any]] = {
    "asyncio": {"run": _run},
    "collections": {"namedtuple": _namedtuple},
    "dataclasses": {"dataclass": _dataclass, "replace": _replace},
    "functools": {"wraps": _wraps},
    "json": {"dumps": _dumps, "loads": _loads},
}

allow_bases(
    [
        *(abc.ABC, collections.OrderedDict, collections.Counter, collections.defaultdict, collections.deque),
        *(collections.UserDict, collections.UserList),
        *(enum.Enum, enum.IntEnum, enum.StrEnum, enum.Flag, enum.IntFlag),
        *(typing.Generic, typing._NamedTuple, typing._TypedDict),  # type: ignore[attr-defined]
    ]
)


def _facade(module: types.ModuleType, allowed: str) -> types.ModuleType:
    made = types.ModuleType(module.__name__, module.__doc__ and module.__doc__.split("\n")[0])
    for name in allowed.split():
        if hasattr(module, name):  # some came with later versions of Python
            setattr(made, name, getattr(module, name))
    for name, value in _OVERRIDES.get(module.__name__, {}).items():
        setattr(made, name, value)
    return made


def _make() -> dict[str, types.ModuleType]:
    made = {module.__name__: _facade(module, allowed) for module, allowed in _ALLOWED.items()}
    for module in _ALL_PUBLIC:
        made[module.__name__] = _facade(module, " ".join(name for name in vars(module) if not name.startswith("_")))
    made["collections"].abc = made["collections.abc"]  # type: ignore[attr-defined]
    return made


MODULES = _make()
"""Facades by name, shared by every REPL of a process; the policy refuses to set their attributes."""


_INTERNAL = frozenset({"_strptime", "time"})


def import_facade(
    name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
) -> types.ModuleType:
    """`__import__` of agents' code."""
    if type(fromlist) is list and name in _INTERNAL:  # C code of the library (strptime) importing for itself
        return sys.modules[name]
    if level:
        raise ImportError("relative imports mean nothing here")
    module = MODULES.get(name)
    if module is None:
        offered = ", ".join(sorted(MODULES))
        raise ImportError(f"the module {name!r} is not available in this sandbox. Available: {offered}", name=name)
    if not fromlist:
        return MODULES[name.partition(".")[0]]
    for wanted in fromlist:
        if wanted not in vars(module):
            raise ImportError(f"cannot import {wanted!r} from {name!r}: it is not available in this sandbox", name=name)
    return module
