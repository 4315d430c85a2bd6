# ruff: noqa: E501 (the code of a cell stands on long lines)
"""Cells that use what the language puts in the place of the library's own; each shows the same as in plain Python."""

from __future__ import annotations

ORDINARY: dict[str, str] = {
    "substitution": r"""
import re
p = re.compile(r'(?P<word>\w+)-(\d+)', re.I | re.M)
print(p.sub(r'\g<word>+\2', 'a-1 B-2'), p.sub(lambda m: m[2], 'a-1'), p.subn('x', 'a-1 b-2', count=1), p.sub('y', 'a-1 b-2', 1))
print(re.compile(b'(a)').sub(rb'<\1>', b'aa'), re.Pattern.sub(p, 'z', 'a-1'), re.match('(a)(b)', 'ab').expand(r'\2\1'))
print(re.sub('a', 'b', 'aaa', count=2), re.subn('a', str.upper('b'), 'aa'), re.escape('a.b'), re.escape(b'a.b'))
print([f('a1b2') for f in (re.compile(r'\d').findall, re.compile('[a-z]').split)], re.split(r'\d', 'a1b2c', maxsplit=1))
print(list(map(re.compile('a').sub, ['x', 'y'], ['ba', 'ca'])))
""",
    "flags": """
import re
print(re.I, repr(re.I), str(re.M | re.S), re.IGNORECASE == re.I, re.I.name, re.M.value, int(re.X), bool(re.NOFLAG), bool(re.A))
print((re.I | re.M).name, re.I in re.I | re.M, re.S in re.I | re.M, re.I & re.M, re.I ^ (re.I | re.M), list(re.I | re.M))
print(re.compile('a', re.I).flags, re.compile('A', flags=re.I | re.M).match('a'), {re.I: 1}[re.I], re.I | 8, 8 | re.I, hash(re.I) == hash(2))
import copy
print(copy.copy(re.I) is re.I, sorted([re.M, re.I]), re.I < re.M, f'{re.I.value:03d}')
""",
    "own_text_in_re": r"""
import re
class S(str): pass
print(re.sub(S('a'), S(r'<b>'), S('aa')), re.compile(S('a+')).findall(S('aab')), re.match(S('(a)'), 'a').expand(S(r'\1\1')))
print(re.split(S(','), S('a,b')), re.escape(S('.')), [m.start() for m in re.finditer(S('a'), 'aba')], bool(re.fullmatch(S('a'), 'a')))
""",
    "dates": """
import time, datetime
from datetime import datetime as dt, date, timedelta
class S(str): pass
print(dt.strptime('2020-02-03 04:05', '%Y-%m-%d %H:%M'), dt.strptime(S('5'), S('%d')), time.strptime('30 Nov 00', '%d %b %y')[:3])
print(dt(2020, 1, 2).strptime('7', '%d').day, list(map(lambda t: dt.strptime(t, '%Y').year, ['1999', '2001'])), f'{dt(2020, 1, 2):%d.%m.%Y}')
print(time.strptime('Mon Jan  3 04:05:06 2000'), dt.strptime('2020', '%Y').date() + timedelta(1), date.fromisoformat('2020-01-02').strftime('%j'))
try: dt.strptime('x', '%Y')
except ValueError as error: print(error)
""",
    "annotations": """
from typing import Any, Optional, Union, List, Dict, Set, Tuple, Type, Literal, Callable, Iterable, Iterator, TypeVar, Generic, TypedDict, NamedTuple, Required, NotRequired, ClassVar, Annotated, cast
from dataclasses import dataclass, field
T = TypeVar('T')
K = TypeVar('K', bound=int)
class Box(Generic[T]):
    def __init__(self, held: T) -> None: self.held = held
class Row(TypedDict, total=False):
    a: Required[int]
    b: NotRequired[list[str]]
class Point(NamedTuple):
    x: int
    y: Optional[float] = None
@dataclass
class Data:
    a: Optional[int] = None
    b: 'list[int]' = field(default_factory=list)
    c: ClassVar[Dict[str, int]] = {}
    d: Annotated[int, 'meta'] = 1
print(List[int], Optional[str], Union[int, str, None], Dict[str, List[int]], Callable[[int], str], Tuple[int, ...], Literal['a', 1], Type[int])
print(Optional['Later'], List[T][int], Dict[T, K][str, int], Box[int](5).held, Box[T][int], int | List[int], T | None, Iterable[Box[int]])
print(Row(a=1), Point(1), Data(), Callable[..., Any], Set[Point], list[Point], Optional[Row], Literal[True], Annotated[Optional[int], 1, 2])
print(List[int] == List[int], Optional[int] == Union[None, int], hash(List[int]) == hash(List[int]), Literal['a', 'b'] == Literal['b', 'a'], cast(int, '5'))
def f(x: Optional[int], *y: 'str', **z: List[Data]) -> Iterator[T]: ...
f(1)
""",
    "annotations_of_own_objects": """
from typing import Annotated, Dict, List, Literal, Optional
from enum import Enum
class Color(Enum):
    RED = 'r'
class Meta:
    def __init__(self, text): self.text = text
    def __repr__(self): return f'Meta({self.text})'
class Text(str): pass
print(Optional[Text('Later')], List[Text('Later')])
print(Optional[Annotated[int, Meta('a')]], Annotated[List[int], Meta('b'), 5], Literal[Color.RED, 'x'], Optional[Color], Dict[Color, Meta])
""",
    "callbacks": """
import asyncio, functools
seen = []
class Watcher:
    def note(self, task): seen.append('note')
    def __call__(self, task): seen.append('call')
watcher = Watcher()
task = asyncio.create_task(asyncio.sleep(0.01, 5))
for callback in (watcher.note, watcher, lambda task: seen.append(task.result()), functools.partial(seen.append), seen.append): task.add_done_callback(callback)
print(task.remove_done_callback(watcher.note), task.remove_done_callback(watcher.note), task.remove_done_callback(seen.append))
await task
await asyncio.sleep(0)
print(seen[:2], seen[2] is task, len(seen))
""",
    "waiting": """
import asyncio
tasks = [asyncio.create_task(asyncio.sleep(0, n)) for n in range(3)]
done, pending = await asyncio.wait(tasks)
print(sorted(task.result() for task in done), pending)
done, pending = await asyncio.wait({asyncio.create_task(asyncio.sleep(9)), asyncio.create_task(asyncio.sleep(0, 7))}, return_when=asyncio.FIRST_COMPLETED)
print([task.result() for task in done], [task.cancel() for task in pending])
done, pending = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(9))], timeout=0)
print(len(done), len(pending), [task.cancel() for task in pending])
class Later:
    def __await__(self):
        yield
        return 'later'
print(await Later(), await asyncio.gather(Later(), asyncio.sleep(0, 1)), await asyncio.wait_for(Later(), 5), await asyncio.ensure_future(Later()), await asyncio.shield(Later()))
for first in asyncio.as_completed([asyncio.sleep(0, 3), Later()], timeout=5): await first
""",
    "texts": """
import base64, html, string, textwrap, calendar, pprint
class S(str): pass
class B(bytes): pass
print(base64.b64encode(b'ab'), base64.b64decode('YWI='), base64.b64decode(S('YWI=')), base64.b64encode(B(b'x')), base64.urlsafe_b64decode('_-=='), base64.b32decode('MFRA===='), base64.b85decode(base64.b85encode(bytearray(b'q'))), base64.b16decode('6a', casefold=True))
print(html.escape('<a href="x">', quote=False), html.unescape(S('&lt;&#39;&amp;')), string.capwords(' a b '), string.capwords('a-b', '-'), string.capwords(S('x y')))
print(textwrap.fill('a b c d', 3), textwrap.wrap(S('a b'), width=1), textwrap.shorten('hello big world', 12, placeholder='...'), textwrap.indent('a', S('> ')), textwrap.dedent('  a'))
print(calendar.monthrange(2024, 2), calendar.isleap(2000), calendar.timegm((1970, 1, 2, 0, 0, 0)), calendar.day_name[0], calendar.month_abbr[1:3], list(calendar.day_abbr)[0])
""",
    "decorated_special_methods": """
import functools, pprint
class Counted:
    def __init__(self, function): self.function, self.calls = function, 0
    def __get__(self, instance, owner=None): return functools.partial(self, instance) if instance else self
    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)
def plain(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper
class Thing:
    @Counted
    def __repr__(self): return 'thing'
    @plain
    def __str__(self): return 'text'
    @functools.lru_cache
    def __len__(self): return 3
    @staticmethod
    def __class_getitem__(key): return key
    @Counted
    def __call__(self, n): return n + 1
    @Counted
    def __eq__(self, other): return True
    def __hash__(self): return 5
print(repr(Thing()), str(Thing()), len(Thing()), Thing[5], Thing()(1), Thing() == 5, pprint.pformat([Thing()]))
""",
    "fractions": """
from fractions import Fraction
class I(int): pass
print(Fraction(1, 3) + I(2), hash(Fraction(I(6), I(4))) == hash(1.5), {Fraction(1, 2): 1}[0.5], Fraction('0.25'), Fraction(3, 4).limit_denominator(2))
""",
    "enum_with_attributes": """
import enum
class Planet(enum.Enum):
    EARTH = (5.97e24, 6.37e6)
    MARS = (6.42e23, 3.39e6)
    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius
print(Planet.MARS.mass, Planet.EARTH.radius, Planet((5.97e24, 6.37e6)), list(Planet))
""",
    "ordered_dict": """
import collections, copy, json, typing
class Recent(collections.OrderedDict):
    def __init__(self, most):
        super().__init__()
        self.most = most
    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self.most: self.popitem(last=False)
recent = Recent(2)
for n in range(4): recent[n] = str(n)
o = collections.OrderedDict(a=1, b=2, c=3)
o.move_to_end('a')
o.move_to_end('c', last=False)
print(dict(recent), o, list(reversed(o)), o == dict(o), o == collections.OrderedDict(a=1, b=2, c=3), o != o.copy())
print(o | {'z': 1}, {'z': 1} | o, copy.deepcopy(o), json.dumps(o), collections.OrderedDict.fromkeys('ab'), typing.OrderedDict[str, int])
print(o.popitem(), o.popitem(last=False), o.pop('b'), o, bool(o), isinstance(o, dict), type(o).__name__)
for last in (True, False):
    try: o.popitem(last=last)
    except KeyError as error: print(error)
try: o.move_to_end('x')
except KeyError as error: print(error)
""",
    "rows_of_csv": """
import csv, io
def lines():
    yield 'a;"b'
    yield 'c";d'
rows = csv.reader(lines(), delimiter=';')
print(list(rows), rows.line_num, list(csv.reader(io.StringIO('1,2'))), list(csv.DictReader(['a,b', '1,2', '3'], restval='-')))
people = csv.DictReader(iter(['n', '1']))
print(people.fieldnames, next(people), people.line_num)
""",
    "fields": """
import dataclasses
@dataclasses.dataclass
class Base:
    x: int = dataclasses.field(default=1)
    make: object = len
@dataclasses.dataclass(order=True, frozen=True)
class Point:
    x: int
    tags: list = dataclasses.field(default_factory=list, compare=False)
@dataclasses.dataclass
class Failure(Exception):
    code: int
    message: str = 'm'
@dataclasses.dataclass
class More(Base):
    x: int = 5
    y: list = dataclasses.field(default_factory=list)
print(Base(), Point(1) < Point(2), Failure(3).code, More(), dataclasses.replace(More(), y=[1]), dataclasses.asdict(More())['x'])
""",
    "registry": """
class Plugin:
    known = {}
    def __init_subclass__(cls, key=None, **options):
        super().__init_subclass__(**options)
        cls.key = key = key or cls.__name__.lower()
        Plugin.known[key] = cls
class Upper(Plugin): pass
class Lower(Plugin, key='low'): pass
print(sorted(Plugin.known), Upper.key, Lower().key)
""",
}
