# ruff: noqa: E501 (the code of a cell stands on long lines)
"""Attacks on caches and tables that all code of a process shares, through objects that lie about what they are equal to."""

from __future__ import annotations

LIARS = r"""
asked = []
class Liar:
    def __init__(self, like): self.like = like
    def __hash__(self): return hash(self.like)
    def __eq__(self, other): asked.append(other); return True
class Text(str):
    def __hash__(self): return hash(self.like)
    def __eq__(self, other): asked.append(other); return True
class Number(int):
    def __hash__(self): return hash(self.like)
    def __eq__(self, other): asked.append(other); return True
    def __ror__(self, other): return self
def lie(value, like):
    made = (Text if type(value) is str else Number)(value)
    made.like = like
    return made
def attempt(function, *args, **options):
    try: return function(*args, **options)
    except (TypeError, ValueError) as error: return str(error)
"""
"""What each attack starts with: objects that claim to be equal to everything that has the hash of `like`."""

_CHECK = "\nif asked: print('ESCAPED', asked)\n"

_RE: dict[str, str] = {
    "pattern_sub": r"""
p = re.compile('(a)')
p.sub(lie(r'ESCAPED\1', r'<\1>'), 'a')
print(p.sub(r'<\1>', 'a'))
""",
    "pattern_subn_of_class": r"""
p = re.compile('(b)')
re.Pattern.subn(p, lie(r'ESCAPED\1', r'<\1>'), 'b')
print(re.Pattern.subn(p, r'<\1>', 'b'))
""",
    "pattern_sub_by_keyword": r"""
p = re.compile('(c)')
p.sub(repl=lie(r'ESCAPED\1', r'<\1>'), string='c')
print(p.sub(r'<\1>', 'c'))
""",
    "pattern_sub_through_getattr": r"""
p = re.compile('(d)')
getattr(p, 'sub')(lie(r'ESCAPED\1', r'<\1>'), 'd')
operator.methodcaller('sub', lie(r'ESCAPED\1', r'<\1>'), 'd')(p)
print(p.sub(r'<\1>', 'd'))
""",
    "match_expand": r"""
m = re.match('(e)', 'e')
m.expand(lie(r'ESCAPED\1', r'<\1>'))
print(m.expand(r'<\1>'))
""",
    "replacement_is_no_text": r"""
re.sub('(f)', r'<\1>', 'f')
print(attempt(re.sub, '(f)', Liar(r'<\1>'), 'f'))
print(attempt(re.compile('(f)').sub, Liar(r'<\1>'), 'f'))
print(attempt(re.match('(f)', 'f').expand, Liar(r'<\1>')))
""",
    "pattern_is_kept": r"""
if type(re.compile(lie('(g)', '(h)')).pattern) is not str: print('ESCAPED')
re.sub(re.compile(lie('(g)', '(h)')), r'<\1>', 'g')
print(attempt(re.compile, Liar('(g)')))
""",
    "flags_by_position": r"""
class Flags:
    def __index__(self): return 0
    def __hash__(self): return hash(0)
    def __eq__(self, other): asked.append(other); return True
for call in (lambda f: re.compile('w', f), lambda f: re.sub('w', 'x', 'y', 0, f), lambda f: re.split('w', 'y', 0, f),
             lambda f: re.subn('w', 'x', 'y', 0, f), lambda f: re.match('w', 'y', f), lambda f: re.findall('w', 'y', flags=f)):
    call(0)
    call(Flags())
""",
    "flags_by_operator": r"""
for flag in (re.I, re.M, re.I | re.M, re.NOFLAG):
    for made in (flag | lie(4, 10), flag & lie(4, 10), flag ^ lie(4, 10), lie(4, 10) & flag): repr(made)
print(re.I | re.M)
""",
    "table_of_escape": r"""
class Taker(str):
    def translate(self, table):
        table[ord('a')] = 'ESCAPED'
        return 'x'
re.escape(Taker('a'))
print(re.escape('a'))
""",
}
_STRPTIME: dict[str, str] = {
    "strptime_of_time": "time.strptime('2000', '%Y')\nattempt(time.strptime, '2000', lie('%d', '%Y'))\nprint(time.strptime('2000', '%Y'))",
    "strptime_of_datetime": "dt = datetime.datetime\ndt.strptime('1', '%d')\nattempt(dt.strptime, '1', lie('%Y', '%d'))\nprint(dt.strptime('1', '%d'))",
    "strptime_of_instance": "dt = datetime.datetime(2000, 1, 1)\ndt.strptime('1', '%m')\nattempt(dt.strptime, '1', lie('%Y', '%m'))",
    "strptime_by_getattr": "f = getattr(datetime.datetime, 'strptime')\nf('1', '%H')\nattempt(f, '1', lie('%Y', '%H'))",
    "strptime_of_no_text": "time.strptime('1', '%M')\nprint(attempt(time.strptime, '1', Liar('%M')))",
}
_TYPING: dict[str, str] = {
    "typing_forms": """
T = typing.TypeVar('T')
for form in (typing.Optional, typing.List, typing.Set, typing.Type, typing.Final, typing.ClassVar, typing.Deque, typing.List[T]):
    form[int]
    print(attempt(lambda: form[Liar(int)]))
for form in (typing.Union, typing.Dict, typing.Tuple, typing.DefaultDict, typing.Dict[T, typing.TypeVar('U')]):
    form[int, str]
    for pair in ((int, Liar(str)), (Liar(int), str)): print(attempt(lambda: form[pair]))
asked = [other for other in asked if other != ()]  # a constant
""",
    "typing_callable": """
typing.Callable[[int], str]
for pair in (([int], Liar(str)), ([Liar(int)], str), (..., Liar(str))): attempt(lambda: typing.Callable[pair])
print(typing.Callable[[int], str])
""",
    "typing_operators": """
T = typing.TypeVar('T')
for left in (T, typing.List[int], typing.Optional[int]):
    left | str
    for made in (lambda: left | Liar(str), lambda: Liar(str) | left, lambda: left | lie('str', str)): attempt(made)
    if 'ESCAPED' in repr(left | str) or left | str != typing.Union[left, str]: print('ESCAPED')
""",
    "typing_generic": """
T = typing.TypeVar('T')
class Box(typing.Generic[T]): pass
Box[int]
attempt(lambda: Box[Liar(int)])
attempt(lambda: Box[T][Liar(int)])
attempt(lambda: typing.Optional[Box[Liar(int)]])
print(Box[int])
""",
    "typing_nested": """
typing.Optional[list[int]]
attempt(lambda: typing.Optional[list[Liar(int)]])
attempt(lambda: typing.Dict[str, list[Liar(int)]])
print(typing.Optional[list[int]])
""",
    "typing_literal": """
typing.Literal['a', 'b']
attempt(lambda: typing.Literal[lie('c', 'a'), 'b'])
if typing.Literal['a', 'b'] != typing.Literal['b', 'a']: print('ESCAPED')
asked = [other for other in asked if type(other) is not str]  # its own values
""",
    "typing_annotated": """
typing.Optional[typing.Annotated[int, 1]]
typing.Optional[typing.Annotated[int, Liar(1)]]
typing.Annotated[typing.Annotated[int, 1], Liar(1)]
""",
    "typing_type_variable": """
print(attempt(lambda: typing.TypeVar('T', bound=Liar(int))))
print(attempt(lambda: typing.TypeVar('T', int, Liar(str))))
""",
    "typing_gives_protocol": """
attempt(lambda: typing.Optional[Liar(typing.Generic)])
attempt(lambda: typing.List[Liar(1)])
attempt(lambda: typing.List[int] | Liar(1))
if any(getattr(other, '__name__', None) == 'Protocol' for other in asked): print('ESCAPED')
asked = [other for other in asked if other != ()]  # a constant
""",
    "typing_while_a_class_is_made": """
class Base:
    def __hash__(self): return hash(int)
    def __eq__(self, other): asked.append(other); return True
    def __init_subclass__(cls):
        made = cls()
        attempt(lambda: typing.Optional[made])
        attempt(lambda: typing.List[int] | made)
        attempt(lambda: typing.TypeVar('T', bound=made))
class Early(Base): pass
asked = [other for other in asked if other != ()]  # a constant
""",
    "forward_reference": "typing.List['int']\nattempt(lambda: typing.List[lie('str', 'int')])\nprint(typing.List['int'])",
}
_ASYNCIO: dict[str, str] = {
    "callback_that_is_equal_to_all": """
class Function(Liar):
    def __call__(self, future): pass
task = asyncio.create_task(asyncio.sleep(0.01))
task.add_done_callback(Function(1))
waiting = asyncio.create_task(asyncio.wait([task], timeout=0))
await asyncio.wait_for(asyncio.shield(task), 5)
await waiting
""",
    "removed_callback": """
class Function(Liar):
    def __call__(self, future): pass
task = asyncio.create_task(asyncio.sleep(0.01))
group = asyncio.gather(task)
await asyncio.sleep(0)
if task.remove_done_callback(Function(1)): print('ESCAPED')
await group
""",
    "callback_is_a_class_method": """
class Function(Liar):
    def __call__(self, *given): pass
class Owner: method = classmethod(Function(1))
task = asyncio.create_task(asyncio.sleep(0.01))
task.add_done_callback(Owner.method)
await asyncio.wait([task], timeout=0)
for first in asyncio.as_completed([task], timeout=0):
    try: await first
    except TimeoutError: pass
await task
""",
    "callback_is_a_partial": """
class Function(Liar):
    def __call__(self, *given): pass
task = asyncio.create_task(asyncio.sleep(0.01))
task.add_done_callback(functools.partial(Function(1)))
await asyncio.wait([task], timeout=0)
print(attempt(task.remove_done_callback, Liar(1)), attempt(task.add_done_callback, Liar(1)))
await task
""",
    "pretends_to_be_a_future": """
class Future:
    _blocking = True
    def __getattr__(self, name):
        asked.append(name)
        if name == 'get_loop': return lambda: None
        return lambda *args, **options: print('ESCAPED', args)
    def __await__(self): yield self
for use in (lambda f: f, asyncio.ensure_future, asyncio.gather, asyncio.shield, lambda f: asyncio.wait([f]),
            lambda f: asyncio.wait({f}, timeout=1), lambda f: asyncio.wait_for(f, 1), asyncio.create_task,
            lambda f: asyncio.wait_for(asyncio.shield(f), None), lambda f: next(iter(asyncio.as_completed([f])))):
    try: await use(Future())
    except (RuntimeError, TypeError): pass
    else: print('ESCAPED')
async def nested(): await Future()
try: await asyncio.create_task(nested())
except RuntimeError: pass
asked = [name for name in asked if name.startswith('_asyncio')]
""",
    "waits_for_what_is_no_task": """
class Future:
    def add_done_callback(self, function, **options): print('ESCAPED', function)
    def remove_done_callback(self, function): print('ESCAPED', function)
    def done(self): return False
    def cancelled(self): return False
for given in ([Future()], {Future()}, iter([Future()]), [asyncio.create_task(asyncio.sleep(0)), Future()]):
    try: await asyncio.wait(given, timeout=0.1)
    except TypeError as error: print(error)
""",
}
_SPECIAL: dict[str, str] = {
    name: f"""
import pprint, enum
def liar(_):
    class Function(Liar):
        def __call__(self, *given): return 'x'
    return Function(1)
class Plain:
    @liar
    def __repr__(self): pass
    @liar
    def __str__(self): pass
    @liar
    def __hash__(self): pass
Function = type(liar(1))
{use}
"""
    for name, use in {
        "special_method_in_a_table": "pprint.pformat([Plain()], width=1)\nprint(repr(Plain()))",
        "special_method_of_an_enum": "class Color(Plain, enum.Enum):\n    RED = 1\nprint(repr(Color.RED))",
        "special_method_of_a_dataclass": "import dataclasses\nprint(repr(dataclasses.dataclass(Plain)()), str(Plain()))",
    }.items()
}
_TEXT: dict[str, str] = {
    "tables_of_base64": """
class Taker(str):
    def encode(self, *given): return self
    def translate(self, *given): asked.append(given); return self
for name in ('b64decode', 'urlsafe_b64decode', 'b32decode', 'b16decode', 'b85decode', 'a85decode'):
    attempt(getattr(base64, name), Taker('AAAA'))
""",
    "methods_of_text_in_html": """
class Taker(str):
    def replace(self, *given): asked.append(given); return self
html.escape(Taker('<'))
""",
    "methods_of_text_in_capwords": """
class Taker(str):
    def split(self, *given): asked.append(given); return []
    def join(self, *given): asked.append(given); return ''
string.capwords(Taker('a b'), Taker(' '))
""",
    "indent_of_own_text": """
class Taker(str):
    def __radd__(self, other): asked.append(other); return ''
textwrap.fill('a b c', initial_indent=Taker(' '), subsequent_indent=Taker(' '))
""",
}

_FRACTIONS: dict[str, str] = {
    "hash_of_a_fraction": """
hashing = False
class Part(int):
    numerator = denominator = property(lambda self: self)
    def __hash__(self): return 1
    def __eq__(self, other):
        if hashing: asked.append(other)
        return hashing or int(self) == other
    def __mul__(self, other): return self
    def __floordiv__(self, other): return self
    def __lt__(self, other): return False
    def __index__(self): return 1
made = [fractions.Fraction(Part(1), Part(1)), attempt(lambda: fractions.Fraction(1, 2) + Part(1))]
hash(fractions.Fraction(1, 1))
hashing = True
for fraction in made: attempt(hash, fraction)
hashing = False
if hash(fractions.Fraction(1, 3)) != hash(fractions.Fraction(2, 6)): print('ESCAPED')
""",
}

TABLES: dict[str, str] = {
    name: f"import {', '.join(modules)}\n{LIARS}{code}{_CHECK}"
    for modules, group in (
        (("re", "operator"), _RE),
        (("time", "datetime"), _STRPTIME),
        (("typing",), _TYPING),
        (("asyncio", "functools"), _ASYNCIO),
        (("functools",), _SPECIAL),
        (("fractions",), _FRACTIONS),
        (("base64", "html", "string", "textwrap"), _TEXT),
    )
    for name, code in group.items()
}
