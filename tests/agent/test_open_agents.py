"""An Agent and its streams as notebooks, fixtures and servers use them: entered here, left there, twice, or never."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from typing import Annotated, Any, ForwardRef, List, Literal, NewType, Optional, TypedDict, TypeVar  # noqa: UP035

import anyio
import anyio.to_thread
import psutil
import pytest
from pydantic import BaseModel, field_validator

from recursive_agent import Agent, ConfigurationError, Limits, NotFinished
from recursive_agent.background import BackgroundTask
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.returns import Returns
from recursive_agent.testing import Fault, ScriptedEndpoint, by_goal, replies
from tests.waiting import PATIENCE, until

from .helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio
SEVEN = py("finish(7)")


async def in_a_task_of_its_own(function: Any, *args: Any) -> Any:
    given: list[Any] = []

    async def run() -> None:
        try:
            given.append((await function(*args), None))
        except Exception as error:
            given.append((None, error))

    task = BackgroundTask(run)
    await task.ended.wait()
    value, error = given[0]
    if error is not None:
        raise error
    return value


def helpers() -> int:
    return len(psutil.Process().children())


async def test_entered_in_one_task_used_in_others_and_left_in_another() -> None:
    before = helpers()
    with ScriptedEndpoint(by_goal({"g": SEVEN})) as endpoint:
        agent = agent_on(endpoint)
        for _ in range(2):
            await in_a_task_of_its_own(agent.__aenter__)
            outputs: list[Any] = []

            async def solve(outputs: list[Any] = outputs) -> None:
                outputs.append((await agent.solve("g")).output)

            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(solve)
            assert outputs == [7, 7, 7]
            with pytest.raises(ConfigurationError, match="already open"):
                await agent.__aenter__()
            await in_a_task_of_its_own(agent.__aexit__, None, None, None)
            await until(lambda: helpers() == before)
        assert (await agent.solve("g")).output == 7


async def test_what_opening_raises_reaches_whoever_enters_and_the_agent_can_be_opened_again() -> None:
    class Broken:
        enforced: frozenset[str] = frozenset()

        async def __aenter__(self) -> Any:
            raise ZeroDivisionError("no sandbox today")

        async def __aexit__(self, *exc: object) -> None: ...

    with ScriptedEndpoint(SEVEN) as endpoint:
        agent = agent_on(endpoint)
        real, agent._open = agent._open, lambda stack: stack.enter_async_context(Broken())  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            await agent.__aenter__()
        agent._open = real  # type: ignore[method-assign]
        async with agent:
            assert (await agent.solve("g")).output == 7


async def test_entering_that_is_cancelled_leaves_nothing() -> None:
    before = helpers()
    with ScriptedEndpoint(SEVEN) as endpoint:
        agent = agent_on(endpoint)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await agent.__aenter__()
        await until(lambda: helpers() == before)
        async with agent:
            assert (await agent.solve("g")).output == 7


def test_an_agent_outlives_the_loop_it_was_opened_in() -> None:
    before = helpers()
    with ScriptedEndpoint(by_goal({"g": SEVEN})) as endpoint:
        agent = agent_on(endpoint)
        asyncio.run(agent.__aenter__())  # and that loop is gone
        assert agent.solve_sync("g").output == 7

        async def again() -> Any:
            async with agent:
                return (await agent.solve("g")).output

        assert asyncio.run(again()) == 7
        asyncio.run(agent.__aenter__())
        asyncio.run(agent.__aexit__(None, None, None))
    gc.collect()
    assert helpers() == before


def test_leaving_in_another_loop_while_its_own_still_runs_is_a_sentence() -> None:
    opened, leave = threading.Event(), threading.Event()
    with ScriptedEndpoint(by_goal({"g": SEVEN})) as endpoint:
        agent = agent_on(endpoint)

        async def hold() -> None:
            async with agent:
                opened.set()
                await anyio.to_thread.run_sync(leave.wait, PATIENCE)

        thread = threading.Thread(target=asyncio.run, args=(hold(),))
        thread.start()
        try:
            assert opened.wait(PATIENCE)
            with pytest.raises(ConfigurationError, match="opened in another event loop"):
                asyncio.run(agent.__aexit__(None, None, None))
            assert agent.solve_sync("g").output == 7  # with a sandbox of its own
        finally:
            leave.set()
            thread.join(PATIENCE)


async def test_solve_sync_in_a_running_loop_says_what_to_write() -> None:
    with ScriptedEndpoint(by_goal({"g": SEVEN})) as endpoint:
        agent = agent_on(endpoint)
        with pytest.raises(ConfigurationError, match=r"await agent\.solve"):
            agent.solve_sync("g")
        assert (await anyio.to_thread.run_sync(agent.solve_sync, "g")).output == 7


def test_solve_sync_works_in_a_thread_that_a_loop_started() -> None:
    with ScriptedEndpoint(by_goal({"g": SEVEN})) as endpoint:
        agent = agent_on(endpoint)

        async def main() -> Any:
            return await asyncio.to_thread(agent.solve_sync, "g")

        assert anyio.run(main).output == 7


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_that_was_read_says_so_when_it_is_read_again() -> None:
    with ScriptedEndpoint(SEVEN) as endpoint:
        stream = agent_on(endpoint).stream("g")
        events = [event async for event in stream]
        assert len(events) > 3
        with pytest.raises(ConfigurationError, match=r"call agent\.stream"):
            [event async for event in stream]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert stream.result.output == 7


async def test_a_stream_that_was_closed_says_so() -> None:
    with ScriptedEndpoint(by_goal({"g": SEVEN})) as endpoint:
        agent = agent_on(endpoint)
        untouched = agent.stream("g")
        await untouched.aclose()
        begun = agent.stream("g")
        await anext(begun)
        await begun.aclose()
        await begun.aclose()
        for stream in (untouched, begun):
            with pytest.raises(ConfigurationError, match="was closed"):
                await anext(stream)
            with pytest.raises(NotFinished):
                _ = stream.result


async def test_a_stream_that_was_left_can_be_read_on() -> None:
    with ScriptedEndpoint(SEVEN) as endpoint:
        stream = agent_on(endpoint).stream("g")
        async for _ in stream:
            break
        rest = [event async for event in stream]
        assert rest
        assert stream.result.output == 7


async def test_a_stream_dropped_in_another_thread_stops_its_run() -> None:
    with ScriptedEndpoint(Fault("hang")) as endpoint:
        stream: Any = agent_on(endpoint).stream("g")
        await anext(stream)
        task = stream._task
        holder = [stream]
        del stream
        await anyio.to_thread.run_sync(holder.clear)
        gc.collect()
        with anyio.fail_after(PATIENCE):
            await task.ended.wait()


def test_a_stream_that_outlives_its_loop_and_the_program_makes_no_noise() -> None:
    program = """
    import anyio, asyncio, sys
    from recursive_agent import Agent
    from recursive_agent.testing import Fault, ScriptedEndpoint

    kept = []

    async def main():
        stream = Agent("scripted", endpoint.base_url).stream("g")
        await anext(stream)
        kept.append(stream)
        kept.append(Agent("scripted", endpoint.base_url).stream("never begun"))

    with ScriptedEndpoint(Fault("hang")) as endpoint:
        for backend in ("asyncio", "trio"):
            anyio.run(main, backend=backend)
    del kept[0]
    raise KeyboardInterrupt
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Exception ignored" not in done.stderr
    assert done.stderr.strip().endswith("KeyboardInterrupt")


# -- returns ----------------------------------------------------------------------------------------------------------

Name = NewType("Name", "print('evaluated')")  # type: ignore[valid-newtype]
Bound = TypeVar("Bound", bound="print('evaluated')")  # type: ignore[name-defined]


@pytest.mark.parametrize(
    "returns",
    [
        "print('evaluated')",
        "int",
        ForwardRef("print('evaluated')"),
        list["print('evaluated')"],
        List["print('evaluated')"],  # noqa: UP006
        Optional["print('evaluated')"],
        dict[str, list[tuple["print('evaluated')", ...]]],
        Annotated["print('evaluated')", "note"],
        Name,
        list[Name],
        Bound,
    ],
)
async def test_text_as_a_type_is_refused_and_never_evaluated(returns: Any, capsys: pytest.CaptureFixture[str]) -> None:
    agent = Agent("m", "http://127.0.0.1:9/v1")
    with pytest.raises(ConfigurationError, match="text is never evaluated"):
        await agent.solve("g", returns=returns)
    assert "evaluated" not in capsys.readouterr().out


def test_types_that_hold_text_as_data_are_types() -> None:
    assert Returns(Literal["a", "b"]).validate("a") == "a"
    assert Returns(Annotated[int, "a note"]).validate(1) == 1
    assert Returns(list[Later]).validate([{"then": "x"}]) == [Later("x")]


@dataclass
class Later:
    then: str


class OldDict(TypedDict):
    name: str


class Hostile:
    @classmethod
    def __get_pydantic_core_schema__(cls, *args: Any) -> Any:
        raise KeyError("odd")


@pytest.mark.parametrize("returns", [OldDict, Hostile, 5, [int], object(), {"type": "nonsense"}, lambda: 1])
def test_what_is_no_type_is_refused_in_a_sentence(returns: Any) -> None:
    if returns is OldDict and sys.version_info >= (3, 12):
        pytest.skip("pydantic takes it")
    with pytest.raises(ConfigurationError, match="returns") as refused:
        Returns(returns)
    if returns is OldDict:
        assert "typing_extensions" in str(refused.value)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "fault",
    [KeyError("email"), RecursionError("deep"), ZeroDivisionError(), SystemExit(1), GeneratorExit(), Mute(),
     asyncio.CancelledError(), StopIteration(), BaseException("bare"), ExceptionGroup("several", [ValueError("a")])],
)  # fmt: skip
async def test_whatever_a_validator_raises_is_a_refusal_that_the_agent_sees(fault: BaseException) -> None:
    class Person(BaseModel):
        email: str

        @field_validator("email")
        @classmethod
        def check(cls, value: str) -> str:
            if value == "bad":
                raise fault
            return value

    with ScriptedEndpoint(replies([py("finish({'email': 'bad'})"), py("finish({'email': 'good'})")])) as endpoint:
        result = await agent_on(endpoint).solve("g", returns=Person)
    assert result.output == Person(email="good")
    assert type(fault).__name__ in observations(result)[0]


def test_a_serializer_that_fails_does_not_lose_the_value() -> None:
    from pydantic import field_serializer

    class Person(BaseModel):
        email: str

        @field_serializer("email")
        def give(self, value: str) -> str:
            raise KeyError("no")

    made = Returns(Person)
    assert "x" in str(made.plain(made.validate({"email": "x"})))


# -- settings ---------------------------------------------------------------------------------------------------------


async def test_an_attempt_may_take_as_long_as_the_run_or_as_is_said() -> None:
    async def seconds(**settings: Any) -> float:
        agent = Agent("m", "http://127.0.0.1:9/v1", **settings)
        async with agent:
            assert agent._kept is not None
            return float(agent._kept[0].wire.timeout)  # type: ignore[attr-defined]

    assert await seconds(limits=Limits(timeout=7200)) == 7200
    assert await seconds(limits=Limits(timeout=5)) == 600
    assert await seconds(limits=Limits(timeout=None)) == 600
    assert await seconds(request_timeout=20, limits=Limits(timeout=7200)) == 20
    for wrong in (0, -1, float("nan"), float("inf"), True, "5"):
        with pytest.raises(ConfigurationError, match="request_timeout must be a number of seconds"):
            Agent("m", "http://127.0.0.1:9/v1", request_timeout=wrong)  # type: ignore[arg-type]
    model = connect(resolve_endpoint("m", "http://127.0.0.1:9/v1", None))
    with pytest.raises(ConfigurationError, match="request_timeout works only with a model name"):
        Agent(model, request_timeout=5)


async def test_bare_code_can_be_turned_off() -> None:
    for settings, status in (
        ({}, "finished"),
        ({"bare_code": False}, "malformed"),
        ({"prompt_style": "minimal"}, "malformed"),
    ):
        with ScriptedEndpoint(by_goal({"g": "finish(7)"})) as endpoint:
            result = await agent_on(endpoint, **settings).solve("g")
        assert result.status.value == status


async def test_the_right_form_is_shown_once() -> None:
    with ScriptedEndpoint(replies(["Let me see.", "I see.", SEVEN])) as endpoint:
        result = await agent_on(endpoint, max_malformed=5).solve("g")
    first, second = observations(result)
    assert "```python\nprint(type(context))\n```" in first
    assert "print(" not in second
    assert result.output == 7
