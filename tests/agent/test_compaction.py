"""A conversation that fills its window is summed up by the agent itself, and goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recursive_agent import Agent, Compaction, ConfigurationError, Result, Status
from recursive_agent.compaction import variables_of
from recursive_agent.model.base import ToolCall
from recursive_agent.testing import Answer, Fault, Reply, Request, Script, ScriptedEndpoint
from recursive_agent.trace.schema import SUMMARY
from recursive_agent.trace.tree import ExecutionTree
from tests.agent.helpers import agent_on, py
from tests.trace.events import cell_ran, node_started, run_started

pytestmark = pytest.mark.anyio

NOTES = "n counts up; the goal is reached at the number in the goal."
ASKED = "Stop here for a moment"
WINDOW = 6_000


def counting(last: int, *, summary: Answer = NOTES, size: int = 400) -> Script:
    """An agent that counts in its interpreter, with much output, and sums up where it is asked to."""
    code = f"n = globals().get('n', 0) + 1\nprint('n is', n, 'x' * {size})\nif n == {last}: finish(n)"

    def script(request: Request) -> Answer:
        return summary if ASKED in request.last else py(code)

    return script


def compact(**settings: Any) -> Compaction:
    return Compaction(**{"at": 0.6, **settings})


def summaries(result: Result, node: str = "0") -> list[int]:
    """The steps before which the conversation was compacted."""
    return [step.number for step in result.tree.nodes[node].steps if step.summary is not None]


@pytest.mark.parametrize("interface", ["chat", "tokens"])
async def test_a_long_conversation_goes_on_with_summaries(interface: Any) -> None:
    with ScriptedEndpoint(counting(9), max_model_len=WINDOW) as endpoint:
        settings: dict[str, Any] = {"interface": interface, "max_steps": 9}
        without = await agent_on(endpoint, **settings).solve("count to nine")
        assert without.status is Status.CONTEXT_OVERFLOW
        spent = endpoint.ledger.total_tokens
        endpoint.requests.clear()
        endpoint.refused.clear()
        result = await agent_on(endpoint, compact=compact(), **settings).solve("count to nine")
        assert result.output == 9, result.reason
        assert not endpoint.refused
        assert len(summaries(result)) >= 2  # and none of them is a step
        assert [step.number for step in result.tree.root.steps] == list(range(1, 10))
        assert result.usage.calls == len(endpoint.requests) == 9 + len(summaries(result))
        assert result.usage.total_tokens == endpoint.ledger.total_tokens - spent
        sent = [[(m["role"], m["content"]) for m in request.messages] for request in endpoint.requests]
        known = []
        for stretch in result.tree.root.conversations():
            for place, message in enumerate(stretch.messages):
                if message.role == "assistant" and place >= stretch.given:
                    known.append([(m.role, m.content) for m in stretch.messages[:place]])
        assert known == sent
        last = result.tree.root.conversation()
        goal = next(m for m in last if NOTES in m.content)
        assert "count to nine" in goal.content
        assert "All your variables are still there, these among them: n." in goal.content
        assert result.tree.settings["compact"]["at"] == 0.6


async def test_the_last_turns_stay_as_they_are() -> None:
    for keep in (1, 2, 3):
        with ScriptedEndpoint(counting(12, size=60), max_model_len=WINDOW) as endpoint:
            agent = agent_on(endpoint, compact=compact(keep=keep), max_steps=12)
            result = await agent.solve("count to twelve")
            assert result.output == 12, result.reason
            step = next(step for step in result.tree.root.steps if step.summary is not None)
            assert step.model is not None
            assert step.model.restart
            before, after = (stretch.messages for stretch in result.tree.root.conversations()[:2])
            given = result.tree.root.conversations()[1].given
            kept = after[given - 2 * keep : given]
            assert [m.role for m in kept] == ["assistant", "user"] * keep
            assert kept[:-1] == before[-2 * keep - 1 : -2][: 2 * keep - 1]
            assert f"n is {step.number - 1} " in kept[-1].content


async def test_an_output_that_alone_fills_the_window_is_no_hindrance_to_the_summary() -> None:
    """The request takes its place, so the agent can say what it knows; then even one turn is too long."""
    with ScriptedEndpoint(counting(9, size=6_000), max_model_len=WINDOW) as endpoint:
        result = await agent_on(endpoint, compact=0.8, max_steps=9).solve("count to nine")
    assert result.status is Status.CONTEXT_OVERFLOW
    assert summaries(result) == [2]
    assert result.tree.root.usage.calls == 2


async def test_without_a_known_window_a_refusal_begins_the_compaction() -> None:
    """The endpoint reports no window and names none: the call that is refused is summed up and made anew."""
    script = counting(9)

    def refusing(request: Request) -> Answer:
        if len(request.prompt_token_ids) > 4_000:
            return Fault.http(400, "context_length_exceeded", code="context_length_exceeded")
        answer = script(request)
        assert isinstance(answer, str)
        return answer

    with ScriptedEndpoint(refusing) as endpoint:
        result = await agent_on(endpoint, compact=0.8, max_steps=9).solve("count to nine")
        assert result.output == 9, result.reason
        assert summaries(result)
        endpoint.script = script
        endpoint.max_model_len = 5_000  # of a server that names its window only when it refuses
        for interface in ("chat", "tokens"):
            agent = agent_on(endpoint, compact=0.6, interface=interface, context_limit=4_500, max_steps=9)
            result = await agent.solve("count to nine")
            assert result.output == 9, result.reason


@pytest.mark.parametrize(
    ("summary", "reason"),
    [
        ("  \n", "cannot be used: it is empty"),
        ("too long " * 2_000, "cannot be used: it is longer"),
        (Fault.http(400, "context_length_exceeded", code="context_length_exceeded"), "summary was refused"),
    ],
)
async def test_a_summary_that_fails_ends_the_agent_as_before(summary: Answer, reason: str) -> None:
    with ScriptedEndpoint(counting(9, summary=summary), max_model_len=WINDOW) as endpoint:
        result = await agent_on(endpoint, compact=compact(), max_steps=9).solve("count to nine")
        assert result.status is Status.CONTEXT_OVERFLOW
        assert result.reason is not None
        assert reason in result.reason
        assert result.usage.total_tokens == endpoint.ledger.total_tokens


@pytest.mark.parametrize("interface", ["chat", "tokens"])
async def test_the_budget_is_never_overshot(interface: Any) -> None:
    for budget in (9_000, 12_000, 13_500, 15_000, 21_000):
        with ScriptedEndpoint(counting(12), max_model_len=WINDOW) as endpoint:
            agent = agent_on(endpoint, interface=interface, compact=compact(), max_steps=12, max_tokens=budget)
            result = await agent.solve("count to twelve")
            assert result.status is Status.TOKEN_LIMIT
            assert endpoint.ledger.total_tokens <= budget
            assert result.usage.total_tokens == endpoint.ledger.total_tokens


async def test_native_tool_calls_are_answered_before_the_request() -> None:
    def script(request: Request) -> Answer:
        if ASKED in request.last:
            assert [message["role"] for message in request.messages[-2:]] == ["tool", "user"]
            return NOTES
        code = "n = globals().get('n', 0) + 1\nprint(n, 'x' * 400)\nif n == 8: finish(n)"
        return Reply(None, [ToolCall(f"c{request.index}", "python", json.dumps({"code": code}))])

    with ScriptedEndpoint(script, max_model_len=8_000) as endpoint:
        agent = agent_on(endpoint, action_format="tool", compact=compact(), max_steps=8)
        result = await agent.solve("count to eight")
        assert not endpoint.script_errors
        assert result.output == 8, result.reason
        assert summaries(result)


async def test_another_question_outlives_a_compaction() -> None:
    def script(request: Request) -> Answer:
        if ASKED in request.last:
            return NOTES
        if "what is next" not in request.text("user"):
            return py("finish(1)")
        return py("n = globals().get('n', 0) + 1\nprint(n, 'x' * 400)\nif n == 9: finish('this')")

    with ScriptedEndpoint(script, max_model_len=WINDOW) as endpoint:
        first = await agent_on(endpoint, compact=compact(), max_steps=12).solve("begin")
        result = await first.follow_up("what is next?")
        assert result.output == "this", result.reason
        assert len(summaries(result)) >= 2


async def test_seeds_of_summaries_are_their_own() -> None:
    with ScriptedEndpoint(counting(6), max_model_len=WINDOW) as endpoint:
        result = await agent_on(endpoint, compact=compact(train=True), max_steps=6).solve("count to six", seed=5)
        assert len({request.seed for request in endpoint.requests}) == len(endpoint.requests)
        calls = [call for call in result.tree.root.model_calls if call.purpose == SUMMARY]
        assert calls
        assert all(call.train for call in calls)


@pytest.mark.parametrize("wrong", [True, 0, 1, 1.5, -0.1, "0.8", {"at": 0.8}])
def test_a_share_of_the_window_is_asked_for(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="compact"):
        Agent("m", "http://localhost:1/v1", compact=wrong)


@pytest.mark.parametrize("wrong", [{"at": True}, {"keep": 0}, {"keep": 1.5}, {"max_tokens": 3}, {"train": 1}])
def test_settings_that_mean_nothing_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"compact: {next(iter(wrong))} must be"):
        Compaction(**wrong)


def test_specialists_are_not_asked_what_they_never_learnt() -> None:
    with pytest.raises(ConfigurationError, match="prompt_style='rich'"):
        Agent("m", "http://localhost:1/v1", prompt_style="minimal", compact=0.8)


def test_only_variables_that_are_there_for_certain_are_named() -> None:
    def names(*cells: dict[str, Any]) -> list[str]:
        events = [cell_ran(step=number, **cell) for number, cell in enumerate(cells, start=1)]
        return variables_of(ExecutionTree.from_events([run_started(), node_started(), *events]).root)

    code = """
import json as j, os.path
(a, [b, *c]), d.e, f[g] = x
async def fetch(): inner = 1
with open() as handle: held = await fetch()
_hidden = 1
if maybe: unsure = 1
note: int
total: int = 0
total += 1
del a
"""
    assert names({"code": code}) == ["j", "os", "b", "c", "fetch", "held", "total"]
    assert names({"code": "a = 1"}, {"code": "b = 1", "status": "error"}, {"code": "a ="}) == ["a"]
    assert names({"code": "a = 1"}, {"code": "b = 1", "status": "killed"}) == []
    assert names({"code": "a = 1"}, {"code": "b = 1", "restarted": "was restarted"}) == ["b"]
