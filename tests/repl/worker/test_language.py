# ruff: noqa: E501 (the code of a cell stands on one line)
"""What the language leaves as Python has it: classes, copies, enums, patterns, the library in its usual use."""

from __future__ import annotations

import pytest

from .language_lab import Lab, Oracle, in_lab

PROGRAMS = [
    ("from enum import Enum\nC=Enum('C','R G B')\nC.R, C['G'], C(3), C.__members__", "(<C.R: 1>, <C.G: 2>, <C.B: 3>, {'R': <C.R: 1>, 'G': <C.G: 2>, 'B': <C.B: 3>})"),
    ("from enum import Enum\nclass C(Enum):\n    R='r'\n    @classmethod\n    def d(cls): return cls.R\n    @property\n    def up(self): return self.value.upper()\n    def __str__(self): return self.name\nC.d(), C.R.up, str(C.R), C('r'), [c.name for c in C], C.R in C, len(C)", "(<C.R: 'r'>, 'R', 'R', <C.R: 'r'>, ['R'], True, 1)"),
    ("from enum import IntEnum, StrEnum, Flag, IntFlag, auto, unique\n@unique\nclass P(IntEnum):\n    A=1\n    B=2\nclass S(StrEnum):\n    X=auto()\nclass F(Flag):\n    R=auto()\n    W=auto()\nclass G(IntFlag):\n    R=auto()\n    W=auto()\nP.A<P.B, S.X, F.R|F.W, G.R|4, f'{P.A}', f'{S.X}', F(3)", "(True, <S.X: 'x'>, <F.R|W: 3>, <G.R|4: 5>, '1', 'x', <F.R|W: 3>)"),
    ("class M:\n    def hi(self): return 1\nfrom enum import Enum\nclass C(str, Enum):\n    A='a'\nC.A.upper(), C.A.value, C.A.format()", "('A', 'a', 'a')"),
    ("from typing import NamedTuple, TypedDict\nP=NamedTuple('P',[('x',int)])\nT=TypedDict('T',{'a':int})\nclass U(TypedDict, total=False):\n    b:int\nP(1), T(a=1), U(b=2), P._fields", "(P(x=1), {'a': 1}, {'b': 2}, ('x',))"),
    ("from collections import namedtuple\nP=namedtuple('P',['a','b'],defaults=[5])\nclass Q(P):\n    def s(self): return self.a+self.b\nQ(1).s(), Q(1)._replace(a=4), P._make([1,2]), P(1)._asdict(), P(1).count(1)", "(6, Q(a=4, b=5), P(a=1, b=2), {'a': 1, 'b': 5}, 1)"),
    ('from types import SimpleNamespace\ns=SimpleNamespace(a=1,b=[2])\ns.c=3\ns.a+=1\ns, s.b, vars(s), s==SimpleNamespace(a=2,b=[2],c=3)', "(namespace(a=2, b=[2], c=3), [2], {'a': 2, 'b': [2], 'c': 3}, True)"),
    ('import copy\nfrom dataclasses import dataclass, field\n@dataclass\nclass N:\n    v:int\n    k:list=field(default_factory=list)\nn=N(1,[N(2)])\nm=copy.deepcopy(n)\nm.k[0].v=9\nc=copy.copy(n)\nn, m, c.k is n.k', '(N(v=1, k=[N(v=2, k=[])]), N(v=1, k=[N(v=9, k=[])]), True)'),
    ("import copy\nclass A:\n    __slots__=('x','y')\n    def __init__(self): self.x=[1]\na=A()\nb=copy.deepcopy(a)\nb.x is a.x, b.x, hasattr(b,'y')", '(False, [1], False)'),
    ("import copy\nfrom collections import Counter, defaultdict, deque, OrderedDict\nclass D(dict): pass\nd=D(a=[1]); d.z=3\ne=copy.deepcopy(d)\ntype(e).__name__, e, e.z, copy.deepcopy(Counter('aab')), copy.deepcopy(defaultdict(list,{1:[2]})), copy.copy(deque([1],3)), copy.deepcopy(OrderedDict(a=1)), copy.deepcopy({1,(2,3)}), copy.deepcopy(bytearray(b'a'))", "('D', {'a': [1]}, 3, Counter({'a': 2, 'b': 1}), defaultdict(<class 'list'>, {1: [2]}), deque([1], maxlen=3), OrderedDict([('a', 1)]), {(2, 3), 1}, bytearray(b'a'))"),
    ('import copy\nl=[1]; l.append(l)\nm=copy.deepcopy(l)\nm[1] is m, m is l', '(True, False)'),
    ('import copy\nt=(1,[2])\nu=copy.deepcopy(t)\nu, u[1] is t[1], copy.deepcopy((1,2))', '((1, [2]), False, (1, 2))'),
    ('import copy\nclass E(ValueError):\n    def __init__(s,a): super().__init__(a); s.q=a\ne=copy.deepcopy(E([1]))\ne.q, e.args', '([1], ([1],))'),
    ("import copy\nclass A:\n    def __deepcopy__(self, memo): return 'dc'\n    def __copy__(self): return 'c'\ncopy.copy(A()), copy.deepcopy([A()])", "('c', ['dc'])"),
    ("from collections import namedtuple\nimport copy\nP=namedtuple('P','a b')\ncopy.deepcopy(P(1,[2])), copy.copy(P(1,2))", '(P(a=1, b=[2]), P(a=1, b=2))'),
    ('from dataclasses import dataclass, asdict, astuple, replace, fields\n@dataclass(order=True, slots=True, kw_only=True)\nclass P:\n    x:int=0\n    _y:int=1\nasdict(P()), astuple(P()), replace(P(),x=4), [f.name for f in fields(P)], P(x=1)<P(x=2)', "({'x': 0, '_y': 1}, (0, 1), P(x=4, _y=1), ['x', '_y'], True)"),
    ('from dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n    x:int\ntry:\n    p=P(1)\n    p.x=2\nexcept Exception as e: print(type(e).__name__, e)', "FrozenInstanceError cannot assign to field 'x'"),
    ("import decimal\ndecimal.getcontext().prec=5\ndecimal.Decimal(1)/3, decimal.Decimal('1.5').quantize(decimal.Decimal('1')), decimal.Decimal(1).as_tuple().digits", "(Decimal('0.33333'), Decimal('2'), (1,))"),
    ("import re\nm=re.match(r'(?P<a>\\d+)','12x')\nm.group('a'), m.groupdict(), m.start(), re.compile('a').pattern, re.compile('(?P<q>a)').groupindex, re.I", "('12', {'a': '12'}, 0, 'a', {'q': 1}, re.IGNORECASE)"),
    ('import statistics as s\ns.NormalDist(0,1).cdf(0), s.linear_regression([1,2],[1,2]).slope, s.quantiles([1,2,3])', '(0.5, 1.0, [1.0, 2.0, 3.0])'),
    ('import functools\n@functools.lru_cache(maxsize=None)\ndef f(n): return n if n<2 else f(n-1)+f(n-2)\nf(30), f.cache_info().hits, f.__name__', "(832040, 28, 'f')"),
    ('import functools\n@functools.lru_cache\ndef f(n): return n\n@functools.cache\ndef g(n): return n\nf(1), g(2), functools.partial(f,3)(), functools.partial(f,3).args, functools.reduce(lambda a,b:a+b,[1,2])', '(1, 2, 3, (3,), 3)'),
    ('import functools\nclass A:\n    @functools.cached_property\n    def p(self): return 5\n    @functools.lru_cache\n    def q(self): return 6\nA().p, A().q()', '(5, 6)'),
    ('import functools\n@functools.total_ordering\nclass A:\n    def __init__(s,x): s.x=x\n    def __lt__(s,o): return s.x<o.x\n    def __eq__(s,o): return s.x==o.x\nA(1)>=A(0)', 'True'),
    ("import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n    @property\n    @abc.abstractmethod\n    def g(self): ...\nclass B(A):\n    def f(self): return 1\n    g=2\ntry: A()\nexcept TypeError as e: print('abstract')\nB().f(), isinstance(B(),A)", 'abstract|(1, True)'),
    ("import contextlib\nwith contextlib.ExitStack() as st:\n    st.callback(print,'cb')\n    st.enter_context(contextlib.nullcontext(3))\nwith contextlib.suppress(ValueError): raise ValueError\n@contextlib.asynccontextmanager\nasync def c():\n    yield 4\nasync with c() as x: print(x)", 'cb|4|None'),
    ("import asyncio\nq=asyncio.Queue()\nasync def w():\n    while True:\n        x=await q.get()\n        q.task_done()\n        if x is None: return 5\nt=asyncio.create_task(w(), name='n')\nawait q.put(1); await q.put(None)\nprint(await t, t.done(), t.get_name(), q.qsize())\nsem=asyncio.Semaphore(2)\nasync with sem: pass\nasync with asyncio.timeout(1): pass\nasync with asyncio.TaskGroup() as tg:\n    a=tg.create_task(asyncio.sleep(0,1))\nprint(a.result(), await asyncio.gather(asyncio.sleep(0,2),asyncio.sleep(0,3)))\nd,p=await asyncio.wait([asyncio.create_task(asyncio.sleep(0))])\nprint(len(d))\nfor f in asyncio.as_completed([asyncio.sleep(0,1)]): print(await f)\nt.add_done_callback(lambda f: print('done',f.result()))\nawait asyncio.sleep(0)", '5 True n 0|1 [2, 3]|1|1|done 5|None'),
    ("import json\njson.dumps({'a':{1,2}}, default=list, indent=1), json.loads('[1]', parse_int=str)", '(\'{\\n "a": [\\n  1,\\n  2\\n ]\\n}\', [\'1\'])'),
    ("import csv, io\nf=io.StringIO()\nw=csv.DictWriter(f,fieldnames=['a'])\nw.writeheader(); w.writerow({'a':1})\nf.getvalue(), csv.writer(f).writerow([1])", "('a\\r\\n1\\r\\n', 3)"),
    ("import operator\nclass A:\n    x=1\n    def m(self,k): return k\nsorted([A()],key=operator.attrgetter('x'))[0].x, operator.methodcaller('m',5)(A()), operator.attrgetter('x','m')(A())[0]", '(1, 5, 1)'),
    ('class A:\n    def __init__(self): self.items=[]\n    def add(self,x):\n        self.items += [x]\n        return self\na=A(); i=a.items\na.add(1).add(2).items, i is a.items', '([1, 2], True)'),
    ("class B:\n    def hi(self): return 'b'\n    def format(self,x): return x\nclass C(B):\n    def hi(self): return super().hi()+'c'\n    def register(self): return 7\nC().hi(), C().format(3), C().register(), C.hi(C())", "('bc', 3, 7, 'bc')"),
    ('class L(list):\n    def append(self,x):\n        super().append(x)\n        return len(self)\n    def first(self): return super().copy()[0]\nl=L([1])\nl.append(4), l.first(), l', '(2, 1, [1, 4])'),
    ("class S(str):\n    def shout(self): return self.upper()+super().format(1)\nS('a{}').shout(), S('x{}').format(2), str.format('{}',3), '{a.x}'.format(a=type('')) if 0 else 1", "('A{}a1', 'x2', '3', 1)"),
    ("from collections import UserDict, UserList, ChainMap\nclass U(UserDict):\n    def __getitem__(self,k): return self.data[k]*2\nu=U(a=1)\nu['a'], u.get('a'), list(u.keys()), ChainMap({1:2},{3:4}).maps, ChainMap({1:2}).new_child({5:6})[5]", "(2, 2, ['a'], [{1: 2}, {3: 4}], 6)"),
    ("type(1), type('')==str, type([]) is list, type(lambda:0).__name__, type(print).__name__, type(None), type(int), isinstance(len, type(len)), type(ValueError()), isinstance(1,type(1))", "(<class 'int'>, True, True, 'function', 'method', <class 'NoneType'>, <class 'type'>, True, <class 'ValueError'>, True)"),
    ('def f(): pass\nasync def c(): pass\nx=c(); x.close()\n{type(f):1}[type(lambda:1)], type(x).__name__, type(i for i in []).__name__', "(1, 'coroutine', 'generator')"),
    ("try:\n    {}['a']\nexcept KeyError as e: print(e.args, type(e).__name__, e.__class__.__name__)\ntry: int('x')\nexcept ValueError as e: print(e)\ntry: raise OSError(2,'x')\nexcept OSError as e: print(e.errno, e.strerror)\nimport json\ntry: json.loads('{')\nexcept json.JSONDecodeError as e: print(e.pos, e.msg, e.lineno)\ntry: 'a'.foo\nexcept AttributeError as e: print(e)", "('a',) KeyError KeyError|invalid literal for int() with base 10: 'x'|2 x|1 Expecting property name enclosed in double quotes 1|'str' object has no attribute 'foo'"),
    ("e=ValueError('x')\ne.add_note('n')\ne.extra=5\ne.__notes__, e.extra", "(['n'], 5)"),
    ('g=(i for i in [1,2])\nnext(g), g.send(None), g.close()', '(1, 2, None)'),
    ('match (1,[2,3]):\n    case (int(a),[b,*c]): print(a,b,c)', '1 2 [3]'),
    ("from enum import Enum\nclass C(Enum):\n    R=1\nx=C.R\nmatch x:\n    case C.R: print('red')\n    case _: print('no')", 'red'),
    ("match {'t':'a','v':[1,{'k':5}]}:\n    case {'t':'b'}: print('b')\n    case {'t':'a','v':[int(n),{'k':str()|int() as k}],**r} if n==1: print(n,k,r)", '1 5 {}'),
    ("class P:\n    __match_args__=('x','y')\n    def __init__(s,x,y): s.x=x; s.y=y\ndef f(p):\n    match p:\n        case P(0,0): return 'o'\n        case P(x=0,y=v)|P(v,0): return v\n        case P(): return 'p'\n        case [P(a,_),*_]: return a\n        case None: return None\n        case str(s): return s\nf(P(0,0)),f(P(0,5)),f(P(6,0)),f(P(1,1)),f([P(9,1),2]),f(None),f('q'), f(3)", "('o', 5, 6, 'p', 9, None, 'q', None)"),
    ('class A:\n    def __getattr__(self,n): return n\n    def __setattr__(self,n,v): object\nA().foo, A().bar', "('foo', 'bar')"),
    ('class Meta:\n    reg={}\n    def __init_subclass__(cls, **kw):\n        super().__init_subclass__()\n        Meta.reg[cls.__name__]=kw\nclass X(Meta, tag=1): pass\nMeta.reg', "{'X': {'tag': 1}}"),
    ('class Single:\n    _i=None\n    def __new__(cls):\n        if cls._i is None: cls._i=super().__new__(cls)\n        return cls._i\nSingle() is Single()', 'True'),
    ("from typing import Generic, TypeVar\nT=TypeVar('T')\nclass St(Generic[T]):\n    def __init__(self): self.i=[]\n    def push(self,x:T): self.i.append(x)\ns=St[int]()\ns.push(1)\ns.i", '[1]'),
    ('class D:\n    def __set_name__(self,o,n): self.n=n\n    def __get__(self,o,t): return self.n if o else self\n    def __set__(self,o,v): pass\nclass A:\n    f=D()\nA().f, A.f.n', "('f', 'f')"),
    ("dir('')[0], [n for n in dir([]) if n=='append'], hasattr([], 'append'), getattr([], 'append')(1), getattr({}, 'nope', 3), callable(print)", "('capitalize', ['append'], True, None, 3, True)"),
    ('def f(x): return x\nf.calls=0\nf.calls+=1\nf.calls, f.__name__, f.__doc__, (lambda:0).__name__', "(1, 'f', None, '<lambda>')"),
    ("def deco(fn):\n    import functools\n    @functools.wraps(fn)\n    def w(*a,**k):\n        w.n+=1\n        return fn(*a,**k)\n    w.n=0\n    return w\n@deco\ndef g(): 'doc'\ng(); g()\ng.n, g.__name__, g.__doc__", "(2, 'g', 'doc')"),
    ("try: raise ExceptionGroup('g',[ValueError(1),TypeError(2)])\nexcept ExceptionGroup as e: print(e.message, len(e.exceptions), e.split(ValueError)[0].exceptions)", 'g 2 (ValueError(1),)'),
    ("import math\nmath.pi, math.inf, math.gcd(4,6), int.from_bytes(b'a','big'), float.fromhex('0x1'), dict.fromkeys('ab'), str.maketrans('a','b'), bytes.fromhex('00'), (5).bit_length(), (1.5).is_integer(), (1+2j).imag", "(3.141592653589793, inf, 2, 97, 1.0, {'a': None, 'b': None}, {97: 98}, b'\\x00', 3, False, 2.0)"),
    ("x=[1,2,3]\nx[0:2], {1:2}.items() & {(1,2)}, sorted(x,key=lambda v:-v), 'a,b'.split(','), ' a '.strip(), 'x'.join('ab'), 'abc'.encode().decode(), b'a'.hex(), memoryview(b'abc').tobytes(), range(5).stop, slice(1,2).start", "([1, 2], {(1, 2)}, [3, 2, 1], ['a', 'b'], 'a', 'axb', 'abc', '61', b'abc', 5, 1)"),
    ('class Outer:\n    class Inner:\n        v=1\n    def f(self): return self.Inner.v\nOuter().f(), Outer.Inner.v, Outer.__name__, Outer.Inner.__qualname__', "(1, 1, 'Outer', 'Outer.Inner')"),
    ('a: list[int] = []\nfrom typing import Optional, Any, Callable\ndef f(x: Optional[int]=None, g: Callable[[int],str]|None=None)->Any: ...\nf()', 'None'),
    ("import time\ntime.strftime('%Y', time.gmtime(0)), time.perf_counter()>0", "('1970', True)"),
    ("class A:\n    x: int = 1\n    def m(self):\n        match self:\n            case A(x=1): return 'one'\nA().m()", "'one'"),
    ('class A:\n    match 1:\n        case int(q): z = q\nA.z, [n for n in dir(A)]', "(1, ['q', 'z'])"),
    ('class A:\n    k=0\nclass B:\n    a=A()\n    a.k += 3\nB.a.k', '3'),
    ('async def f():\n    class X: pass\n    x=X(); x.n=1\n    x.n += await asyncio.sleep(0, 2)\n    return x.n\nawait f()', '3'),
]  # fmt: skip


@pytest.mark.parametrize(("code", "shown"), PROGRAMS, ids=range(len(PROGRAMS)))
def test_the_usual_use_of_the_library_is_left_alone(code: str, shown: str) -> None:
    def work(lab: Lab, oracle: Oracle) -> None:
        lab.run(code)
        assert "|".join(lab.host.printed) == shown
        assert oracle.changed() == []

    in_lab(work)


def test_classes_that_nobody_holds_are_forgotten() -> None:
    from recursive_agent.repl.worker import reads

    def work(lab: Lab, oracle: Oracle) -> None:
        import gc

        gc.collect()
        before = len(reads._agents)
        lab.run("def f():\n    class A: pass\nfor i in range(50): f()")
        gc.collect()
        assert len(reads._agents) == before

    in_lab(work)


_SUBJECTS = "[1, [1, 2, 3], (1, 2), {'a': 1, 'b': P(1, 2)}, P(1, [2]), P(0, 'x'), N(3), 'text', None, 2.5, [P(1, 1), N(2)], {}, [], b'x', C.R]"
_MATCH = """
from dataclasses import dataclass
from collections import namedtuple
from enum import Enum
@dataclass
class P:
    x: object
    y: object
N = namedtuple("N", "z")
class C(Enum):
    R = 1
def f(s):
    match s:
        case C.R: return "red"
        case P(0, str(t)): return "text", t
        case P(x=1, y=[a, *rest]): return "list", a, rest
        case {"a": int(n), "b": P(x, y), **others}: return "dict", n, x, y, others
        case [P(a, b) as p, N(z=c) | N(c)]: return "pair", a, b, p, c
        case N(z) if z > 2: return "named", z
        case [1, 2 | 3 as last]: return "tuple", last
        case [first, *_, 3]: return "long", first
        case str() | bytes() as t: return "t", t
        case int(i) | float(i): return "number", i
        case None: return "none"
        case {}: return "empty"
        case _: return "else"
print([f(s) for s in SUBJECTS])
"""


def test_patterns_match_as_pythons_own_do(capsys: pytest.CaptureFixture[str]) -> None:
    code = _MATCH.replace("SUBJECTS", _SUBJECTS)
    exec(code, {"__name__": "__main__"})
    expected = capsys.readouterr().out.strip()

    def work(lab: Lab, oracle: Oracle) -> None:
        lab.run(code)
        assert lab.host.printed[0] == expected

    in_lab(work)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("P(1, 2, 3)", "accepts 2 positional"), ("int(1, 2)", "accepts 1 positional"), ("P(1, x=1)", "multiple sub-patterns"), ("five(x=1)", "must be a class")],
)  # fmt: skip
def test_a_wrong_class_pattern_is_a_type_error(pattern: str, message: str) -> None:
    def work(lab: Lab, oracle: Oracle) -> None:
        code = (
            _MATCH.replace("SUBJECTS", "[]")
            + f"five = 5\nfor s in (P(1, 2), 3):\n    match s:\n        case {pattern}: pass"
        )
        with pytest.raises(TypeError, match=message):
            lab.run(code)

    in_lab(work)
