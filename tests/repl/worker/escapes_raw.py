"""Ways out through what the library reads of an agent's object as it stands, past the guard: each prints ESCAPED.

And programs that crash the worker where C code relies on what an agent's code can take from it: each prints SURVIVED.
"""

from __future__ import annotations

_FIELDS = """
import dataclasses
def f(): pass
def show(method): print('ESCAPED' if '__builtins__' in method(f) else method)
"""
_TEXT = "a = D('{0.__globals__}')\n"

RAW: dict[str, str] = {
    "field_format_by_astuple": "@dataclasses.dataclass(init=False)\nclass D(str):\n    format: object\n"
    + _TEXT
    + "show(dataclasses.astuple(a)[0])",
    "field_format_by_asdict": "@dataclasses.dataclass(init=False)\nclass D(str):\n    format: object\n"
    + _TEXT
    + "show(dataclasses.asdict(a)['format'])",
    "field_format_by_equality": """
@dataclasses.dataclass(init=False, repr=False)
class D(str):
    format: object
class Taker:
    def __eq__(self, other): show(other)
b = D('b')
b.format = Taker()
D('{0.__globals__}') == b
""",
    "field_format_by_replace": """
@dataclasses.dataclass(init=False)
class D(str):
    format: object
    def __new__(cls, *args, **options):
        if options: show(options['format'])
        return super().__new__(cls, *args)
dataclasses.replace(D('{0.__globals__}'))
""",
    "field_of_a_mixin": "@dataclasses.dataclass(init=False)\nclass M:\n    format: object\nclass D(M, str): pass\n"
    + _TEXT
    + "show(dataclasses.astuple(a)[0])",
    "field_with_slots": "@dataclasses.dataclass(init=False, eq=False)\nclass M:\n    format_map: object\n"
    "@dataclasses.dataclass(init=False)\nclass D(M, str): pass\na = D('{x.__globals__}')\n"
    "method = dataclasses.astuple(a)[0]\nshow(lambda f: method({'x': f}))",
    "field_renamed_afterwards": """
shared = dataclasses.field()
@dataclasses.dataclass(init=False, repr=False)
class D(str):
    fmt: object = shared
@dataclasses.dataclass
class E:
    format: object = shared
show(dataclasses.astuple(D('{0.__globals__}'))[0])
""",
    "inherited_field_renamed": """
shared = dataclasses.field()
class Base:
    fmt = shared
@dataclasses.dataclass(init=False, repr=False)
class D(Base, str):
    fmt: object
@dataclasses.dataclass
class E:
    format: object = shared
show(dataclasses.astuple(D('{0.__globals__}'))[0])
""",
    "field_out_of_a_descriptor": """
shared = dataclasses.field()
class Gives:
    def __get__(self, instance, owner): return shared
@dataclasses.dataclass(init=False, repr=False)
class D(str):
    fmt: object = Gives()
@dataclasses.dataclass
class E:
    format: object = shared
show(dataclasses.astuple(D('{0.__globals__}'))[0])
""",
    "field_in_a_static_method": """
shared = dataclasses.field()
@dataclasses.dataclass(init=False, repr=False)
class D(str):
    fmt: object = staticmethod(shared)
@dataclasses.dataclass
class E:
    format: object = shared
show(dataclasses.astuple(D('{0.__globals__}'))[0])
""",
}
RAW = {name: f"{_FIELDS}{code}" for name, code in RAW.items()}
RAW["new_of_a_library_class"] = """
class E(Exception):
    def make(self, cls): return super().__new__(cls)
for cls in (StopIteration, UnicodeDecodeError, ImportError, SubagentError):
    try: print('ESCAPED', repr(E().make(cls)))
    except TypeError: pass
class O:
    def make(self, cls): return super().__new__(cls)
import fractions, statistics
for cls in (asyncio.Queue, asyncio.TaskGroup, fractions.Fraction, statistics.NormalDist):
    try: print('ESCAPED', type(O().make(cls)))
    except TypeError: pass
"""
RAW["init_of_an_error_of_the_library"] = """
for error in (StopIteration(1), UnicodeDecodeError('u', b'x', 0, 1, 'r'), OSError(2, 'x')):
    for cls in (type(error), Exception, BaseException):
        try: print('ESCAPED', cls.__init__(error))
        except TypeError: pass
"""
RAW["memory_before_an_object"] = """
data = b'x'
for start in (-1, -8, -100):
    if 'byte 0x' in str(UnicodeDecodeError('u', data, start, start + 1, 'r')): print('ESCAPED')
"""
RAW["module_imported_by_a_traceback"] = """
import json
class E(ImportError): pass
error = E('x', name='this', path='y')
try: error = ImportError('x', name='this', name_from='sx')  # before Python 3.12 there is no such name
except TypeError: pass
async def fail(): raise ExceptionGroup('g', [error, ValueError()]) from error
asyncio.create_task(fail())
await asyncio.sleep(0)
"""

_YIELDS = """
class I:
    def __iter__(self): return self
    def __next__(self): raise s
def g(): x = yield from I()
list(g())
"""
_KEYS = """
import collections
class E:
    def __init__(self, h=1): self.h = h
    def __hash__(self): return self.h
    def __eq__(self, o):
        global n
        n += 1
        if n % 3 == 0:
            s.clear()
            t.clear()
        return n % 2 == 0
O = collections.OrderedDict
for i in range(100):
    n, s, t = 0, O(), O()
    s, t = O((E(k), E()) for k in range(i % 20)), O((E(k), E()) for k in range(i % 20))
    n = i
    try: OPERATION
    except Exception: pass
"""

CRASHES: dict[str, str] = {
    "stop_iteration_that_never_was_initialised": f"class S(StopIteration):\n    def __init__(self): pass\ns = S(){_YIELDS}",
    "stop_iteration_without_a_value": f"s = StopIteration(5)\ndel s.value{_YIELDS}",
    "stop_iteration_without_a_value_by_delattr": f"s = StopIteration(5)\ndelattr(s, 'value'){_YIELDS}",
    "stop_iteration_by_super": "class E(Exception):\n    def m(self): return super().__new__(StopIteration)\n"
    f"s = E().m(){_YIELDS}",
    "stop_iteration_initialised_again": f"""
s = StopIteration(None)
def ends():
    try: yield
    finally:{_YIELDS.replace(chr(10), chr(10) + "        ")}
s.value = ends()
next(s.value)
StopIteration.__init__(s, 1)
""",
    "stop_iteration_in_a_task": """
class S(StopIteration):
    def __init__(self): pass
class C:
    def __await__(self): return self
    def send(self, value): raise S()
    def throw(self, *error): raise S()
    def close(self): pass
await asyncio.create_task(C())
""",
    "position_of_a_decoding_error": "print(UnicodeDecodeError('u', b'x', -10**13, -10**13 + 1, 'r'))",
    "position_set_by_init": "e = UnicodeDecodeError('u', b'x', 0, 1, 'r')\n"
    "UnicodeDecodeError.__init__(e, 'u', b'x', -10**13, -10**13 + 1, 'r')\nprint(e)",
    "csv_reader_asked_by_its_lines": """
import csv
class Lines:
    n = 0
    def __iter__(self): return self
    def __next__(self):
        self.n += 1
        if self.n == 2: next(rows)
        if self.n > 5: raise StopIteration
        return 'a,"b'
rows = csv.reader(Lines())
list(rows)
""",
    "dict_reader_asked_by_its_lines": """
import csv
class Lines:
    n = 0
    def __iter__(self): return self
    def __next__(self):
        self.n += 1
        if self.n == 3: next(rows)
        if self.n > 6: raise StopIteration
        return 'a,"b'
rows = csv.DictReader(Lines())
list(rows)
""",
} | {
    f"ordered_dict_{name}": _KEYS.replace("OPERATION", operation)
    for name, operation in {
        "equality": "s == t",
        "update": "s.update(t)",
        "pop": "s.pop(E(), 0)",
        "setdefault": "s.setdefault(E(), 1)",
        "move_to_end": "s.move_to_end(E(3))",
        "move_to_beginning": "s.move_to_end(E(3), last=False)",
    }.items()
}
