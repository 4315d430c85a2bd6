# ruff: noqa: E501 (the code of a cell stands on one line)
"""What an agent's code experiences in a REPL, the same in every sandbox and under both event loops."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from recursive_agent.repl import (
    CellResult,
    HostCallError,
    HostFunction,
    HostRequest,
    InProcessSandbox,
    ProcessSandbox,
    Repl,
    ReplLimits,
    Sandbox,
    TrustedCodeWarning,
)
from tests.waiting import PATIENCE, until

from ..conftest import PATIENT, in_time

pytestmark = pytest.mark.anyio


class Host:
    """The host's side of the calls, and what it saw."""

    def __init__(self) -> None:
        self.seen: list[HostRequest] = []
        self.cancelled: list[str] = []
        self.gate = anyio.Event()
        self.started = anyio.Event()
        self.at_once = self.most_at_once = 0

    async def __call__(self, request: HostRequest) -> Any:
        self.seen.append(request)
        self.started.set()
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            return await self._answer(request)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(request.name)
            raise
        finally:
            self.at_once -= 1

    async def _answer(self, request: HostRequest) -> Any:
        match request.name:
            case "echo":
                await anyio.sleep(0)
                return request.args[0]
            case "gated":
                await self.gate.wait()
                return "through"
            case "forever":
                await anyio.sleep_forever()
            case "broken":
                raise KeyError("inside the host")
            case "odd":
                return object()
            case "launch_subagent":
                return self._launch(request.kwargs)
        raise AssertionError(request.name)

    def _launch(self, kwargs: Any) -> Any:
        goal = kwargs["goal"]
        if goal == "fail":
            raise HostCallError("SubagentError", "ran out of steps", status="step_limit", partial=[1, 2])
        if goal == "refuse":
            raise HostCallError("LaunchRefused", "too deep", reason="max_depth")
        return kwargs["context"] if goal == "context" else f"did {goal}"


TOOLS = [HostFunction(name, f"The tool {name}.") for name in ("echo", "gated", "forever", "broken", "odd")]
Open = Callable[..., Awaitable[Repl]]


@pytest.fixture(params=["process", "inprocess"])
async def box(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustedCodeWarning)
        made: Sandbox = ProcessSandbox(spares=1) if request.param == "process" else InProcessSandbox()
    async with made as sandbox:
        yield sandbox


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def repl(box: Sandbox, host: Host) -> AsyncIterator[Repl]:
    made = await box.open(call=host, functions=TOOLS, context={"text": "hello"}, limits=PATIENT)
    yield made
    await made.aclose()


async def ok(repl: Repl, code: str) -> str:
    result = await repl.run(code)
    assert result.status == "ok", result
    return result.output


async def failed(repl: Repl, code: str) -> CellResult:
    result = await repl.run(code)
    assert result.status == "error", result
    assert result.error is not None
    return result


LANGUAGE = {
    "arithmetic": ("1 + 1", "2\n"),
    "none_is_not_shown": ("None", ""),
    "statements_show_nothing": ("x = 1", ""),
    "print_and_echo": ("print('a', 'b', sep='-')\n'c'", "a-b\n'c'\n"),
    "fstring": ("x = 3\nprint(f'{x!r:>4}|{x:{2}d}|{x=}')", "   3| 3|x=3\n"),
    "augmented": ("d = {'a': 1}\nd['a'] += 2\nl = [1]\nl[0] *= 5\nd, l", "({'a': 3}, [5])\n"),
    "augmented_attribute": ("class A: pass\na = A()\na.n = 1\na.n += 1\na._m = 2\na._m -= 5\na.n, a._m", "(2, -3)\n"),
    "annotated": ("x: int = 4\ny: list[str]\nx", "4\n"),
    "walrus": ("[y := 3, y ** 2]", "[3, 9]\n"),
    "comprehensions": ("[i for i in range(4) if i % 2], {i for i in 'aa'}, {k: v for k, v in [(1, 2)]}", "([1, 3], {'a'}, {1: 2})\n"),
    "nested_comprehension": ("[[a * b for a in range(2)] for b in range(2)]", "[[0, 0], [0, 1]]\n"),
    "generator": ("def g():\n    x = yield 1\n    yield from [x, 3]\ni = g()\nnext(i), i.send(2), list(i)", "(1, 2, [3])\n"),
    "starred": ("def f(*a, **k): return a, k\nf(*[1, 2], 3, **{'x': 4})", "((1, 2, 3), {'x': 4})\n"),
    "unpacking": ("a, *b = [1, 2, 3]\n(c, d), e = (4, 5), 6\na, b, c, d, e", "(1, [2, 3], 4, 5, 6)\n"),
    "lambda_": ("(lambda x, /, y=2, *, z=3: x + y + z)(1)", "6\n"),
    "underscores": ("_ = 5\n_x = 6\nfor _, __ in [(1, 2)]: pass\n_, _x, __", "(1, 6, 2)\n"),
    "try_finally": ("try:\n    1 / 0\nexcept ZeroDivisionError as e: print(type(e).__name__, e)\nelse: print('no')\nfinally: print('f')", "ZeroDivisionError division by zero\nf\n"),
    "raise_from": ("try:\n    try: 1/0\n    except Exception as e: raise ValueError('x') from e\nexcept ValueError as e: print(repr(e.__cause__))", "ZeroDivisionError('division by zero')\n"),
    "except_star": ("try: raise ExceptionGroup('g', [ValueError(1)])\nexcept* ValueError as g: print(g.exceptions)", "(ValueError(1),)\n"),
    "with_": ("class C:\n    def __enter__(self): return 7\n    def __exit__(self, *a): return True\nwith C() as c: 1/0\nc", "7\n"),
    "context_manager": ("from contextlib import contextmanager\n@contextmanager\ndef c(): yield 2\nwith c() as x: print(x)", "2\n"),
    "match": ("match {'k': [1, 2, 3], 'z': 0}:\n    case {'k': [a, *rest], **more}: print(a, rest, more)", "1 [2, 3] {'z': 0}\n"),
    "match_class": ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: int = 0\nmatch P(1, 2):\n    case P(a, y=b): print(a, b)", "1 2\n"),
    "class_": ("class A:\n    n = 1\n    def __init__(self, x): self._x = x\n    @property\n    def x(self): return self._x\n    def __repr__(self): return f'A({self._x})'\nclass B(A):\n    def __init__(self): super().__init__(2)\nB(), B().x, B.n, isinstance(B(), A)", "(A(2), 2, 1, True)\n"),
    "class_methods": ("class A:\n    @classmethod\n    def c(cls): return cls.__name__\n    @staticmethod\n    def s(): return 1\nA.c(), A.s()", "('A', 1)\n"),
    "operators": ("class V:\n    def __init__(self, x): self.x = x\n    def __add__(self, o): return V(self.x + o.x)\n    def __eq__(self, o): return self.x == o.x\n    def __lt__(self, o): return self.x < o.x\n    def __len__(self): return self.x\n    def __getitem__(self, i): return i\n    def __iter__(self): return iter([1])\n    def __call__(self): return 9\nv = V(1) + V(2)\nv == V(3), V(1) < v, len(v), v[4], list(v), v()", "(True, True, 3, 4, [1], 9)\n"),
    "dataclass": ("from dataclasses import dataclass, field, asdict\n@dataclass(frozen=True, order=True)\nclass P:\n    x: int\n    y: list = field(default_factory=list)\nP(1), asdict(P(1, [2])), P(1) < P(2)", "(P(x=1, y=[]), {'x': 1, 'y': [2]}, True)\n"),
    "dataclass_slots": ("from dataclasses import dataclass\n@dataclass(slots=True)\nclass P:\n    x: int\np = P(1)\np.x = 2\np", "P(x=2)\n"),
    "future_annotations": ("from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(1)", "P(x=1)\n"),
    "enum": ("from enum import Enum, auto\nclass C(Enum):\n    A = auto()\n    B = auto()\nC.B.name, C.B.value, list(C)", "('B', 2, [<C.A: 1>, <C.B: 2>])\n"),
    "named_tuple": ("from collections import namedtuple\nfrom typing import NamedTuple\nP = namedtuple('P', 'x y')\nclass Q(NamedTuple):\n    a: int\n    b: int = 2\nP(1, 2)._asdict(), Q(1), P(1, 2)._replace(x=3)", "({'x': 1, 'y': 2}, Q(a=1, b=2), P(x=3, y=2))\n"),
    "own_exception": ("class E(Exception):\n    def __init__(self, n):\n        super().__init__(f'n={n}')\n        self.n = n\ntry: raise E(3)\nexcept E as e: print(e, e.n)", "n=3 3\n"),
    "own_method_format": ("class A:\n    def format(self, x): return x\nA().format(3)", "3\n"),
    "str_format": ("'{} {0[0]} {a.real:03d}'.replace('{}', '-').format([1], a=5), '{x}'.format_map({'x': 1})", "('- 1 005', '1')\n"),
    "getattr_": ("class A: x = 1\nsetattr(A, 'y', 2)\ngetattr(A, 'x'), getattr(A, 'z', 3), hasattr(A, 'y'), A().__dict__", "(1, 3, True, {})\n"),
    "function_attribute": ("def f(): pass\nf.calls = 1\nf.calls += 1\nf.calls", "2\n"),
    "globals_": ("x = 1\n'x' in globals(), 'nope' in globals(), '__builtins__' in globals()", "(True, False, False)\n"),
    "main_guard": ("if __name__ == '__main__': print('ran')", "ran\n"),
    "star_args_decorator": ("import functools\ndef d(f):\n    @functools.wraps(f)\n    def g(*a): return f(*a) + 1\n    return g\n@d\ndef h(x): return x\nh(1), h.__name__", "(2, 'h')\n"),
    "async_def": ("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x\nawait asyncio.gather(f(1), f(2))", "[1, 2]\n"),
    "async_for": ("async def g():\n    for i in range(2): yield i\nasync for i in g(): print(i)\n[i async for i in g()]", "0\n1\n[0, 1]\n"),
    "async_with": ("import asyncio\nlock = asyncio.Lock()\nasync with lock: print(lock.locked())", "True\n"),
    "task_group": ("import asyncio\nasync def f(): return 1\nasync with asyncio.TaskGroup() as g: t = g.create_task(f())\nt.result()", "1\n"),
    "queue": ("import asyncio\nq = asyncio.Queue()\nawait q.put(1)\nawait q.get()", "1\n"),
    "imports": ("import math, json as j, collections.abc, datetime as dt\nfrom re import sub\nfrom itertools import chain\nmath.floor(2.5), j.loads('[1]'), sub('a', 'b', 'ca'), dt.date(2020, 1, 2).isoformat()", "(2, [1], 'cb', '2020-01-02')\n"),
    "more_imports": ("import random, statistics, hashlib, base64, decimal, fractions, heapq, bisect, copy, string, textwrap, typing, operator\nstatistics.mean([1, 2]), hashlib.sha256(b'').hexdigest()[:4], operator.itemgetter(1)([1, 2]), decimal.Decimal('0.1') + 1, copy.deepcopy([[1]])", "(1.5, 'e3b0', 2, Decimal('1.1'), [[1]])\n"),
    "time": ("import time, datetime\ntime.time() > 0 and datetime.datetime.now().year > 2000 and datetime.datetime.strptime('2020', '%Y').year", "2020\n"),
    "big_int": ("2 ** 100", "1267650600228229401496703205376\n"),
    "csv_of_text": ("import csv, io\nlist(csv.DictReader(io.StringIO('a,b\\n1,2')))", "[{'a': '1', 'b': '2'}]\n"),
    "context": ("context['text']", "'hello'\n"),
}  # fmt: skip


async def test_the_language_is_python(repl: Repl) -> None:
    wrong = {}
    for name, (code, expected) in LANGUAGE.items():
        result = await repl.run(code)
        if result.output != expected or result.error:
            wrong[name] = (result.output, result.error)
    assert wrong == {}


async def test_variables_and_functions_persist_across_cells(repl: Repl) -> None:
    await ok(repl, "x = [1]\ndef f(): return x\nimport math")
    assert await ok(repl, "x.append(2); f(), math.pi > 3") == "([1, 2], True)\n"
    assert await ok(repl, "_[0]") == "[1, 2]\n"


async def test_tracebacks_show_the_agents_lines_and_nothing_else(repl: Repl) -> None:
    await ok(repl, "def f(x):\n    return 1 / x")
    result = await failed(repl, "import json\nf(0)")
    assert '<cell 1>", line 2, in f' in str(result.error)
    assert "return 1 / x" in str(result.error)
    assert str(result.error).endswith("ZeroDivisionError: division by zero\nHere x = 0")
    result = await failed(repl, "import json\njson.loads('{')")
    assert ".py" not in str(result.error)
    assert "JSONDecodeError" in str(result.error)
    result = await failed(repl, "def f(:\n    pass")
    assert "SyntaxError" in str(result.error)
    result = await failed(repl, "print('before')\nraise SystemExit(3)")
    assert result.output == "before\n"


async def test_a_refused_import_says_what_there_is(repl: Repl) -> None:
    error = str((await failed(repl, "import numpy")).error)
    assert "'numpy' is not available" in error
    assert "statistics" in error


async def test_long_output_keeps_its_head_and_tail_and_says_what_was_cut(box: Sandbox, host: Host) -> None:
    repl = await box.open(call=host, limits=ReplLimits(output_chars=300))
    output = await ok(repl, "print('first')\nfor i in range(10_000): print(i)\nprint('last')")
    assert output.startswith("first\n0\n1\n")
    assert output.endswith("9999\nlast\n")
    assert "characters cut" in output
    assert len(output) < 400
    assert len(await ok(repl, "'x' * 1_000_000")) < 400
    await repl.aclose()


async def test_host_functions_are_awaited_concurrently(repl: Repl, host: Host) -> None:
    assert await ok(repl, "await echo({'a': [1, 2.5, None, True, b'x', 'é', 2**70]})") == (
        "{'a': [1, 2.5, None, True, b'x', 'é', 1180591620717411303424]}\n"
    )
    code = "import asyncio\nt = [asyncio.create_task(gated()) for _ in range(20)]\nt += [asyncio.create_task(echo(1))]\nawait t[-1]"
    assert await ok(repl, code) == "1\n"
    host.gate.set()
    assert await ok(repl, "set(await asyncio.gather(*t[:20]))") == "{'through'}\n"
    assert host.most_at_once >= 20
    assert {request.cell for request in host.seen} == {1, 2}


async def test_a_call_that_nobody_awaits_never_runs_and_is_reported(repl: Repl, host: Host) -> None:
    result = await repl.run("echo(1)\nx = launch_subagent('g')\ny = await echo(2)")
    assert result.unawaited == ("echo", "launch_subagent")
    assert [request.args for request in host.seen] == [(2,)]
    assert await ok(repl, "await x") == "'did g'\n"
    assert "not awaited" in await ok(repl, "echo(3)")


async def test_a_task_goes_on_across_cells_and_is_listed(repl: Repl, host: Host) -> None:
    result = await repl.run("import asyncio\nt = asyncio.create_task(gated())")
    assert (result.running, result.unawaited) == (("gated",), ())
    assert (await repl.run("t.done()")).output == "False\n"
    host.gate.set()

    async def done() -> bool:
        return (await repl.run("t.done()")).output == "True\n"

    await until(done)
    result = await repl.run("t.done(), t.result()")
    assert result.output == "(True, 'through')\n"
    assert result.running == ()


async def test_errors_of_the_host_reach_the_agent_and_harm_nothing(repl: Repl) -> None:
    code = "try: await launch_subagent('fail')\nexcept SubagentError as e: print(e.status, e.partial, e, isinstance(e, LaunchRefused))"
    assert await ok(repl, code) == "step_limit [1, 2] ran out of steps False\n"
    code = (
        "try: await launch_subagent('refuse')\nexcept SubagentError as e: print(type(e).__name__, e.message, e.reason)"
    )
    assert await ok(repl, code) == "LaunchRefused too deep max_depth\n"
    assert "ToolError: broken failed: KeyError" in str((await failed(repl, "await broken()")).error)
    assert "ToolError: odd returned a value that is not plain data" in str((await failed(repl, "await odd()")).error)
    code = (
        "import asyncio\nr = await asyncio.gather(broken(), echo(5), return_exceptions=True)\ntype(r[0]).__name__, r[1]"
    )
    assert await ok(repl, code) == "('ToolError', 5)\n"


async def test_giving_up_on_a_call_cancels_it_at_the_host(repl: Repl, host: Host) -> None:
    code = "import asyncio\ntry: await asyncio.wait_for(forever(), 0.01)\nexcept TimeoutError: print('gave up')\nawait echo(1)"
    assert await ok(repl, code) == "gave up\n1\n"
    await until(lambda: host.cancelled == ["forever"])


async def test_closing_cancels_the_calls_and_waits_for_them(box: Sandbox, host: Host) -> None:
    repl = await box.open(call=host, functions=TOOLS)
    await repl.run("import asyncio\nt = asyncio.create_task(forever())")
    await host.started.wait()
    await repl.aclose()
    assert host.cancelled == ["forever"]
    await repl.aclose()


async def test_subagents_keep_what_every_child_found(repl: Repl) -> None:
    code = """
import asyncio
r = await asyncio.gather(launch_subagent("a"), launch_subagent("fail"), launch_subagent("refuse"), return_exceptions=True)
t = asyncio.create_task(launch_subagent("late"))
[type(x).__name__ for x in r]
"""
    assert await ok(repl, code) == "['str', 'SubagentError', 'LaunchRefused']\n"
    await repl.run("await t")
    assert await ok(repl, "[(s.goal, s.status, s.result) for s in subagents]") == (
        "[('a', 'finished', 'did a'), ('fail', 'step_limit', [1, 2]), ('late', 'finished', 'did late')]\n"
    )
    assert "<subagent 'a': finished, result='did a'>" in await ok(repl, "subagents")
    assert await ok(repl, "await subagents[0]") == "'did a'\n"


async def test_returns_becomes_a_schema_and_the_value_a_dataclass(repl: Repl, host: Host) -> None:
    code = """
from dataclasses import dataclass
from typing import Literal, Optional
@dataclass
class Leg:
    to: str
    km: float = 0.0
@dataclass
class Trip:
    legs: list[Leg]
    kind: Literal["day", "week"]
    note: Optional[str] = None
t = await launch_subagent("context", context={"legs": [{"to": "Rome", "km": 2.0}], "kind": "day"}, returns=Trip)
t, t.legs[0].to
"""
    assert await ok(repl, code) == "(Trip(legs=[Leg(to='Rome', km=2.0)], kind='day', note=None), 'Rome')\n"
    schema = host.seen[0].kwargs["returns"]
    assert schema["required"] == ["legs", "kind"]
    assert schema["properties"]["kind"] == {"enum": ["day", "week"]}
    assert schema["properties"]["legs"]["items"]["properties"]["km"] == {"type": "number"}
    await repl.run("await launch_subagent('context', context={'a': 1}, returns=dict[str, int])")
    assert host.seen[1].kwargs["returns"] == {"type": "object", "additionalProperties": {"type": "integer"}}
    await repl.run(
        "await launch_subagent('context', context=3, returns={'type': 'integer'}, max_steps=4, max_tokens=5)"
    )
    assert host.seen[2].kwargs == {
        "goal": "context", "context": 3, "returns": {"type": "integer"}, "max_steps": 4, "max_tokens": 5,
    }  # fmt: skip
    assert "not a type that can be described" in str((await failed(repl, "launch_subagent('g', returns=3)")).error)
    assert "goal must be text" in str((await failed(repl, "launch_subagent(3)")).error)


FINISHES = {
    "plain": "finish({'a': 1})",
    "in_bare_except": "try: finish({'a': 1})\nexcept: print('swallowed')\nprint('went on')",
    "in_base_exception": "try: finish({'a': 1})\nexcept BaseException: print('swallowed')\nprint('went on')",
    "in_function": "def f():\n    try: finish({'a': 1})\n    except BaseException: pass\nf()\nprint('went on')",
    "in_task": "import asyncio\nasync def f(): finish({'a': 1})\nawait asyncio.gather(f(), asyncio.sleep(9), return_exceptions=True)\nprint('went on')",
    "in_background_task": "import asyncio\nasync def f(): finish({'a': 1})\nt = asyncio.create_task(f())\nawait asyncio.sleep(9)\nprint('went on')",
    "suppressed": "import contextlib\nwith contextlib.suppress(BaseException): finish({'a': 1})\nprint('went on')",
    "swallowed_by_exit": "class C:\n    def __enter__(self): pass\n    def __exit__(self, *a): return True\ndef f():\n    with C(): finish({'a': 1})\n    print('went on')\nf()",
    "in_except_star": "try: finish({'a': 1})\nexcept* BaseException: pass\nprint('went on')",
    "in_nested_try": "try:\n    try: finish({'a': 1})\n    except Exception: pass\nexcept BaseException as e: pass\nprint('went on')",
}  # fmt: skip


@pytest.mark.parametrize("name", FINISHES)
async def test_finish_ends_the_cell_at_once(name: str, repl: Repl) -> None:
    result = await repl.run(FINISHES[name])
    assert (result.status, result.value, result.output, result.error) == ("finished", {"a": 1}, "", None)
    assert await ok(repl, "1") == "1\n"


async def test_finish_refuses_what_is_no_plain_data_and_the_agent_goes_on(repl: Repl) -> None:
    assert "cannot send a function" in str((await failed(repl, "finish(lambda: 1)")).error)
    assert "await it" in str((await failed(repl, "finish(echo(1))")).error)
    assert "nested too deeply" in str((await failed(repl, "x = []\nx.append(x)\nfinish(x)")).error)
    code = "from dataclasses import dataclass\nfrom collections import Counter\n@dataclass\nclass P:\n    x: tuple\nfinish([P((1, {2})), Counter('a')])"
    assert (await repl.run(code)).value == [{"x": [1, [2]]}, {"a": 1}]


async def test_the_clock_stands_still_while_a_cell_waits_for_the_host(
    box: Sandbox, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", 0.2)  # both clocks: the worker's and the host's
    repl = await box.open(call=host, functions=TOOLS, limits=ReplLimits(cell_timeout=1.0))
    async with anyio.create_task_group() as group:

        async def let_through() -> None:
            await host.started.wait()
            await anyio.sleep(1.3)
            host.gate.set()

        group.start_soon(let_through)
        result = await repl.run("await gated()")
    assert result.output == "'through'\n"
    assert result.wall > 1.2
    await repl.aclose()


@pytest.mark.parametrize("code", ["while True: pass", "import asyncio\nawait asyncio.sleep(60)", "import asyncio\nwhile True: await asyncio.sleep(0)"])  # fmt: skip
async def test_a_cell_is_stopped_at_its_limit_and_variables_survive(
    code: str, box: Sandbox, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recursive_agent.repl.worker_repl.KILL_GRACE", PATIENCE)  # it is interrupted, however late
    repl = await box.open(call=host, limits=ReplLimits(cell_timeout=0.2))
    assert (await in_time(repl, "x = 1")).status == "ok"
    result = await repl.run(
        f"try:\n{chr(10).join('    ' + line for line in code.splitlines())}\nexcept BaseException: print('swallowed')"
    )
    assert (result.status, result.output) == ("timeout", "")
    assert "0.2 seconds" in str(result.error)
    assert (await in_time(repl, "x")).output == "1\n"
    await repl.aclose()


async def test_a_large_document_reaches_a_child_and_goes_on_to_its_children_by_reference(
    box: Sandbox, host: Host
) -> None:
    document = "äbc" * 1_000_000
    repl = await box.open(call=host, functions=TOOLS, context={"doc": document, "small": "x"})
    assert await ok(repl, "len(context['doc']), context['doc'][:3]") == "(3000000, 'äbc')\n"
    await ok(repl, "r = await launch_subagent('nothing', context={'part': [context['doc']]})")
    assert host.seen[0].kwargs["context"]["part"][0] is document
    await repl.aclose()


async def test_only_the_agents_own_functions_are_there(box: Sandbox, host: Host) -> None:
    repl = await box.open(call=host, launcher=False)
    assert "NameError" in str((await failed(repl, "launch_subagent")).error)
    assert "NameError" in str((await failed(repl, "echo")).error)
    await repl.aclose()
