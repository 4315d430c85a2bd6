"""The attributes that objects of Python's and of its library give out, by type. What is not listed is not given out."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import builtins
import collections
import contextlib
import csv
import dataclasses
import datetime
import decimal
import difflib
import enum
import fractions
import functools
import hashlib
import io
import itertools
import json
import re
import statistics
import string
import time
import types
import typing
from typing import Any

from . import chance, ordered, rows
from .callbacks import add_done_callback, remove_done_callback
from .calls import PendingCall, Subagent
from .errors import LaunchRefused, SubagentError, ToolError
from .exact import takes_exact
from .reads import allow, allow_public, substitute
from .tasks import Task
from .times import METHODS


def _always(function: Any, owner: Any) -> Any:
    return function


# -- plain data: every public method ---------------------------------------------------------------------------------

_cls: type
for _cls in (int, float, complex, bool, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice):
    allow_public(_cls)
allow_public(str, "format", "format_map")
allow_public(memoryview, "obj")
for _cls in (type({}.keys()), type({}.values()), type({}.items())):
    allow_public(_cls, "mapping")
for _cls in (collections.deque, ordered.OrderedDict, collections.Counter, collections.defaultdict):
    allow_public(_cls)
for _cls in (collections.ChainMap, collections.UserDict, collections.UserList):
    allow_public(_cls)
allow(collections.ChainMap, ("maps",))
allow(collections.UserDict, ("data",))
allow(collections.UserList, ("data",))
for _cls in (datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone):
    allow_public(_cls, "strptime", "now", "utcnow", "today")
    if hasattr(_cls, "strptime"):  # it keeps formats in a cache
        _parse = takes_exact(_cls.strptime, 0, 1)
        substitute(_cls, "strptime", functools.partial(_always, _parse), functools.partial(_always, _parse))
for (_cls, _name), _method in METHODS.items():
    substitute(_cls, _name, _method, _method)
allow_public(fractions.Fraction)
allow_public(decimal.Decimal)
allow_public(decimal.Context)
allow_public(time.struct_time)
allow_public(statistics.NormalDist, "samples")
substitute(statistics.NormalDist, "samples", chance.samples_of, chance.samples_of_class)
allow_public(io.StringIO, "detach")
allow_public(io.BytesIO, "detach")
for _hash in (*(getattr(hashlib, name)() for name in sorted(hashlib.algorithms_guaranteed)), hashlib.blake2b()):
    allow_public(type(_hash))
_TUPLES: list[Any] = [decimal.DecimalTuple, difflib.Match, type(statistics.linear_regression([1, 2], [1, 2]))]
_TUPLES.append(type(functools.lru_cache(len).cache_info()))
for _cls in _TUPLES:
    allow_public(_cls)
    allow(_cls, ("_asdict", "_fields", "_replace"))

# -- what runs -------------------------------------------------------------------------------------------------------

allow(types.GeneratorType, ("send", "throw", "close"))
allow(types.CoroutineType, ("send", "throw", "close"))
allow(types.AsyncGeneratorType, ("asend", "athrow", "aclose"))
allow(functools.partial, ("func", "args", "keywords"))
allow(type(functools.lru_cache(len)), ("cache_info", "cache_clear", "cache_parameters"))
allow(property, ("getter", "setter", "deleter"))
allow(itertools.chain, (), ("from_iterable",))
allow(enum.auto, ("value",))
allow_public(chance.Random, "VERSION")

# -- asyncio ---------------------------------------------------------------------------------------------------------

_FUTURE = ("result", "exception", "done", "cancelled", "cancel", "set_result", "set_exception")
_TASK = ("result", "exception", "done", "cancelled", "cancel")


def _create_task(group: Any) -> Any:
    def create_task(coro: Any, *, name: str | None = None) -> Any:
        return group.create_task(coro, name=name)

    return create_task


for _cls in (asyncio.Future, asyncio.tasks._GatheringFuture):  # type: ignore[attr-defined]
    allow(_cls, _FUTURE)
    substitute(_cls, "add_done_callback", add_done_callback)
    substitute(_cls, "remove_done_callback", remove_done_callback)
for _cls in (asyncio.Task, Task):
    allow(_cls, (*_TASK, "get_name", "set_name", "uncancel", "cancelling"))
    substitute(_cls, "add_done_callback", add_done_callback)
    substitute(_cls, "remove_done_callback", remove_done_callback)
substitute(asyncio.TaskGroup, "create_task", _create_task)
_QUEUE = (
    "put",
    "get",
    "put_nowait",
    "get_nowait",
    "qsize",
    "empty",
    "full",
    "join",
    "task_done",
    "maxsize",
    "shutdown",
)
for _cls in (asyncio.Queue, asyncio.PriorityQueue, asyncio.LifoQueue):
    allow(_cls, _QUEUE)
for _cls in (asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore):
    allow(_cls, ("acquire", "release", "locked"))
allow(asyncio.Event, ("wait", "set", "clear", "is_set"))
allow(asyncio.Condition, ("acquire", "release", "locked", "wait", "wait_for", "notify", "notify_all"))
allow(asyncio.Barrier, ("wait", "reset", "abort", "parties", "n_waiting", "broken"))
allow(asyncio.Timeout, ("when", "reschedule", "expired"))

# -- the rest of the library -----------------------------------------------------------------------------------------

_STACK = ("enter_context", "push", "callback", "pop_all", "close")
allow(contextlib.ExitStack, _STACK)
allow(
    contextlib.AsyncExitStack,
    [
        "enter_context",
        "push",
        "callback",
        "pop_all",
        "aclose",
        "enter_async_context",
        "push_async_exit",
        "push_async_callback",
    ],
)
allow(contextlib.nullcontext, ("enter_result",))
allow(type(csv.reader([])), ("line_num",))
allow(type(csv.writer(io.StringIO())), ("writerow", "writerows"))
allow(csv.DictReader, ("fieldnames", "line_num", "restkey", "restval"))
allow(rows.DictReader, ("fieldnames", "line_num", "restkey", "restval"))
allow(csv.DictWriter, ("writeheader", "writerow", "writerows", "fieldnames", "restval"))
allow_public(difflib.SequenceMatcher)
allow(difflib.SequenceMatcher, ("a", "b"))
allow(dataclasses.Field, ("name", "type", "default", "default_factory", "init", "repr", "hash", "compare", "kw_only"))
substitute(dataclasses.Field, "metadata", lambda value: dict(value.metadata))
allow(string.Template, ())
allow(typing.TypeVar, ())
allow(PendingCall, ("send", "throw", "close"))
allow(Subagent, ("send", "throw", "close", "goal", "status", "result"))

# -- errors ----------------------------------------------------------------------------------------------------------

_ERRORS: dict[type[BaseException], str] = {
    BaseException: "args add_note with_traceback",
    BaseExceptionGroup: "message exceptions split subgroup derive",
    OSError: "errno strerror filename filename2",
    StopIteration: "value",
    SystemExit: "code",
    ImportError: "msg name path",
    NameError: "name",
    AttributeError: "name",
    SyntaxError: "msg filename lineno offset text end_lineno end_offset",
    UnicodeDecodeError: "encoding object start end reason",
    UnicodeEncodeError: "encoding object start end reason",
    UnicodeTranslateError: "encoding object start end reason",
    json.JSONDecodeError: "msg doc pos lineno colno",
    re.error: "msg pattern pos lineno colno",
    SubagentError: "status message partial",
    LaunchRefused: "status message partial",
    ToolError: "message",
}
for _error, _allowed in _ERRORS.items():
    allow(_error, _allowed.split())
BUILTIN_ERRORS: dict[str, type[BaseException]] = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
