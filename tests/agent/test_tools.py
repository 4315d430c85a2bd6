"""Tools as applications write them: what they take, what they give, and what goes wrong inside."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import enum
import functools
import math
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import anyio
import pytest
from pydantic import BaseModel, Field
from typing_extensions import Doc, TypedDict

from recursive_agent import Agent, ConfigurationError, ToolContext, threads, tool, tools
from recursive_agent.prompts import _describe_tools
from recursive_agent.testing import ScriptedEndpoint, replies
from recursive_agent.tools import MOST_ITEMS, Tool, ToolFailed
from tests.waiting import PATIENCE, until

from .helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio
CONTEXT = ToolContext("run", "0", None, 0, "goal")


async def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await Tool(function).call(CONTEXT, args, kwargs)


async def failed(function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(ToolFailed) as refused:
        await call(function, *args)
    return str(refused.value)


# -- what they give ---------------------------------------------------------------------------------------------------


async def test_generators_of_both_kinds_give_their_items() -> None:
    def sync() -> Iterator[int]:
        yield from (1, 2)

    async def asynchronous() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep(0)
        yield 2

    async def returns_one() -> Any:
        return asynchronous()

    for function in (sync, asynchronous, returns_one, lambda: asynchronous()):
        assert await call(tool(name="numbers")(function)) == [1, 2]


async def test_small_plain_results_of_async_tools_take_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(dict[str, int]):
        """May run code of its own while it is gone over."""

    results: list[Any] = [{"a": (1, [2.5, None])}, list(range(400)), [1] * 501, Own(a=1), [Own()]]

    async def give(number: int) -> Any:
        return results[number]

    threads_taken: list[int] = []
    settled = tools.settled_in_thread

    async def counted(function: Callable[[], Any]) -> Any:
        threads_taken.append(number)
        return await settled(function)

    monkeypatch.setattr(tools, "settled_in_thread", counted)
    given = []
    for number in range(len(results)):
        given.append(await call(give, number))
    assert given == [{"a": [1, [2.5, None]]}, list(range(400)), [1] * 501, {"a": 1}, [{}]]
    assert threads_taken == [2, 3, 4]


async def test_generators_that_never_end_are_stopped_and_closed() -> None:
    closed: list[str] = []

    def sync() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append("sync")

    async def asynchronous() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append("async")

    assert "too large" in await failed(sync)
    assert f"more than {MOST_ITEMS:,} items" in await failed(asynchronous)
    assert sorted(closed) == ["async", "sync"]


async def test_a_generator_that_fails_midway_is_a_failed_call() -> None:
    async def pages() -> AsyncIterator[int]:
        yield 1
        raise ValueError("page 2 is gone")

    assert await failed(pages) == "pages() raised ValueError: page 2 is gone"


async def test_a_value_without_a_plain_form_names_the_tool_and_the_kind() -> None:
    class Opaque:
        pass

    def fetch() -> Any:
        return {"x": [Opaque()]}

    async def fetch_later() -> Any:
        return fetch()

    for function in (fetch, fetch_later):
        told = await failed(function)
        assert function.__name__ in told
        assert "Opaque" in told
        assert "give text, numbers" in told


# -- what goes wrong inside -------------------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


FAULTS: list[Callable[[], BaseException]] = [
    lambda: ValueError("v"),
    lambda: KeyError("k"),
    lambda: RecursionError("deep"),
    lambda: StopIteration(),
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt(),
    lambda: GeneratorExit(),
    lambda: asyncio.CancelledError(),
    lambda: ExceptionGroup("several", [ValueError("a"), ValueError("b")]),
    lambda: BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("b")]),
    lambda: BaseException("bare"),
    lambda: Mute(),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_whatever_a_tool_raises_costs_that_call_alone(fault: Callable[[], BaseException], kind: str) -> None:
    def sync() -> None:
        raise fault()

    async def asynchronous() -> None:
        raise fault()

    told = await failed(sync if kind == "sync" else asynchronous)
    name = type(fault()).__name__
    assert name in told or "cancelled from within" in told or "StopIteration" in told
    assert await call(tool(name="good")(lambda: 1)) == 1  # the event loop lives


async def test_a_call_that_is_cancelled_ends_at_once_and_its_thread_goes_on_alone() -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(PATIENCE)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, hang)
            await until(begun.is_set)
            with anyio.fail_after(PATIENCE):
                tasks.cancel_scope.cancel()
    finally:
        release.set()


async def test_an_argument_with_a_name_of_any_length_makes_no_long_error() -> None:
    def plain(value: int) -> int:
        return value

    for name in ("x" * 1_000_000, "context" * 100_000):
        with pytest.raises(ToolFailed) as refused:
            await Tool(plain).call(CONTEXT, (), {name: 1})
        assert len(str(refused.value)) < 2_000


async def test_who_gives_up_calls_that_go_on_takes_no_threads_from_others() -> None:
    release = threading.Event()
    begun = []

    def hang() -> None:
        begun.append(1)
        release.wait(PATIENCE)

    def quick() -> int:
        return 1

    async def give_up(context: ToolContext) -> None:
        before = len(begun)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Tool(hang).call, context, (), {})
            await until(lambda: len(begun) > before)
            tasks.cancel_scope.cancel()

    agents = [ToolContext("run", f"0.{number}", "0", 1, "goal") for number in range(9)]
    try:
        for context in agents[:8]:
            for _ in range(threads.MOST_LEFT):
                await give_up(context)
            if context is agents[0]:
                with pytest.raises(ToolFailed, match="16 calls that you gave up are still running"):
                    await Tool(quick).call(context, (), {})
                assert await Tool(quick).call(agents[1], (), {}) == 1
        with pytest.raises(ToolFailed, match="128 calls that the agents of this run gave up"):
            await Tool(quick).call(agents[8], (), {})
        assert await Tool(quick).call(replace(agents[0], run="another"), (), {}) == 1
    finally:
        release.set()
    await until(lambda: not threads._left)
    assert await Tool(quick).call(agents[0], (), {}) == 1


async def test_a_cancelled_async_tool_is_not_told_as_a_failure() -> None:
    cleaned: list[bool] = []

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    with anyio.move_on_after(0.01) as scope:
        await call(hang)
    assert scope.cancelled_caught
    assert cleaned == [True]


async def test_a_thrown_away_call_makes_no_noise() -> None:
    async def hang() -> None:
        await anyio.sleep_forever()

    Tool(hang).call(CONTEXT, (), {}).close()  # never begun
    begun: Any = Tool(hang).call(CONTEXT, (), {})
    begun.send(None)
    begun.close()  # waiting: what is thrown away must not raise anything but what it was thrown


async def test_sync_tools_see_the_callers_context_and_may_run_a_loop_of_their_own() -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place")
    place.set("here")

    def look() -> list[Any]:
        async def inner() -> int:
            return 7

        return [place.get(), asyncio.run(inner()), anyio.run(inner), threading.current_thread().daemon]

    assert await call(look) == ["here", 7, 7, True]


async def test_sync_tools_run_beside_each_other() -> None:
    both = threading.Barrier(2)

    def meet() -> bool:
        both.wait(PATIENCE)
        return True

    got: list[Any] = []

    async def one() -> None:
        got.append(await call(meet))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    assert got == [True, True]


def test_a_hung_tool_does_not_keep_the_program_alive(tmp_path: Any) -> None:
    program = """
    import sys, threading, time
    from recursive_agent import Agent, Limits
    from recursive_agent.testing import ScriptedEndpoint

    def hang():
        threading.Event().wait()

    with ScriptedEndpoint("```python\\nawait hang()\\n```") as endpoint:
        agent = Agent("scripted", endpoint.base_url, tools=[hang], limits=Limits(timeout=1))
        print(agent.solve_sync("g").status.value)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "tree_timeout\n"), done.stderr


async def test_a_run_survives_every_kind_of_fault() -> None:
    def leave() -> None:
        raise SystemExit(1)

    async def interrupt() -> None:
        raise KeyboardInterrupt

    code = """
    seen = []
    for name in ("leave", "interrupt"):
        try:
            await (leave() if name == "leave" else interrupt())
        except ToolError as error:
            seen.append(str(error))
    finish(seen)
    """
    with ScriptedEndpoint(py(code)) as endpoint:
        result = await agent_on(endpoint, tools=(leave, interrupt)).solve("g")
    assert ["SystemExit" in result.output[0], "KeyboardInterrupt" in result.output[1]] == [True, True]


# -- what is said of them ---------------------------------------------------------------------------------------------


class Kind(enum.Enum):
    WEEKLY = "weekly-kind"
    DAILY = "daily-kind"


class Cell(BaseModel):
    """One cell.

    With more to say.
    """

    text: str = Field(min_length=1, description="what stands in it")
    below: Cell | None = None
    named: int = Field(alias="no", default=1)


@dataclass
class Sheet:
    cells: list[Cell]
    kind: Kind = Kind.DAILY


class Options(TypedDict, total=False):
    wide: Annotated[bool, Field(description="over both pages")]


class Place(NamedTuple):
    row: int


def report(
    sheet: Sheet,
    kind: Kind = Kind.WEEKLY,
    options: Options | None = None,
    copies: Annotated[int, Field(gt=0, le=9, description="how many")] = 1,
    day: Annotated[str, "an ISO date"] = "today",
    old: int = Field(3, ge=1, description="of long ago"),
    how: Annotated[Literal["fast", "slow"], Doc("speed")] = "fast",
    thing: Any = threading.Lock,
    *places: Place,
    context: Annotated[ToolContext, "who asks"] = CONTEXT,
) -> list[Cell]:
    """Send a report."""
    return []


def test_parameters_are_spelt_out_in_pythons_words() -> None:
    said = _describe_tools({"report": Tool(report), "again": Tool(tool(name="again")(partial(report)))})
    signature = (
        "await report(sheet: Sheet, kind: Kind = 'weekly-kind', options: Options | None = None, copies: int = 1, "
        "day: str = 'today', old: int = 3, how: Literal['fast', 'slow'] = 'fast', thing: Any = …, *places: Place) -> list[Cell]"
    )
    lines = [line.strip() for line in said.splitlines()]
    assert signature in lines
    for line in (
        "Send a report.",
        "copies: how many; more than 0; at most 9",
        "day: an ISO date",
        "old: of long ago; at least 1",
        "how: speed",
        "Kind: one of 'weekly-kind', 'daily-kind'",
        "Sheet: a dict",
        "cells: list[Cell]",
        "kind: Kind = 'daily-kind'",
        "Cell: a dict: One cell.",
        "text: str  # what stands in it; at least 1 characters",
        "below: Cell | None = None",
        "no: int = 1",
        "Options: a dict",
        "wide: bool (optional)  # over both pages",
    ):
        assert line in lines, line
    assert lines.count("Cell: a dict: One cell.") == 1  # however many tools take it
    for trace_of_ours in ("FieldInfo", "Annotated", "tests.", "0x", "context"):
        assert trace_of_ours not in said


def test_simple_tools_are_described_in_one_line() -> None:
    def search(query: str, limit: int = 5, tags: list[str] | None = None) -> list[str]:
        """Find it."""
        return []

    said = _describe_tools({"search": Tool(search)})
    assert said == (
        "\nTools (await them):\n  await search(query: str, limit: int = 5, tags: list[str] | None = None) -> list[str]\n"
        "      Find it.\n"
    )


async def test_what_is_said_of_a_parameter_is_what_it_takes() -> None:
    def send(sheet: Sheet, kind: Kind) -> str:
        return f"{sheet.cells[0].named} {kind.name}"

    assert await call(send, {"cells": [{"text": "a", "no": 4}]}, "weekly-kind") == "4 WEEKLY"
    assert "the signature is send(sheet: Sheet, kind: Kind) -> str" in await failed(
        send, {"cells": [{"text": ""}]}, "x"
    )


# -- copies of an agent -----------------------------------------------------------------------------------------------


@tool(name="plus", description="Add.")
def add(a: int, b: int) -> int:
    return a + b


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def up(self) -> int:
        """One more."""
        self.count += 1
        return self.count


def agent_with(*tools: Callable[..., Any]) -> Agent:
    return Agent("m", "http://127.0.0.1:9/v1", tools=tools, instructions="brief")


async def test_an_agent_with_tools_can_be_pickled_and_copied() -> None:
    agent = agent_with(add, report, Counter().up)
    for other in (pickle.loads(pickle.dumps(agent)), copy.deepcopy(agent), copy.copy(agent)):
        assert (list(other.tools), other.instructions) == (["plus", "report", "up"], "brief")
        assert await other.tools["plus"].call(CONTEXT, (1, 2), {}) == 3
        assert other.tools["plus"].description == "Add."


async def test_a_copy_of_an_open_agent_has_no_connection_of_its_own() -> None:
    with ScriptedEndpoint(py("finish(7)")) as endpoint:
        async with agent_on(endpoint, tools=(add,)) as agent:
            other = pickle.loads(pickle.dumps(agent))
            shared = copy.deepcopy(agent)
            assert (await shared.solve("g")).output == 7
        assert (await other.solve("g")).output == 7
        assert (await shared.solve("g")).output == 7


@pytest.mark.parametrize("function", [lambda a: a, partial(lambda a: a)], ids=["lambda", "partial"])
def test_a_tool_without_a_name_to_import_is_refused_in_a_sentence(function: Any) -> None:
    made = tool(name="nameless")(function) if not isinstance(function, partial) else function
    if isinstance(function, partial):
        made.__name__ = "nameless"  # type: ignore[attr-defined]
    with pytest.raises(pickle.PicklingError, match="the tool nameless cannot be pickled"):
        pickle.dumps(agent_with(made))
    assert list(copy.deepcopy(agent_with(made)).tools) == ["nameless"]


def test_annotations_that_cannot_be_read_are_refused_in_a_sentence() -> None:
    class Wild:
        @classmethod
        def __get_pydantic_core_schema__(cls, *args: Any) -> Any:
            raise KeyError("odd")

    def odd(x: Wild) -> None: ...

    with pytest.raises(ConfigurationError, match="the tool odd has annotations pydantic cannot read"):
        Tool(odd)


async def test_the_missing_await_is_shown_in_the_agents_own_line() -> None:
    async def search(query: str) -> list[str]:
        return [query]

    code = "def shout(text):\n    return str(text).upper()\nfound = shout(search('tea'))\n1"
    with ScriptedEndpoint(replies([py(code), py("finish(1)")])) as endpoint:
        result = await agent_on(endpoint, tools=(search,)).solve("g")
    assert "Put `await` before the call: `found = shout(await search('tea'))`" in observations(result)[0]


# -- functions that are none to pydantic -------------------------------------------------------------------------------


@functools.lru_cache
def cached(x: int) -> int:
    return x + 1


@functools.singledispatch
def dispatched(x: Any) -> str:
    return type(x).__name__


@pytest.mark.parametrize(
    ("function", "given", "result"), [(cached, "2", 3), (dispatched, 1, "int"), (len, "abc", 3), (math.sqrt, 9, 3.0)]
)
async def test_cached_functions_and_those_written_in_c_are_tools(function: Any, given: Any, result: Any) -> None:
    assert await call(function, given) == result


def test_a_function_that_does_not_say_what_it_takes_is_refused_with_advice() -> None:
    with pytest.raises(ConfigurationError, match="wrap it in a function of your own"):
        Tool(min)


async def test_a_group_of_exceptions_is_told_with_what_it_holds() -> None:
    def many() -> None:
        raise ExceptionGroup("two failed", [ValueError("first"), KeyError("second")])

    said = await failed(many)
    assert "two failed" in said
    assert "ValueError: first; KeyError: 'second'" in said
