# ruff: noqa: E501, SIM905 (lists of words; code of cells stands on long lines)
"""From every name that a cell is offered, along everything that the guards give out: nothing forbidden is reached."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from recursive_agent.repl.worker.names import FORBIDDEN_ATTRIBUTES
from recursive_agent.repl.worker.reads import guarded_getattr, safe_type, variables_of

from .language_lab import Lab, Oracle, in_lab

DEPTH = 4
SEEDS = """
import abc, asyncio, base64, bisect, calendar, collections, contextlib, copy, csv, dataclasses, datetime, decimal, difflib
import enum, fractions, functools, hashlib, io, itertools, json, math, operator, random, re, statistics, string, time, types, typing
def function(x=1): return x
function.own = 1
async def coroutine_function(): return 1
def generator_function(): yield 1
async def async_generator_function(): yield 1
class Plain:
    x = 1
    def __init__(self): self.y = 2
    def method(self): return self
    @classmethod
    def of_class(cls): return cls
    @staticmethod
    def static(): return 1
    @property
    def prop(self): return self
@dataclasses.dataclass
class Data:
    a: int = 1
    b: list = dataclasses.field(default_factory=list, metadata={"k": 1})
class Color(enum.Enum):
    RED = 1
class Perm(enum.IntFlag):
    R = 1
class Error(Exception): pass
class Group(ExceptionGroup): pass
class Text(str): pass
class Items(list): pass
class Mapping(collections.UserDict): pass
class Count(collections.Counter): pass
class Base(abc.ABC):
    @abc.abstractmethod
    def f(self): pass
T = typing.TypeVar("T")
class Box(typing.Generic[T]): pass
class Named(typing.NamedTuple):
    a: int = 1
class Typed(typing.TypedDict):
    a: int
Point = collections.namedtuple("Point", "x y", defaults=[1, 2])
@contextlib.contextmanager
def manager(): yield 1
@functools.lru_cache
def cached(): return 1
class Lazy:
    @functools.cached_property
    def p(self): return 1
errors = []
for attempt in (lambda: 1 / 0, lambda: [].x, lambda: nowhere, lambda: {}["k"], lambda: int("x"), lambda: json.loads("{"),
                lambda: re.compile("("), lambda: "\\udc00".encode(), lambda: b"\\xff".decode(), lambda: next(iter([])),
                lambda: decimal.Decimal("x"), lambda: math.nope, lambda: Base(), lambda: Color(5)):
    try: attempt()
    except Exception as error: errors.append(error)
try:
    import nowhere_to_be_found
except ImportError as error: errors.append(error)
try:
    try: 1 / 0
    except ZeroDivisionError as inner: raise Error("x") from inner
except Error as error: errors.append(error)
errors += [Error("a"), Group("g", [Error("b")]), SubagentError("s", "m"), ToolError("t"), OSError(2, "x"), StopIteration(3)]
class Catch:
    def __enter__(self): return self
    def __exit__(self, kind, error, trace):
        self.kind, self.error, self.trace = kind, error, trace
        return True
caught = Catch()
with caught: 1 / 0
seeds = [Plain(), Plain().method, Plain.of_class, Plain.static, Plain.prop, Data(), Data, Color.RED, Color, Perm.R, Text("t"),
    Items([1]), Mapping(a=1), Count("aab"), Base, Box, Box[int], Box[int](), Named(), Named, Typed, Point(), Point, manager, manager(),
    cached, Lazy, Lazy(), Lazy().p, function, coroutine_function, generator_function(), async_generator_function(), caught,
    *errors, *[type(error) for error in errors], T, list[int], typing.List[int], typing.Optional[int], int | str,
    dataclasses.fields(Data), dataclasses.fields(Data)[0], dataclasses.field(), collections.deque([1]), collections.OrderedDict(a=1),
    collections.defaultdict(list), collections.ChainMap({1: 2}), collections.UserList([1]), {}.keys(), {1: 2}.items(),
    datetime.datetime(2020, 1, 1), datetime.date(2020, 1, 1), datetime.timezone.utc, datetime.timedelta(1), datetime.time(1),
    decimal.Decimal(1), decimal.getcontext(), decimal.Decimal(1).as_tuple(), fractions.Fraction(1, 2), random.Random(1),
    re.match("(a)", "a"), re.compile("a"), re.I, hashlib.sha256(), hashlib.blake2b(), io.StringIO("a"), io.BytesIO(b"a"),
    csv.reader([]), csv.writer(io.StringIO()), csv.DictReader(io.StringIO("a")), csv.DictWriter(io.StringIO(), ["a"]),
    difflib.SequenceMatcher(None, "a", "b"), statistics.NormalDist(), time.gmtime(0), types.SimpleNamespace(a=1),
    functools.partial(function), functools.cmp_to_key(max)(1), operator.itemgetter(0), operator.attrgetter("x"), contextlib.ExitStack(),
    contextlib.AsyncExitStack(), contextlib.nullcontext(), contextlib.suppress(), contextlib.closing(io.StringIO()), itertools.chain(), zip(), map(str, []),
    enumerate([]), iter([]), iter({}), reversed([]), memoryview(b"a"), bytearray(b"a"), range(3), slice(1), property(), staticmethod(len),
    classmethod(len), super(Plain, Plain()), super(Text, Text("a")), super(Plain, Plain), enum.auto(), print, len, "a".split, "a".format, str.format,
    tool, tool(1), launch_subagent("g"), asyncio.Queue(), asyncio.Lock(), asyncio.Event(), asyncio.Condition(), asyncio.Semaphore(),
    asyncio.Barrier(1), asyncio.TaskGroup(), asyncio.timeout(1), calendar.day_name, object(), None, ..., NotImplemented, 1, 1.5, 1j, b"", "", (), {}, set(),
]
task = asyncio.create_task(coroutine_function())
gathered = asyncio.gather(asyncio.create_task(coroutine_function()))
failed = asyncio.create_task(asyncio.wait_for(asyncio.sleep(9), 0))
seeds += [task, gathered, failed]
"""
"""Objects of every kind that a cell can make."""
INSIDES = (
    sorted(FORBIDDEN_ATTRIBUTES)
    + (
        "__globals__ __code__ __closure__ __self__ __func__ __builtins__ __wrapped__ __dict__ __class__ __mro__ __bases__ __base__ "
        "__subclasses__ __init__ __new__ __reduce__ __reduce_ex__ __getattribute__ __setattr__ __getattr__ __init_subclass__ "
        "__traceback__ __context__ __cause__ __loader__ __spec__ __module__ __file__ __objclass__ __annotations__ __defaults__ "
        "__origin__ __args__ __parameters__ __value__ __bound__ __members__ __match_args__ __dataclass_fields__ __slots__ "
        "_loop _coro _callbacks _context _fut_waiter _source_traceback _exit_callbacks _queue _getters _parent_task _tasks "
        "_caller _interpreter _function _template _method _member_map_ _make _abc_impl _inst _asdict obj gen func cr_frame register"
    ).split()
)
_NOT_CALLED = {"exit", "quit", "input", "count", "cycle", "repeat", "finish"}


def _steps(value: Any) -> Iterator[tuple[str, Any]]:
    """What one step of a cell's code makes of `value`."""
    found = {*dir(value), *dir(type(value)), *INSIDES}
    for name in sorted(name for name in found if type(name) is str):
        try:
            yield f".{name}", guarded_getattr(value, name)
        except Exception:
            continue
    yield ".type", safe_type(value)
    for what, step in (("vars", variables_of), ("first", lambda value: next(iter(value))), ("list", _some)):
        try:
            yield f".{what}", step(value)
        except Exception:
            continue
    if callable(value) and getattr(value, "__name__", "") not in _NOT_CALLED:
        with contextlib.suppress(Exception, asyncio.CancelledError, SystemExit):
            yield "()", value()


def _some(value: Any) -> list[Any]:
    return [item for item, _ in zip(value, range(9), strict=False)]


def walk(lab: Lab, oracle: Oracle, most: int = 60_000) -> tuple[int, list[str]]:
    """How many objects are within reach, and by which ways those that must not be."""
    lab.run(SEEDS)
    start = lab.offered()
    queue = deque((name, value, 0) for name, value in start.items())
    queue.extend((f"seeds[{index}]", value, 0) for index, value in enumerate(lab.variables["seeds"]))
    seen: dict[int, Any] = {}
    wrong: list[str] = []
    shapes: dict[tuple[int, str], int] = {}

    async def go() -> None:
        while queue and len(seen) < most:
            way, value, depth = queue.popleft()
            if id(value) in seen:
                continue
            seen[id(value)] = value
            problem = oracle.names(value)
            if problem is not None:
                wrong.append(f"{way} is {problem}")
                continue
            if asyncio.iscoroutine(value) and type(value).__name__ == "coroutine" and depth:
                value.close()
            if depth == DEPTH:
                continue
            shape = (id(type(value)), way.rpartition(".")[2])
            if type(value) in (str, int, bytes, float, tuple, list, dict, bool) and depth:
                shapes[shape] = shapes.get(shape, 0) + 1
                if shapes[shape] > 2:  # more of the same
                    continue
            for step, reached in _steps(value):
                if id(reached) not in seen:
                    queue.append((way + step, reached, depth + 1))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab.loop.run_until_complete(go())
    return len(seen), wrong


def test_nothing_forbidden_is_within_reach_of_what_a_cell_is_offered() -> None:
    def work(lab: Lab, oracle: Oracle) -> None:
        count, wrong = walk(lab, oracle)
        assert wrong == []
        assert count > 1000
        assert oracle.changed() == []

    in_lab(work)


@pytest.mark.parametrize("way", ["f.__globals__", "[].__class__.__mro__", "(x for x in []).gi_frame"])
def test_the_oracle_knows_what_plain_python_gives_away(way: str) -> None:
    def work(lab: Lab, oracle: Oracle) -> None:
        def f() -> None: ...

        value = eval(way, {"f": f})
        parts = value if isinstance(value, tuple) else [globals() if way.startswith("f.") else value]
        assert any(oracle.names(part) or oracle.names(type(part)) for part in parts)

    in_lab(work)
