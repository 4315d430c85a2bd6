"""Hostile or merely odd use that once hung, crashed or leaked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, ConfigDict

from recursive_agent import Agent, ConfigurationError, Limits, Prices, Status, ToolContext, tool
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.plain import plain
from recursive_agent.prompts import describe_data
from recursive_agent.returns import Returns
from recursive_agent.testing import Answer, Fault, Request, ScriptedEndpoint, by_goal, replies
from tests.waiting import PATIENCE

from .helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio


# -- schemas that agents write ---------------------------------------------------------------------------------------


def _refused(schema: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        Returns(schema)
    return str(refused.value)


def test_a_schema_cannot_make_the_host_fetch_anything() -> None:
    for reference in ("http://127.0.0.1:9/secret", "file:///etc/passwd", "other.json"):
        assert "may only refer to the schema itself" in _refused({"items": {"$ref": reference}})
    hidden = {"enum": [{"$ref": "http://127.0.0.1:9/"}], "$ref": "#/enum/0"}
    assert "may only refer" in _refused(hidden)
    based = Returns({"$id": "http://127.0.0.1:9/base", "items": {"$ref": "#/nope"}})
    with pytest.raises(ValueError, match="not in it"):
        based.validate([1])


def test_a_schema_cannot_keep_the_host_busy() -> None:
    slow = Returns({"type": "string", "pattern": "^(a+)+$"})
    with pytest.raises(ValueError, match="does not match"):
        slow.validate("a" * 200 + "!")
    assert slow.validate("aaa") == "aaa"
    assert Returns({"pattern": "b"}).validate("abc") == "abc"
    assert "not supported" in _refused({"pattern": "(?=a)"})
    assert "not supported" in _refused({"patternProperties": {"^(a+)+$": {}}})
    many = Returns({"uniqueItems": True})
    assert len(many.validate([{"n": n} for n in range(20_000)])) == 20_000
    with pytest.raises(ValueError, match="not all different"):
        many.validate([{"a": 1}, {"a": 1}])
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    with pytest.raises(ValueError, match="too long"):
        Returns({"$ref": "#/$defs/d0", "$defs": {**doubling, "d40": {}}}).validate(1)


def test_a_reason_never_quotes_a_whole_large_value() -> None:
    with pytest.raises(ValueError, match="integer") as refused:
        Returns({"type": "integer"}).validate("x" * 1_000_000)
    assert len(str(refused.value)) < 1_100


@pytest.mark.parametrize("schema", ["{'$schema': 5}", "{'$schema': [1]}", "deep"])
async def test_a_schema_that_cannot_be_read_is_an_error_in_the_cell_and_nothing_hangs(schema: str) -> None:
    code = f"deep = {{}}\nfor i in range(300): deep = {{'items': deep}}\nawait launch_subagent('kid', returns={schema})"
    async with ScriptedEndpoint(replies([py(code), py("finish('went on')")])) as endpoint:
        with anyio.fail_after(PATIENCE):
            result = await agent_on(endpoint).solve("top")
    assert result.output == "went on"
    assert "TypeError: returns" in observations(result)[0]


async def test_a_value_too_deep_for_its_schema_is_refused() -> None:
    code = "v = []\nfor i in range(400): v = [v]\nfinish(v)"
    async with ScriptedEndpoint(replies([py(code), py("finish([])")])) as endpoint:
        result = await agent_on(endpoint).solve("top", returns={"type": "array", "items": {"$ref": "#"}})
    assert result.output == []
    assert "nested too deeply" in observations(result)[0]


# -- budgets ---------------------------------------------------------------------------------------------------------


async def test_a_lost_answer_waiting_for_budget_does_not_block_those_who_hold_it() -> None:
    lost = [Fault("drop")]

    def kid(request: Request) -> Answer:
        return lost.pop() if lost else py("finish(1)")

    top = py("finish(await asyncio.gather(launch_subagent('kid a'), launch_subagent('kid b')))")
    async with ScriptedEndpoint(by_goal({"top": top, "kid": kid})) as endpoint:
        agent = agent_on(endpoint, max_concurrency=1, max_tokens=12_500, timeout=PATIENCE, prompt_style="minimal")
        result = await agent.solve("top")
    assert result.output == [1, 1]
    assert result.usage.unconfirmed > 0


# -- data ------------------------------------------------------------------------------------------------------------


async def test_tuples_as_keys_survive_and_do_not_cost_the_interpreter() -> None:
    top = [py("kept = 5\nseen = await launch_subagent('kid', context={(1, (2, 3)): 4})"), py("finish([kept, seen])")]
    kid = py("finish(context[1, (2, 3)])")
    async with ScriptedEndpoint(by_goal({"top": top, "kid": kid})) as endpoint:
        result = await agent_on(endpoint).solve("top")
    assert result.output == [5, 4]


@dataclass
class Point:
    x: int
    tags: frozenset[str] = frozenset()


async def test_context_may_be_anything_with_a_plain_form_and_nothing_else() -> None:
    async with ScriptedEndpoint(replies([py("finish(context)")])) as endpoint:
        agent = agent_on(endpoint)
        with pytest.raises(ConfigurationError, match="context must be plain data"):
            await agent.solve("top", context={"lock": threading.Lock()})
        assert not endpoint.ledger.entries
        result = await agent.solve("top", context={"p": Point(1, frozenset({"a"})), "s": {2}})
    assert result.output == {"p": {"x": 1, "tags": ["a"]}, "s": [2]}


def test_a_strict_model_can_be_satisfied_with_what_json_has() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        day: date
        pair: tuple[int, int]

    given = {"day": "2020-01-02", "pair": [1, 2]}
    assert Returns(Strict).validate(given) == Strict(day=date(2020, 1, 2), pair=(1, 2))
    with pytest.raises(ValueError, match=r"pair\.1"):
        Returns(Strict).validate({"day": "2020-01-02", "pair": [1, "2"]})
    with pytest.raises(ValueError, match="valid string"):
        Returns(dict[str, int]).validate({1: 2})


def test_a_description_of_data_stays_short() -> None:
    nested: Any = "leaf"
    for _ in range(8):
        nested = {f"key{n}": nested for n in range(8)}
    assert len(describe_data(nested)) < 20_000


def test_any_key_that_a_context_can_have_is_described() -> None:
    """A number in a tuple that Python refuses to spell ended the sub-agent as a fault of the machine."""
    for key in ((2**60_000, 1), ((1, (2**60_000,)),), "x" * 5_000_000, b"x" * 5_000_000, None, 1.5, True):
        assert len(describe_data({key: 1})) < 300
    assert len(describe_data({"k" * 100_000: 1})) < 1_000
    assert "bits" in describe_data(10**5000)


def test_plain_keeps_what_fields_are_not_declared_to_hold() -> None:
    @dataclass
    class Wider(Point):
        y: int = 7

    @dataclass
    class Holder:
        point: Point

    assert plain(Holder(Wider(1))) == {"point": {"x": 1, "tags": [], "y": 7}}
    assert plain(bytearray(b"\xff")) == b"\xff"


# -- tools -----------------------------------------------------------------------------------------------------------


def first(ctx: ToolContext, q: str) -> str:
    return f"{q} from {ctx.node}"


def maybe(q: str, ctx: ToolContext | None = None) -> str:
    return f"{q} from {ctx and ctx.node}"


def prefixed(before: str, q: str, ctx: ToolContext) -> str:
    return f"{before}{q} from {ctx.node}"


class Caller:
    def __call__(self, q: str, ctx: ToolContext) -> str:
        return f"{q} from {ctx.node}"

    def method(self, ctx: ToolContext, q: str) -> str:
        return f"{q} from {ctx.node}"


@pytest.mark.parametrize(
    "function",
    [first, maybe, Caller().method, tool(name="called")(Caller()), tool(name="part")(partial(prefixed, ""))],
    ids=["first", "optional", "method", "instance", "partial"],
)
async def test_every_kind_of_callable_learns_who_calls(function: Callable[..., str]) -> None:
    name = next(iter(Agent("m", "http://localhost:1/v1", tools=[function]).tools))
    forged = "{'run': '', 'node': 'forged', 'parent': None, 'depth': 0, 'goal': ''}"
    code = f"""
        by_place = await {name}('x')
        try:
            await {name}('x', {forged})
        except Exception as error:
            finish([by_place, await {name}(q='y'), type(error).__name__])
        """
    async with ScriptedEndpoint(replies([py(code)])) as endpoint:
        result = await agent_on(endpoint, tools=(function,)).solve("top")
    assert result.output == ["x from 0", "y from 0", "ToolError"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio has no cancellation that another task could pass on
async def test_a_cancellation_inside_a_tool_is_a_failure_of_the_tool() -> None:
    async def broken() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    async with ScriptedEndpoint(replies([py("await broken()"), py("finish(1)")])) as endpoint:
        with anyio.fail_after(PATIENCE):
            result = await agent_on(endpoint, tools=(broken,)).solve("top")
    assert result.status is Status.FINISHED
    assert "cancelled from within" in observations(result)[0]


async def test_a_tool_that_exits_does_not_end_the_program() -> None:
    def leave() -> None:
        raise SystemExit(3)

    async with ScriptedEndpoint(replies([py("await leave()"), py("finish(1)")])) as endpoint:
        result = await agent_on(endpoint, tools=(leave,)).solve("top")
    assert result.output == 1
    assert "raised SystemExit: 3" in observations(result)[0]


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt_style": "minimum"},
        {"action_format": "xml"},
        {"interface": "responses"},
        {"require": "kernal"},
        {"context_limit": 0},
        {"sampling": {"logit_bias": object()}},
        {"prices": Prices(prompt=float("nan"), completion=1.0)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_would_fail_or_be_ignored_later_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Agent("m", "http://localhost:1/v1", **settings)


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="NaN"):
        Limits(timeout=float("nan"))


async def test_the_key_of_a_model_object_stays_out_of_the_trace(tmp_path: Path) -> None:
    async with ScriptedEndpoint(replies([py("finish(1)")])) as endpoint:
        model = connect(resolve_endpoint("scripted", endpoint.base_url, "sk-very-secret-123"))
        try:
            result = await Agent(model, trace_dir=tmp_path).solve("do not show sk-very-secret-123")
        finally:
            await model.aclose()
    assert result.trace_path is not None
    assert "sk-very-secret-123" not in result.trace_path.read_text()
