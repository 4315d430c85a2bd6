# ruff: noqa: E501 (the code of a cell stands on one line)
"""Ways out of restricted Python through what the library does with the agent's classes: it makes code of names, evaluates
docstrings, copies attributes, calls methods from C. As in `escapes`, each prints ESCAPED once it got something.
"""

from __future__ import annotations

_F = "def f(): pass\n"
_CONTEXT = "import contextlib\n@contextlib.contextmanager\ndef c(): yield\n"
_RACE = """
def race(make, undo, read, harmless):
    for n in range(400):
        value = make()
        def g():
            try: yield
            finally:
                try: undo()
                except Exception: pass
        x = g(); next(x)
        cycle = [x]; cycle.append(cycle)
        del x, cycle
        keep = [[] for _ in range(n)]
        try: found = read(value)
        except Exception: continue
        if not harmless(found): print('ESCAPED', found)
"""
_SPLIT = "\ntry: raise g\nexcept* ValueError: pass\n"

LIBRARY: dict[str, str] = {
    # a `super` of the cell's own read special methods of anything
    "super_function": "import collections, json\ndef super(x): return x\nsuper(collections.UserDict).__init__(json)\nprint('ESCAPED', json.data)",
    "super_argument": "import collections, json\ndef g(super): return super(collections.UserDict).__init__\ng(lambda x: x)(json)\nprint('ESCAPED', json.data)",
    "super_lambda_argument": "import json\nprint('ESCAPED', (lambda super: super(json).__init__)(lambda x: x))",
    "super_import": "from copy import copy as super\nimport collections\nprint('ESCAPED', super(collections.UserDict).__init__)",
    "super_capture": "import collections\nmatch (lambda x: x):\n    case super: pass\nprint('ESCAPED', super(collections.UserDict).__init__)",
    "super_class": "import json\nclass super:\n    def __new__(cls, x): return x\nprint('ESCAPED', super(json).__init__)",
    "super_except": "class E(Exception):\n    def __call__(self, x): return x\ntry: raise E\nexcept E as super: print('ESCAPED', super(asyncio.Queue()).__init__)",
    "super_global": "import json\ndef h():\n    global super\n    def super(x): return x\nh()\nprint('ESCAPED', super(json).__init__)",
    # names of fields stand in code that dataclasses makes
    "typed_dict_field_is_code": "import typing, dataclasses\nclass Q(dict): pass\nnew = super(Q, Q()).__new__\nT = typing.TypedDict('T', {'__class__.hook(__import__)': int})\nk = []\nT.hook = k.append\nD = dataclasses.dataclass(T, init=False, match_args=False)\nnew(D) == new(D)\nprint('ESCAPED', k[0]('os'))",
    "typed_dict_default_is_code": "import typing, dataclasses\nT = typing.TypedDict('T', {'x=__import__(\"os\").getpid(), y': int})\ndataclasses.dataclass(T, init=False)\nprint('ESCAPED')",
    "typed_dict_special_fields": "import typing, dataclasses\nT = typing.TypedDict('T', {'__class__': int})\nprint('ESCAPED', dataclasses.dataclass(T, init=False))",
    "typed_dict_fields_of_special_names": "import typing, dataclasses\nT = typing.TypedDict('T', {'_getattr_': int})\nprint('ESCAPED', dataclasses.dataclass(T))",
    # inspect evaluates the signature that a docstring tells
    "docstring_names_a_module": "import dataclasses\nclass A:\n    'A(x=os.sep, y=sys.version)\\n--\\n\\n'\n@dataclasses.dataclass(init=False)\nclass B(A): pass\nif '3.' in B.__doc__: print('ESCAPED', B.__doc__)",
    "docstring_false_for_once": "import dataclasses\nclass A:\n    'A(x=os.sep, y=sys.version)\\n--\\n\\n'\nclass F:\n    def __bool__(self): return False\nclass B(A):\n    __doc__ = F()\nB = dataclasses.dataclass(init=False)(B)\nif '3.' in B.__doc__: print('ESCAPED', B.__doc__)",
    # decorators that copy whatever attributes the decorated object has
    "context_manager_decorates_str": _CONTEXT + _F + "print('ESCAPED', c()(str).format('{0.__globals__}', f))",
    "context_manager_decorates_class": _CONTEXT + "import collections\nprint('ESCAPED', c()(collections.UserDict).copy)",
    "context_manager_decorates_object": _CONTEXT + "import csv, io\nprint('ESCAPED', c()(csv.DictWriter(io.StringIO(), [])).writer)",
    "async_context_manager_decorates": "import contextlib, collections\n@contextlib.asynccontextmanager\nasync def c(): yield\nprint('ESCAPED', c()(collections.UserDict).copy)",
    # aliases that set an attribute on what they give
    "annotated_marks_library_class": "import typing, collections\ntyping.Annotated[lambda: collections.Counter, 1]()\nprint('ESCAPED')",
    "annotated_marks_facade": "import typing, json\ntyping.Annotated[lambda: json, 1]()\nprint('ESCAPED')",
    "annotated_of_type_variable": "import typing, json\nT = typing.TypeVar('T')\ntyping.Annotated[T, 1][lambda: json]()\nprint('ESCAPED')",
    "annotated_twice": "import typing, json\ntyping.Annotated[typing.Annotated[lambda: json, 1], 2]()\nprint('ESCAPED')",
    # C code that relies on the type of what it holds
    "unicode_error_reads_memory": "e = UnicodeDecodeError('u', b'x', 0, 1, 'r')\ne.object = 1e300\ne.start, e.end = 5000, 5001\nprint('ESCAPED', e)",
    "unicode_error_of_own_class": "class E(UnicodeDecodeError): pass\ne = E('u', b'x', 0, 1, 'r')\ne.object = 1e300\nprint('ESCAPED', e)",
    "unicode_error_setattr": "setattr(UnicodeEncodeError('u', 'x', 0, 1, 'r'), 'object', 5)\nprint('ESCAPED')",
    "unicode_error_through_self": "class E(UnicodeDecodeError):\n    def turn(self): self.object = ()\nE('u', b'x', 0, 1, 'r').turn()\nprint('ESCAPED')",
    # the garbage collector runs the agent's generators between a check and what was checked
    "race_own_format_of_instance": _RACE + _F + "class S(str): pass\ndef make():\n    S.format = 1\n    return S('{0.__globals__}')\ndef undo(): del S.format\nrace(make, undo, lambda s: s.format, lambda r: r == 1 or '_BoundFormat' in type(r).__name__)",
    "race_own_format_of_class": _RACE + "class S(str): pass\ndef make():\n    S.format = 1\n    return S\ndef undo(): del S.format\nrace(make, undo, lambda s: s.format, lambda r: r == 1 or type(r).__name__ == 'function')",
    "race_own_format_of_base": _RACE + "class M: pass\nclass S(M, str):\n    def get(self): return super().format\ndef make():\n    M.format = 1\n    return S('{0.__globals__}')\ndef undo(): del M.format\nrace(make, undo, lambda s: s.get(), lambda r: r == 1 or '_BoundFormat' in type(r).__name__)",
    "race_own_register": _RACE + "import abc\nclass S(abc.ABC): pass\ndef make():\n    S.register = 1\n    return S\ndef undo(): del S.register\nrace(make, undo, lambda s: s.register, lambda r: r == 1)",
    # keywords whose equality lies
    "json_class_by_a_lying_keyword": "import json\nclass S(str):\n    def __eq__(self, o): return o == 'cls'\n    def __hash__(self): return 1\nclass E:\n    def __init__(self, **k): pass\n    def encode(self, o): return 'ESCAPED'\nprint(json.dumps({}, **{S('x'): E}))",
    "cache_of_regular_expressions": "import re\nclass F(int):\n    def __eq__(self, o): return True\n    def __hash__(self): return hash(0)\nre.compile('once', F(re.I))\nif re.match('once', 'ONCE'): print('ESCAPED')",
    "cache_of_regular_expressions_by_keyword": "import re\nclass F(int):\n    def __eq__(self, o): return True\n    def __hash__(self): return hash(0)\nre.sub('twice', 'x', 'y', flags=F(re.I))\nif re.match('twice', 'TWICE'): print('ESCAPED')",
    "callbacks_of_asyncio": "got = []\nclass E:\n    def __eq__(self, other): got.append(other)\nt = asyncio.create_task(asyncio.sleep(0))\ng = asyncio.gather(t)\nt.remove_done_callback(E())\nprint('ESCAPED', got)",
    # methods that dataclasses makes read and set whatever fields are called
    "dataclass_init_of_facade": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    dumps: object\nclass B(A): pass\nA.__init__(json, 5)\nprint('ESCAPED')",
    "dataclass_init_of_class": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    most_common: object\nclass B(A): pass\nA.__init__(collections.Counter, 5)\nprint('ESCAPED')",
    "dataclass_init_by_super": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    dumps: object\nclass B(A): pass\nsuper(B, B).__init__(json, 5)\nprint('ESCAPED')",
    "dataclass_init_by_classmethod": "import dataclasses, json\n@dataclasses.dataclass\nclass A:\n    dumps: object\nclass B(A):\n    @classmethod\n    def m(cls): super().__init__(json, 5)\nB.m()\nprint('ESCAPED')",
    "dataclass_init_of_semaphore": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    acquire: object\nclass B(A): pass\nA.__init__(asyncio.Semaphore, None)\nprint('ESCAPED')",
    "dataclass_init_of_group": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    split: object\nclass B(A): pass\nA.__init__(ExceptionGroup('x', [ValueError()]), 5)\nprint('ESCAPED')",
    "dataclass_init_of_function": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    x: object\nclass B(A): pass\nA.__init__(json.dumps, 5)\nprint('ESCAPED')",
    "dataclass_init_of_queue": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    _loop: object\nclass B(A): pass\nA.__init__(asyncio.Queue(), 5)\nprint('ESCAPED')",
    "dataclass_init_of_unicode_error": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    object: object\nclass B(A): pass\ne = UnicodeDecodeError('u', b'x', 0, 1, 'r')\nA.__init__(e, 1e300)\nprint('ESCAPED')",
    "dataclass_init_of_unicode_error_mixed_in": "import dataclasses\n@dataclasses.dataclass\nclass A:\n    object: object\nclass E(A, UnicodeDecodeError): pass\nprint('ESCAPED')",
    "dataclass_repr_of_task": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    _loop: object\nclass B(A): pass\nt = asyncio.create_task(asyncio.sleep(0))\nprint('ESCAPED', super(B, B).__repr__(t))",
    "dataclass_repr_of_coroutine": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    cr_frame: object\nclass B(A): pass\nc = asyncio.sleep(0)\ntry: print('ESCAPED', super(B, B).__repr__(c))\nfinally: c.close()",
    "dataclass_eq_of_task": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=False)\nclass A:\n    _loop: object\nclass B(A): pass\nt = asyncio.create_task(asyncio.sleep(0))\nprint('ESCAPED', super(B, B).__eq__(t, t))",
    "dataclass_hash_of_coroutine": "import dataclasses, json, collections\n@dataclasses.dataclass(frozen=True)\nclass A:\n    cr_frame: object\nclass B(A): pass\nc = asyncio.sleep(0)\ntry: print('ESCAPED', super(B, B).__hash__(c))\nfinally: c.close()",
    "own_future_gets_callbacks": "class F:\n    _asyncio_future_blocking = False\nprint('ESCAPED')",
    "own_future_by_setattr": "class F: pass\nsetattr(F, '_asyncio_' + 'future_blocking', False)\nprint('ESCAPED')",
    "own_future_by_slot": "class F:\n    __slots__ = ['_asyncio_' + 'future_blocking']\nprint('ESCAPED')",
}  # fmt: skip

SURVIVED: dict[str, str] = {
    "mixin": "class M:\n    def split(self, t): return 5\nclass G(M, ExceptionGroup): pass\ng = G('x', [ValueError()])" + _SPLIT,
    "exception": "class X(Exception):\n    def split(self, t): return 5\nclass G(X, ExceptionGroup): pass\ng = G('x', [ValueError()])" + _SPLIT,
    "set_on_mixin": "class M: pass\nclass G(M, ExceptionGroup): pass\nM.split = lambda s, t: 5\ng = G('x', [ValueError()])" + _SPLIT,
    "cached": "import functools\nclass M:\n    @functools.cached_property\n    def split(self): return lambda t: 5\nclass G(ExceptionGroup): pass\nG.other = M.split\ng = G('x', [ValueError()])\ng.other" + _SPLIT,
    "subclass": "class M:\n    def split(self, t): return 5\nclass G(ExceptionGroup): pass\nclass H(M, G): pass\ng = H('x', [ValueError()])" + _SPLIT,
    "field": "import dataclasses\nclass L(list):\n    def __call__(self, t): return 5\ntry:\n    @dataclasses.dataclass\n    class G(ExceptionGroup):\n        m: object\n        split: object\nexcept TypeError: g = ValueError()\nelse: g = G('x', L([ValueError()]))" + _SPLIT,
}  # fmt: skip
"""Exception groups whose `split` is the agent's: C code takes what it gives for a tuple, and crashes."""

NO_CONTROL = frozenset(name for name in LIBRARY if name.startswith("race_")) | {"typed_dict_default_is_code"}
"""Those that work by chance in plain Python, or that it refuses as well."""
