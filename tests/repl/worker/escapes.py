# ruff: noqa: E501 (the code of a cell stands on one line)
"""Ways out of restricted Python, as data. Each prints ESCAPED once it holds something the language should not give.

`control=False` marks those that plain Python refuses as well (a module that was never loaded, say); for the others the
tests show that they do work in plain Python.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import escapes_library
from .escapes_hooks import HOOKS, NO_CONTROL


@dataclass(frozen=True)
class Escape:
    name: str
    code: str
    control: bool = True


_F = "def f(): pass\n"
_TASK = "import asyncio\nt = asyncio.create_task(asyncio.sleep(0))\n"
_GEN = "g = (x for x in [1])\n"
_CORO = "async def co(): pass\nc = co()\n"
_AGEN = "async def ag(): yield 1\na = ag()\n"

# name: expression that is the escape, after some setup
_EXPRESSIONS: dict[str, tuple[str, str]] = {
    # asyncio's objects lead to the loop and to frames
    "task_get_loop": (_TASK, "t.get_loop()"),
    "task_get_stack": (_TASK, "t.get_stack()"),
    "task_get_coro": (_TASK, "t.get_coro().cr_frame"),
    "task_private_coro": (_TASK, "t._coro"),
    "task_private_loop": (_TASK, "t._loop"),
    "task_get_stack_by_getattr": (_TASK, "getattr(t, 'get_' + 'stack')()"),
    "gather_get_loop": (_TASK, "asyncio.gather(t).get_loop()"),
    "running_loop": (_TASK, "asyncio.get_running_loop()"),
    "event_loop": (_TASK, "asyncio.get_event_loop()"),
    "current_task": (_TASK, "asyncio.current_task().get_stack()"),
    "all_tasks": (_TASK, "asyncio.all_tasks()"),
    "asyncio_events": (_TASK, "asyncio.events.sys"),
    "asyncio_tasks": (_TASK, "asyncio.tasks.inspect"),
    "asyncio_subprocess": (_TASK, "asyncio.subprocess"),
    "asyncio_new_loop": (_TASK, "asyncio.new_event_loop"),
    "asyncio_to_thread": (_TASK, "asyncio.to_thread"),
    "queue_loop": (_TASK, "asyncio.Queue()._get_loop()"),
    "timeout_task": (_TASK, "asyncio.timeout(1)._task is None"),
    # real modules through modules
    "json_codecs": ("import json\n", "json.codecs.open"),
    "json_decoder": ("import json\n", "json.decoder.scanner"),
    "json_encoder_class": ("import json\n", "json.JSONEncoder"),
    "re_enum_sys": ("import re\n", "re.enum.sys"),
    "re_parser": ("import re\n", "re._parser"),
    "random_os": ("import random\n", "random._os"),
    "random_from_os": ("from random import _os\n", "_os.environ"),
    "collections_sys": ("import collections\n", "collections._sys"),
    "dataclasses_sys": ("import dataclasses\n", "dataclasses.sys"),
    "dataclasses_inspect": ("import dataclasses\n", "dataclasses.inspect"),
    "dataclasses_types": ("import dataclasses\n", "dataclasses.types"),
    "textwrap_re": ("import textwrap\n", "textwrap.re"),
    "statistics_sys": ("import statistics\n", "statistics.sys"),
    "typing_sys": ("import typing\n", "typing.sys"),
    "contextlib_os": ("import contextlib\n", "contextlib.os"),
    "contextlib_redirect": ("import contextlib\n", "contextlib.redirect_stdout"),
    "csv_io": ("import csv\n", "csv.re"),
    "calendar_sys": ("import calendar\n", "calendar.sys"),
    "fractions_sys": ("import fractions\n", "fractions.sys"),
    "enum_sys": ("import enum\n", "enum.sys"),
    "string_re": ("import string\n", "string._re"),
    "abc_module": ("import abc\n", "abc._py_abc if hasattr(abc, '_py_abc') else abc.get_cache_token"),
    "io_open": ("import io\n", "io.open"),
    "io_fileio": ("import io\n", "io.FileIO"),
    "io_open_code": ("import io\n", "io.open_code"),
    "module_loader": ("import math\n", "math.__loader__"),
    "module_spec": ("import json\n", "json.__spec__.loader"),
    "module_dict": ("import json\n", "json.__dict__"),
    "vars_of_module": ("import json\n", "vars(json)"),
    "vars_of_asyncio": (_TASK, "vars(asyncio)"),
    "star_import": ("from json import *\n", "loads"),
    # tools that look up attributes by name
    "attrgetter": (_F + "import operator\n", "operator.attrgetter('__globals__')(f)"),
    "methodcaller": ("import operator\n", "operator.methodcaller('__subclasses__')(object)"),
    "update_wrapper": (
        _F + "import functools\nclass W:\n    def __init__(self): self.x = {}\nw = W()\n",
        "functools.update_wrapper(w, f, assigned=('__globals__',), updated=())",
    ),
    "update_wrapper_updated": (
        _F + "import functools\nclass W:\n    pass\nw = W(); object.__setattr__(w, '__globals__', {})\n",
        "functools.update_wrapper(w, f, updated=('__globals__',))",
    ),
    "wraps_assigned": (
        _F + "import functools\nclass W:\n    pass\nw = W()\n",
        "functools.wraps(f, assigned=('__globals__',), updated=())(w)",
    ),
    "get_type_hints": (
        "import typing\nclass A: x: \"print('got in', ().__class__)\"\n",
        "typing.get_type_hints(A, None, {'print': print})",
    ),
    "forward_ref": ("import typing\n", "typing.ForwardRef('().__class__')"),
    "singledispatch": (
        "import functools\n@functools.singledispatch\ndef s(x): pass\n",
        "s.registry",
    ),
    "getattr_globals": (_F, "getattr(f, '__globals__')"),
    "getattr_built_name": (_F, "getattr(f, '__glo' + 'bals__')"),
    "getattr_default": (_F, "getattr(f, '__globals__', None)['f']"),
    "getattr_mapped": (_F, "list(map(getattr, [f], ['__globals__']))[0]"),
    "getattr_reduced": (_F + "import functools\n", "functools.reduce(getattr, ['__globals__'], f)"),
    "getattr_partial": (_F + "import functools\n", "functools.partial(getattr, f)('__globals__')"),
    "object_getattribute": (_F, "object.__getattribute__(f, '__globals__')"),
    "str_subclass_name": (
        _F + "class S(str):\n    def startswith(self, *a): return False\n    def strip(self, *a): return ''\n",
        "getattr(f, S('__globals__'))",
    ),
    "fullwidth_name": (_F, "f.__\uff47lobals__"),
    # the type system
    "type_of_int": ("", "type(int).__subclasses__"),
    "type_of_int_called": ("", "type(int)('X', (), {})"),
    "type_three": ("", "type('X', (), {'__getattr__': None})"),
    "type_of_type": ("", "type(type(1)).mro"),
    "class_of_class": ("", "(1).__class__.__class__.__subclasses__"),
    "class_subclasses": ("", "().__class__.__base__.__subclasses__()"),
    "class_mro": ("", "int.__mro__"),
    "mro_method": ("", "int.mro()"),
    "bases": ("", "bool.__bases__"),
    "object_subclasses": ("", "object.__subclasses__()"),
    "subclasses_by_getattr": ("", "getattr(object, '__subclasses__')()"),
    "function_type": (_F, "type(f)(f.__code__, {})"),
    "types_function": ("import types\n", "types.FunctionType"),
    "types_code": ("import types\n", "types.CodeType"),
    "types_module": ("import types\n", "types.ModuleType('x')"),
    # functions
    "function_globals": (_F, "f.__globals__"),
    "function_code": (_F, "f.__code__"),
    "function_closure": ("def o():\n    y = 1\n    return lambda: y\n", "o().__closure__[0].cell_contents"),
    "function_builtins": (_F, "f.__builtins__"),
    "library_globals": ("import json\n", "json.dumps.__globals__"),
    "asyncio_function_globals": (_TASK, "asyncio.sleep.__globals__"),
    "builtin_self": ("", "abs.__self__"),
    "len_self": ("", "len.__self__.open"),
    "finish_self": ("", "finish.__self__._function if hasattr(finish, '__self__') else finish._function.__closure__"),
    "finish_func": ("", "finish._function.__globals__"),
    "tool_function": ("", "tool._function"),
    "tool_call_caller": ("", "tool(1)._caller"),
    "handle_caller": ("", "launch_subagent('x')._caller.send"),
    "handle_steps": ("", "launch_subagent('x')._start"),
    "error_init_globals": ("", "SubagentError.__init__.__globals__"),
    "partial_func_globals": (_F + "import functools\n", "functools.partial(f).func.__globals__"),
    "lru_cache_wrapped": ("import functools\n@functools.cache\ndef f(): pass\n", "f.__wrapped__.__globals__"),
    "property_fget": ("class A:\n    @property\n    def p(self): pass\n", "A.p.fget.__globals__"),
    "method_func": ("class A:\n    def m(self): pass\n", "A().m.__func__.__globals__"),
    "staticmethod_wrapped": ("s = staticmethod(len)\n", "s.__wrapped__"),
    "dunder_builtins": ("", "__builtins__"),
    "dunder_import": ("", "__import__('os')"),
    "dunder_import_sys": ("", "__import__('sys').modules"),
    # frames and tracebacks
    "gen_frame": (_GEN, "g.gi_frame.f_globals"),
    "gen_frame_getattr": (_GEN, "getattr(g, 'gi_frame')"),
    "gen_code": (_GEN, "g.gi_code"),
    "gen_yieldfrom": ("def y(): yield from [1]\ng = y()\nnext(g)\n", "g.gi_yieldfrom"),
    "coro_frame": (_CORO, "c.cr_frame.f_globals"),
    "coro_code": (_CORO, "c.cr_code"),
    "coro_await": (_CORO, "c.cr_await is None"),
    "agen_frame": (_AGEN, "a.ag_frame.f_globals"),
    "agen_code": (_AGEN, "a.ag_code"),
    "agen_await": (_AGEN, "a.ag_await is None"),
    "traceback_frame": ("try: 1/0\nexcept Exception as e: x = e\n", "x.__traceback__.tb_frame.f_globals"),
    "traceback_getattr": ("try: 1/0\nexcept Exception as e: x = e\n", "getattr(x, '__traceback__').tb_next"),
    "context_traceback": (
        "try:\n    try: 1/0\n    finally: [][0]\nexcept Exception as e: x = e\n",
        "x.__context__.__traceback__.tb_frame",
    ),
    "exit_traceback": (
        "class C:\n    def __enter__(self): pass\n    def __exit__(self, k, e, tb):\n        self.tb = tb.tb_frame\n"
        "        return True\nc = C()\nwith c: 1/0\n",
        "c.tb",
    ),
    "host_error_traceback": (
        "try: await tool(boom=True)\nexcept Exception as e: x = e\n",
        "x.__traceback__.tb_next.tb_frame.f_globals",
    ),
    # formatting
    "format_globals": (_F, "'{0.__globals__}'.format(f)"),
    "format_gi_frame": (_GEN, "'{0.gi_frame}'.format(g)"),
    "format_type": (_F, "str.format('{0.__globals__}', f)"),
    "format_map": (_F, "'{f.__globals__}'.format_map({'f': f})"),
    "format_map_type": (_F, "str.format_map('{f.__globals__}', {'f': f})"),
    "format_getattr": (_F, "getattr('{0.__globals__}', 'format')(f)"),
    "format_mapped": (_F, "list(map(str.format, ['{0.__globals__}'], [f]))"),
    "format_nested_spec": (
        "class P:\n    def __format__(self, s): return s\n",
        "'{0:{1.__class__.__mro__}}'.format(P(), 1)",
    ),
    "format_index_then_attribute": (_F, "'{0[0].__globals__}'.format([f])"),
    "fstring_globals": (_F, "f'{f.__globals__}'"),
    "formatter_class": (_F + "import string\n", "string.Formatter().format('{0.__globals__}', f)"),
    "formatter_field": (_F + "import string\n", "string.Formatter().get_field('0.__globals__', [f], {})"),
    "template_class": ("import string\n", "string.Template.pattern"),
    "userstring_format": (_F + "import collections\n", "collections.UserString('{0.__globals__}').format(f)"),
    "super_format": (
        _F + "class S(str):\n    def show(self, *a): return super().format(*a)\n",
        "S('{0.__globals__}').show(f)",
    ),
    "super_format_map": (
        _F + "class S(str):\n    def show(self, m): return super().format_map(m)\n",
        "S('{f.__globals__}').show({'f': f})",
    ),
    "super_getattribute": (
        "class A:\n    def m(self): return super().__getattribute__('__class__')\n",
        "A().m().__mro__",
    ),
    # exceptions hand out objects
    "attribute_error_obj": (_F + "try: f.nope\nexcept AttributeError as e: x = e\n", "x.obj"),
    "attribute_error_obj_module": ("import json\ntry: json.nope\nexcept AttributeError as e: x = e\n", "x.obj"),
    "attribute_error_obj_getattr": ("try: getattr(tool, 'nope')\nexcept AttributeError as e: x = e\n", "x.obj"),
    "attribute_error_obj_format": (
        "try: '{0.nope}'.format(1)\nexcept AttributeError as e: x = e\n",
        "'{0.obj}'.format(x)",
    ),
    "memoryview_obj": ("", "memoryview(b'x').obj"),
    # classes
    "dataclass_fields": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n",
        "A.__dataclass_fields__",
    ),
    "dataclass_init_globals": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\n",
        "A.__init__.__globals__",
    ),
    "make_dataclass": (
        "import dataclasses\n",
        "dataclasses.make_dataclass('X', [('x', int)], namespace={'__getattr__': None})",
    ),
    "dataclass_on_library": ("import dataclasses, json\n", "dataclasses.dataclass(json.JSONDecodeError)"),
    "namedtuple_make": ("import collections\nP = collections.namedtuple('P', 'x')\n", "P._make.__func__.__globals__"),
    "namedtuple_new": ("import collections\nP = collections.namedtuple('P', 'x')\n", "P.__new__.__globals__"),
    "namedtuple_module": ("import collections\nP = collections.namedtuple('P', 'x', module='os')\n", "P"),
    "init_subclass_base": (
        "class A:\n    def __init_subclass__(cls): A.found = cls.__base__\nclass B(A): pass\n",
        "A.found",
    ),
    "class_getitem_mro": ("class A:\n    def __class_getitem__(cls, i): return cls.__mro__\n", "A[0]"),
    "descriptor_owner": ("class D:\n    def __get__(self, o, t): return t.__mro__\nclass A:\n    d = D()\n", "A.d"),
    "set_name_owner": (
        "class D:\n    def __set_name__(self, o, n): self.found = o.__subclasses__\nclass A:\n    d = D()\n",
        "A",
    ),
    "protocol_class": ("import typing\n", "typing.Protocol"),
    "abc_register": (
        "import collections.abc\nclass P(collections.abc.Sized):\n    def __len__(self): return 0\n",
        "P.register(int)",
    ),
    "enum_private": ("import enum\nclass E(enum.Enum):\n    A = 1\n", "E._member_map_.__class__.__mro__"),
}

_STATEMENTS: dict[str, str] = {
    # match reads attributes
    "match_globals": _F + "match f:\n    case object(__globals__=g): print('ESCAPED', g)\n",
    "match_code": _F + "match f:\n    case object(__code__=g): print('ESCAPED', g)\n",
    "match_frame": _GEN + "match g:\n    case object(gi_frame=x): print('ESCAPED', x)\n",
    "match_private": _TASK + "match t:\n    case object(_coro=x): print('ESCAPED', x)\n",
    "match_get_loop": _TASK + "match t:\n    case object(get_loop=x): print('ESCAPED', x())\n",
    "match_format": _F + "match '{0.__globals__}':\n    case str(format=x): print('ESCAPED', x(f))\n",
    "match_mro": "match int:\n    case object(mro=x): print('ESCAPED', x())\n",
    "match_nested": _F + "match [f]:\n    case [object(__globals__=g)]: print('ESCAPED', g)\n",
    "match_args": _F + "class P:\n    __match_args__ = ('__globals__',)\nprint('ESCAPED', P.__match_args__)\n",
    "match_args_private": _TASK
    + "class P:\n    __match_args__ = ('_coro',)\n    def __init_subclass__(cls): pass\nprint('ESCAPED', P.__match_args__)\n",
    "match_args_annotated": "class P:\n    __match_args__: tuple = ('__globals__',)\nprint('ESCAPED')\n",
    "match_args_built": "n = ('__globals__',)\nclass P:\n    __match_args__ = n\nprint('ESCAPED')\n",
    "match_args_setattr": "class P: pass\nsetattr(P, '__match_args__', ('__globals__',))\nprint('ESCAPED')\n",
    # rebinding what compiled cells rely on
    "bind_getattr": "_getattr_ = lambda o, n: 1\nprint('ESCAPED')",
    "bind_write": "_write_ = lambda o, n: o\nprint('ESCAPED')",
    "bind_builtins": "__builtins__ = {}\nimport math\nprint('ESCAPED')",
    "bind_function": "def _class_(*a, **k): pass\nprint('ESCAPED')",
    "bind_class": "class _getattr_: pass\nprint('ESCAPED')",
    "bind_argument": "def f(_getattr_): return _getattr_\nprint('ESCAPED')",
    "bind_lambda": "g = lambda _write_: 1\nprint('ESCAPED')",
    "bind_keyword_argument": "def f(*, _getattr_=None): pass\nprint('ESCAPED')",
    "bind_import": "import math as _getattr_\nprint('ESCAPED')",
    "bind_from_import": "from math import pi as _exit_\nprint('ESCAPED')",
    "bind_except": "try: 1/0\nexcept Exception as _exit_: pass\nprint('ESCAPED')",
    "bind_loop": "for _getattr_ in [1]: pass\nprint('ESCAPED')",
    "bind_with": "import contextlib\nwith contextlib.nullcontext(1) as _echo_: pass\nprint('ESCAPED')",
    "bind_walrus": "(_getattr_ := 1)\nprint('ESCAPED')",
    "bind_walrus_comprehension": "[_write_ := 1 for x in [1]]\nprint('ESCAPED')",
    "bind_match": "match 1:\n    case _getattr_: print('ESCAPED')\n",
    "bind_match_star": "match [1]:\n    case [*_write_]: print('ESCAPED')\n",
    "bind_match_rest": "match {}:\n    case {**_write_}: print('ESCAPED')\n",
    "bind_unpacking": "a, (_getattr_, b) = 1, (2, 3)\nprint('ESCAPED')",
    "bind_global": "def f():\n    global _getattr_\n    _getattr_ = 1\nf()\nprint('ESCAPED')",
    "bind_augmented": "x = 1\n_write_ = x\n_write_ += 1\nprint('ESCAPED')",
    "bind_super": "super = lambda: print\nprint('ESCAPED', super().__init__)",
    "delete_guard": "__name = 1\ndel __name\nprint('ESCAPED')",
    # writing where one should only read
    "poison_module": "import math\nmath.pi = 3\nprint('ESCAPED', math.pi)",
    "poison_module_setattr": "import json\nsetattr(json, 'dumps', print)\nprint('ESCAPED')",
    "poison_module_delete": "import json\nold = json.loads\ndel json.loads\nprint('ESCAPED')",
    "poison_class": "import collections\ncollections.Counter.most_common = print\nprint('ESCAPED')",
    "poison_augmented": "import math\nmath.pi += 1\nprint('ESCAPED')",
    "poison_loop_target": "import math\nfor math.pi in [1]: pass\nprint('ESCAPED')",
    "poison_unpacking": "import math\nmath.pi, x = 1, 2\nprint('ESCAPED')",
    "poison_with_target": "import math, contextlib\nwith contextlib.nullcontext(1) as math.pi: pass\nprint('ESCAPED')",
    "swap_code": "def f(): pass\ndef g(): return 1\nf.__code__ = g.__code__\nprint('ESCAPED')",
    "swap_class": "class A: pass\nclass B: pass\na = A()\na.__class__ = B\nprint('ESCAPED')",
    "swap_defaults": "def f(x=1): pass\nf.__defaults__ = (2,)\nprint('ESCAPED')",
    "setattr_dunder": "def f(): pass\nsetattr(f, '__defaults__', (2,))\nprint('ESCAPED')",
    "swap_dict": "class A: pass\nA().__dict__ = {}\nprint('ESCAPED')",
    # classes
    "metaclass_type": "class M(type): pass\nprint('ESCAPED')",
    "metaclass_keyword": "class X(metaclass=type): pass\nprint('ESCAPED', X.__mro__)",
    "metaclass_kwargs": "k = {'metaclass': type}\nclass X(**k): pass\nprint('ESCAPED', X)",
    "subclass_queue": _TASK + "class Q(asyncio.Queue):\n    def _init(self, n): pass\nprint('ESCAPED', Q())",
    "subclass_lock": _TASK + "class L(asyncio.Lock): pass\nprint('ESCAPED', L())",
    "subclass_taskgroup": _TASK + "class L(asyncio.TaskGroup): pass\nprint('ESCAPED', L())",
    "subclass_task": _TASK + "class L(type(t)): pass\nprint('ESCAPED', L)",
    "subclass_random": "import random\nclass R(random.Random): pass\nprint('ESCAPED', R())",
    "subclass_tool_call": "class T(type(tool(1))): pass\nprint('ESCAPED', T)",
    "subclass_system_exit": "class E(SystemExit): pass\nprint('ESCAPED')",
    "subclass_mro_entries": _TASK
    + "class B:\n    def __mro_entries__(self, b): return (asyncio.Queue,)\nclass X(B()): pass\nprint('ESCAPED')",
    "class_getattribute": "class A:\n    def __getattribute__(self, n): return 1\nprint('ESCAPED', A().x)",
    "class_reduce": "import copy\nclass A:\n    def __reduce__(self): return (print, ('ESCAPED',))\ncopy.copy(A())",
    "class_reduce_ex": "import copy\nclass A:\n    def __reduce_ex__(self, v): return (print, ('ESCAPED',))\ncopy.copy(A())",
    "class_setstate": "class A:\n    def __setstate__(self, s): pass\nprint('ESCAPED')",
    "class_instancecheck": "class A:\n    def __instancecheck__(self, x): return True\nprint('ESCAPED')",
    "class_subclasshook": "class A:\n    @classmethod\n    def __subclasshook__(cls, c): return True\nprint('ESCAPED')",
    "class_del": "class A:\n    def __del__(self): print('ESCAPED')\na = A()\ndel a",
    "class_slot_globals": "class A:\n    __globals__ = 1\nprint('ESCAPED')",
    "namedtuple_injection": "import collections\ncollections.namedtuple('P; print(\"ESCAPED\")', 'x')\nprint('ESCAPED')",
    # builtins
    "eval": "print('ESCAPED', eval('1'))",
    "exec": "exec('x = 1')\nprint('ESCAPED')",
    "compile": "compile('1', 'x', 'eval')\nprint('ESCAPED')",
    "eval_decorator": "@eval\nclass A: pass\nprint('ESCAPED')",
    "open": "print('ESCAPED', open('/proc/self/environ').read())",
    "breakpoint": "breakpoint()\nprint('ESCAPED')",
    "help": "help(1)\nprint('ESCAPED')",
    # listed vulnerabilities of RestrictedPython
    "cve_2023_37271_generator_stack": "def h():\n    yield g.gi_frame.f_back\ng = h()\nprint('ESCAPED', next(g))",
    "cve_2023_37271_comprehension": "def h():\n    yield [x for x in [g.gi_frame.f_back]]\ng = h()\nprint('ESCAPED', next(g))",
    "cve_2023_41039_format": "print('ESCAPED', str.format('{0.__class__.__mro__}', 1))",
    "cve_2023_41039_format_map": "print('ESCAPED', ('{x.__class__.__mro__}').format_map({'x': 1}))",
    "cve_2024_47532_string_module": "from string import Formatter\nprint('ESCAPED', Formatter().get_field('a.__class__', (), {'a': 1}))",
    "cve_2024_47532_attribute_error": "try: 'x'.nope\nexcept AttributeError as e: print('ESCAPED', e.obj)",
    "cve_2026_76825_getattr_formatter": "import string\nF = getattr(string, 'Formatter')\nprint('ESCAPED', F().get_field('a.__class__', (), {'a': 1}))",
    "cve_2025_22153_except_star": _F
    + "try:\n    raise ExceptionGroup('x', [ValueError(1)])\nexcept* ValueError as e: x = e\nprint('ESCAPED', x.__traceback__.tb_frame)",
    "lazy_import_dunder": "__lazy_import__ = 1\nprint('ESCAPED')",
    "type_parameters_scope": "class A[T: f.__globals__]: pass\nprint('ESCAPED', A.__type_params__)",
}
_NO_CONTROL = {
    "module_loader", "timeout_task", "class_instancecheck", "match_args_annotated", "help", "type_parameters_scope",
    "namedtuple_injection", "update_wrapper_updated", "bind_augmented", "breakpoint", "open", "set_name_owner", "memoryview_obj",
    "eval_decorator",
}  # fmt: skip
_MODULES = [
    "os",
    "sys",
    "subprocess",
    "ctypes",
    "builtins",
    "importlib",
    "inspect",
    "gc",
    "pickle",
    "marshal",
    "socket",
    "threading",
    "multiprocessing",
    "signal",
    "resource",
    "pathlib",
    "shutil",
    "tempfile",
    "codecs",
    "code",
    "codeop",
    "types_",
    "pty",
    "mmap",
    "fcntl",
    "asyncio.subprocess",
    "os.path",
    "linecache",
    "traceback",
    "weakref",
    "concurrent.futures",
    "_thread",
    "posix",
    "msgpack",
    "RestrictedPython",
    "rao_repl.worker",
    "recursive_agent",
]

LANGUAGE_ESCAPES = [
    *(
        Escape(n, f"{setup}found = {e}\nprint('ESCAPED', found)", n not in _NO_CONTROL)
        for n, (setup, e) in _EXPRESSIONS.items()
    ),
    *(Escape(n, code, n not in _NO_CONTROL) for n, code in _STATEMENTS.items()),
    *(Escape(f"import_{m}", f"import {m}\nprint('ESCAPED')", control=False) for m in _MODULES),
]
HOOK_ESCAPES = [
    *(Escape(f"hook_{n}", code, n not in NO_CONTROL) for n, code in HOOKS.items()),
    *(Escape(f"library_{n}", c, n not in escapes_library.NO_CONTROL) for n, c in escapes_library.LIBRARY.items()),
]
ESCAPES = LANGUAGE_ESCAPES + HOOK_ESCAPES
