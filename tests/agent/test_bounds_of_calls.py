"""What agents ask of the host is bounded: calls and their arguments, of an agent and of a tree; schemas are only data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recursive_agent import Status
from recursive_agent.launch import MOST_GOAL_CHARS, LaunchRequest
from recursive_agent.limits import CallBudget
from recursive_agent.repl.base import HostCallError
from recursive_agent.testing import Request, ScriptedEndpoint
from recursive_agent.trace.recorder import Recorder
from recursive_agent.trace.schema import Event, HostCalled

from .helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio


def echo(value: Any) -> int:
    return len(value)


async def test_calls_of_one_agent_beyond_the_limit_are_refused_and_it_goes_on() -> None:
    cell = """
        done = 0
        try:
            for _ in range(9):
                await echo('x')
                done += 1
        except ToolError as error:
            print(error)
        finish(done)
    """
    with ScriptedEndpoint(py(cell)) as endpoint:
        result = await agent_on(endpoint, tools=(echo,), max_calls=5).solve("go")
    assert result.output == 5
    assert [call.error is None for call in result.tree.root.steps[0].calls] == [True] * 5 + [False]


async def test_bytes_of_arguments_are_counted_and_a_refused_call_keeps_none() -> None:
    cell = """
        big = 'x' * 700_000
        print(await echo(big))
        try:
            await echo(big)
        except ToolError as error:
            print(error)
        try:
            await launch_subagent('read it', context=big)
        except LaunchRefused as error:
            print(error)
        finish(await echo('small'))
    """
    with ScriptedEndpoint(py(cell)) as endpoint:
        result = await agent_on(endpoint, tools=(echo,), max_call_mb=1).solve("go")
    assert result.output == 5
    calls = result.tree.root.steps[0].calls
    assert [call.error is None for call in calls] == [True, False, False, True]
    assert calls[1].args == []
    assert calls[2].kwargs == {"goal": "read it"}
    assert "1 MiB in all" in str(calls[1].error)


async def test_the_whole_tree_shares_a_limit_of_calls() -> None:
    def script(request: Request) -> str:
        if "child" in request.first:
            return py("""
                done = 0
                try:
                    for _ in range(9):
                        await echo('x')
                        done += 1
                except ToolError as error:
                    pass
                finish(done)
            """)
        return py("finish(sum(await asyncio.gather(*(launch_subagent(f'child {i}') for i in range(3)))))")

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(echo,), max_tree_calls=10).solve("go")
    assert result.output == 7  # three of the ten calls were launches


def test_a_budget_counts_what_it_allows_and_nothing_else() -> None:
    tree = CallBudget(3, 1, "the calls of the whole run")
    first, second = CallBudget(2, 1, "your calls", tree), CallBudget(2, 1, "your calls", tree)
    assert first.refusal(400_000) is None
    assert "1 MiB" in str(first.refusal(800_000))
    assert first.refusal(0) is None
    assert first.refusal(0) == "your calls have reached 2, which is the limit"
    assert "of the whole run" in str(second.refusal(700_000))
    assert second.refusal(0) is None
    assert second.refusal(0) == "the calls of the whole run have reached 3, which is the limit"
    assert (tree.calls, tree.bytes) == (3, 400_000)


SCHEMAS: dict[str, Any] = {
    "text": "__import__('os').system('true')",
    "list": [{"type": "string"}],
    "bytes": {"const": b"x"},
    "keys": {"properties": {1: {}}},
    "infinity": {"maximum": float("inf")},
    "huge_number": {"maximum": 1 << 100},
    "many": {"enum": list(range(3000))},
    "long": {"description": "x" * 70_000},
    "deep": {"items": {}},
}
_part = SCHEMAS["deep"]
for _ in range(40):
    _part["items"] = {"items": {}}
    _part = _part["items"]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_is_no_bounded_json_refuses_the_launch(name: str) -> None:
    with pytest.raises(HostCallError, match="JSON schema") as refused:
        LaunchRequest.read({"goal": "x", "returns": SCHEMAS[name]})
    assert refused.value.kind == "LaunchRefused"


@pytest.mark.parametrize(
    "goal", [None, "", "  ", 5, b"x", ["x"], "x" * (MOST_GOAL_CHARS + 1), pytest.param(10**5000, id="huge")]
)
def test_a_goal_that_is_none_refuses_the_launch(goal: Any) -> None:
    with pytest.raises(HostCallError, match="goal"):
        LaunchRequest.read({"goal": goal})


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3", [], pytest.param(10**5000, id="huge")])
@pytest.mark.parametrize("name", ["max_steps", "max_tokens"])
def test_a_count_that_is_none_refuses_the_launch(name: str, value: Any) -> None:
    with pytest.raises(HostCallError, match=f"{name} must be a whole number"):
        LaunchRequest.read({"goal": "x", name: value})


async def test_returns_of_a_launch_is_never_evaluated(tmp_path: Path) -> None:
    mark = tmp_path / "evaluated"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    cell = f"""
        found = []
        for returns in ({code!r}, [{code!r}], {{"type": {code!r}}}, {{"$ref": {code!r}}}, {{"title": {code!r}}}):
            try:
                found.append(await launch_subagent('child', returns=returns))
            except Exception as error:
                found.append(type(error).__name__)
        finish(found)
    """

    def script(request: Request) -> str:
        return py("finish('plain')") if "child" in request.first else py(cell)

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("go")
    assert result.status is Status.FINISHED, observations(result)
    assert not mark.exists()


async def test_values_that_are_small_on_their_way_count_as_what_they_take_in_memory() -> None:
    cell = """
        done = 0
        try:
            for _ in range(9):
                await echo([{} for _ in range(50_000)])
                done += 1
        except ToolError as error:
            print(error)
        finish(done)
    """
    with ScriptedEndpoint(py(cell)) as endpoint:
        result = await agent_on(endpoint, tools=(echo,), max_call_mb=10).solve("go")
    assert result.output == 2


async def test_the_record_keeps_a_bounded_amount_of_what_tools_answer_and_the_agent_gets_it_all() -> None:
    document = "d" * 300_000

    def fresh(number: int) -> str:
        return str(number) * 300_000

    def same() -> str:
        return document

    cell = """
        lengths = [len(await fresh(n)) for n in range(6)] + [len(await same()) for _ in range(6)]
        finish(lengths)
    """
    with ScriptedEndpoint(py(cell)) as endpoint:
        result = await agent_on(endpoint, tools=(fresh, same), max_call_mb=1).solve("go")
    assert result.output == [300_000] * 12
    kept = [len(call.result) for call in result.tree.root.steps[0].calls]
    assert kept[:3] == [300_000] * 3
    assert all(size < 200 for size in kept[3:])

    with ScriptedEndpoint(py(cell)) as endpoint:
        result = await agent_on(endpoint, tools=(fresh, same), max_call_mb=3).solve("go")
    assert [len(call.result) for call in result.tree.root.steps[0].calls] == [300_000] * 12  # the same text counts once


async def test_large_calls_of_one_agent_do_not_fill_the_queue_of_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = []
    put = Recorder.put

    def watched(self: Recorder, event: Event) -> None:
        put(self, event)
        waiting.append(sum(isinstance(other, HostCalled) for other, _ in self._queue))

    monkeypatch.setattr(Recorder, "put", watched)
    cell = "print(await asyncio.gather(*(echo(list(range(5000))) for _ in range(30))))\nfinish(1)"
    with ScriptedEndpoint(py(cell)) as endpoint:
        result = await agent_on(endpoint, tools=(echo,), trace_dir=tmp_path).solve("go")
    assert result.trace_error is None
    assert len(result.tree.root.steps[0].calls) == 30
    assert max(waiting) <= 1


async def test_answers_that_a_cell_does_not_keep_take_no_memory_of_its_interpreter() -> None:
    def fresh(number: int) -> str:
        return str(number % 10) * 1_000_000

    cell = "finish(sum([len(await fresh(number)) for number in range(300)]))"
    with ScriptedEndpoint(py(cell)) as endpoint:
        result = await agent_on(endpoint, tools=(fresh,), cell_memory_mb=100).solve("go")
    assert result.output == 300_000_000


async def test_of_a_refused_launch_only_the_beginning_of_its_goal_is_kept() -> None:
    cell = """
        for _ in range(3):
            try:
                await launch_subagent('g' * 90_000)
            except LaunchRefused as error:
                print(error)
        finish(1)
    """
    with ScriptedEndpoint(py(cell)) as endpoint:
        result = await agent_on(endpoint, max_agents=1).solve("go")
    calls = result.tree.root.steps[0].calls
    assert [call.kwargs for call in calls] == [{"goal": "g" * 100}] * 3
