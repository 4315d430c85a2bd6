"""What an agent is told: its opening messages, and the worked examples that stand in them as turns."""

from __future__ import annotations

from typing import Any, cast

import pytest

from recursive_agent.actions import parse_action
from recursive_agent.model.base import Completion
from recursive_agent.prompts import Situation, opening
from recursive_agent.status import Status
from recursive_agent.styles import ActionFormat
from recursive_agent.testing import Fault, Request, ScriptedEndpoint
from recursive_agent.testing.script import Answer
from recursive_agent.tools import tool_set
from recursive_agent.usage import Usage
from recursive_agent.worked_examples import LAUNCH_CALL, Likeness, worked_examples
from tests.agent.helpers import agent_on, py

pytestmark = pytest.mark.anyio


def situation(**changes: Any) -> Situation:
    settings: dict[str, Any] = {
        "goal": "count", "context": None, "schema": None, "tools": {}, "can_launch": True, "launcher": True, "depth": 0,
        "max_depth": 1, "max_steps": 8, "instructions": None,
    }  # fmt: skip
    return Situation(**(settings | changes))


async def lookup(word: str) -> str:
    """What a word means."""
    return word


# -- worked examples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action_format", ["fenced", "tags"])
def test_examples_are_turns_in_the_form_that_is_asked_for(action_format: ActionFormat) -> None:
    system, *examples, goal = opening("rich", action_format, situation(tools=tool_set([lookup])))
    assert system.role == "system"
    assert len(examples) >= 8
    assert [message.role for message in examples] == ["user", "assistant"] * (
        len(examples) // 2
    )  # as every template takes
    assert goal.content.startswith("Goal: count")
    for message in examples[1::2]:
        answer = Completion(text=message.content, finish_reason="stop", usage=Usage(), model="m")
        code = parse_action(answer, action_format, bare_code=False).code
        assert code is not None
        compile(code, "<example>", "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    assert any("finish(" in message.content for message in examples[1::2])


def test_examples_show_only_what_the_agent_has() -> None:
    alone = opening("rich", "fenced", situation(can_launch=False, launcher=False))
    assert not any("launch_subagent" in message.content or "fare" in message.content for message in alone)
    equipped = opening("rich", "fenced", situation(tools=tool_set([lookup])))
    assert any("await launch_subagent" in m.content or "gather" in m.content for m in equipped if m.role == "assistant")
    assert any("await fare(" in message.content for message in equipped if message.role == "assistant")


def test_agents_of_a_kind_differ_in_the_last_message_alone() -> None:
    one = opening("rich", "fenced", situation(goal="a", context=[1], depth=1, max_steps=3))
    other = opening("rich", "fenced", situation(goal="b", context={"x": 2}))
    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1]


def shown_goals(**changes: Any) -> list[str]:
    """The goals of the examples of an agent, the nearest to its own goal first."""
    _, *examples, _ = opening("rich", "fenced", situation(**changes))
    return [message.content.splitlines()[0] for message in examples if message.content.startswith("Goal: ")][::-1]


def shown_context(**changes: Any) -> str:
    """The worked examples, as one text."""
    _, *examples, _ = opening("rich", "fenced", situation(**changes))
    return "\n".join(message.content for message in examples)


@pytest.mark.parametrize("goal", ["Ask a sub-agent to count.", "Use one subagent for each.", "Delegate the counting."])
@pytest.mark.parametrize("context", [None, "some text", [1, 2], {"a": 1}])
def test_examples_that_launch_stand_nearest_to_a_goal_that_asks_for_it(goal: str, context: Any) -> None:
    _, *examples, _ = opening("rich", "fenced", situation(goal=goal, context=context))
    assert "await launch_subagent" in examples[-1].content or "asyncio.gather" in examples[-1].content
    _, *others, _ = opening("rich", "fenced", situation(context=context))
    assert "launch_subagent" not in others[-1].content


def test_a_goal_that_asks_for_sub_agents_which_there_are_not_is_like_any_other() -> None:
    asked = opening("rich", "fenced", situation(goal="Ask a sub-agent.", can_launch=False))
    assert asked[:-1] == opening("rich", "fenced", situation(can_launch=False))[:-1]


def test_the_nearest_examples_have_what_the_goal_has() -> None:
    tools = tool_set([lookup])
    assert "await depth(" in opening("rich", "fenced", situation(tools=tools, context=[1]))[-2].content
    assert "finish({word:" in opening("rich", "fenced", situation(schema={"type": "object"}))[-2].content
    assert "context.splitlines()" in opening("rich", "fenced", situation(context="text"))[-2].content
    assert "re.findall" in opening("rich", "fenced", situation(context="text " * 1_000))[-2].content
    assert "for row in context" in opening("rich", "fenced", situation(context=[1]))[-2].content


def test_examples_have_a_context_only_where_the_agent_has_one_of_the_kind() -> None:
    assert "`context` holds" not in shown_context()
    assert "a list of" not in shown_context(context="text")
    assert "a string of" not in shown_context(context=[1])


@pytest.mark.parametrize("context", [None, "text", [1], 7])
@pytest.mark.parametrize("schema", [None, {"type": "integer"}])
def test_every_agent_that_can_launch_sees_it_done(context: Any, schema: Any) -> None:
    for tools in ({}, tool_set([lookup])):
        launching = situation(context=context, schema=schema, tools=tools)
        assert "launch_subagent('" in "".join(m.content for m in opening("rich", "fenced", launching)[1:-1])
        assert len(shown_goals(context=context, schema=schema, tools=tools)) <= 6


@pytest.mark.parametrize(("room", "shown"), [(None, True), (8_192, True), (8_191, False), (0, False)])
def test_examples_are_left_out_where_there_is_little_room(room: int | None, shown: bool) -> None:
    assert (len(opening("rich", "fenced", situation(room=room))) > 2) is shown


def test_native_calls_are_not_invented() -> None:
    assert len(opening("rich", "tool", situation())) == 2


def test_the_minimal_prompt_is_the_goal_and_the_names() -> None:
    (message,) = opening("minimal", "fenced", situation(context="abc", schema={"type": "integer"}))
    assert message.content == "count\nlaunch_subagent finish\ncontext: a string of 3 characters"


EXAMPLES = len(worked_examples("fenced", Likeness(can_launch=True)))


async def test_a_script_sees_the_agents_own_conversation() -> None:
    seen: list[tuple[str, int, int]] = []

    def script(request: Request) -> str:
        seen.append((request.first.splitlines()[0], request.step, len(request.messages) - EXAMPLES))
        assert "calm seas" not in request.text()
        return py("1") if request.step == 0 else py("finish(2)")

    with ScriptedEndpoint(script) as endpoint:
        await agent_on(endpoint).solve("mine")
    assert seen == [("Goal: mine", 0, 2), ("Goal: mine", 1, 4)]


async def test_examples_stand_in_the_trace_and_are_billed_as_prompt() -> None:
    with ScriptedEndpoint(lambda _: py("finish(1)")) as endpoint:
        result = await agent_on(endpoint).solve("g")
        (entry,) = endpoint.ledger.entries
    model = result.tree.root.steps[0].model
    assert model is not None
    assert len(model.messages) == 2 + EXAMPLES
    assert result.usage.prompt_tokens == entry.prompt_tokens
    assert entry.prompt_tokens > sum(len(message.content.split()) for message in model.messages)


@pytest.mark.parametrize("limit", ["context_limit", "max_tokens"])
async def test_a_small_window_or_budget_has_no_examples(limit: str) -> None:
    def script(request: Request) -> str:
        assert len(request.messages) == 2
        return py("finish(1)")

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, sampling={"max_tokens": 100}, **cast(Any, {limit: 8_000})).solve("g")
    assert result.output == 1


async def test_a_small_budget_of_a_sub_agent_has_none_for_it() -> None:
    def script(request: Request) -> str:
        if "Goal: child" in request.first:
            assert len(request.messages) == 2
            return py("finish(2)")
        assert len(request.messages) == 2 + EXAMPLES
        return py("finish(await launch_subagent('child', max_tokens=8_000))")

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, sampling={"max_tokens": 100}).solve("root")
    assert result.output == 2


async def test_a_window_that_proves_too_small_is_met_without_examples() -> None:
    def script(request: Request) -> Answer:
        if len(request.messages) > 2 + 2:
            return Fault.http(400, "This model's maximum context length is 1024 tokens. Your prompt has 1500 tokens.")
        return py("1") if request.step == 0 else py("finish(2)")

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("g")
    assert result.output == 2
    assert [len(step.model.messages) for step in result.tree.root.steps if step.model is not None] == [2, 1]


async def test_a_window_too_small_for_the_goal_ends_the_agent() -> None:
    refusal = Fault.http(400, "This model's maximum context length is 64 tokens. Your prompt has 500 tokens.")
    with ScriptedEndpoint(lambda _: refusal) as endpoint:
        result = await agent_on(endpoint).solve("g")
    assert result.status is Status.CONTEXT_OVERFLOW


async def test_without_a_system_role_the_goal_is_still_found() -> None:
    seen: list[str] = []

    def script(request: Request) -> Answer:
        if request.messages[0]["role"] == "system":
            return Fault.http(400, "System role not supported")
        roles = [message["role"] for message in request.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        seen.append(request.first)
        return py("finish(1)")

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("mine")
    assert result.output == 1
    assert seen[0].startswith("You reach a goal by writing Python")
    assert "Goal: mine" in seen[0]


# -- what stands beside the goal --------------------------------------------------------------------------------------


def test_tools_are_named_beside_the_goal() -> None:
    *_, goal = opening("rich", "fenced", situation(tools=tool_set([lookup])))
    assert "await lookup(word: str) -> str" in goal.content


def test_launching_is_named_beside_the_goal_where_it_is_possible() -> None:
    assert LAUNCH_CALL in opening("rich", "fenced", situation())[-1].content
    assert LAUNCH_CALL not in opening("rich", "fenced", situation(can_launch=False))[-1].content
    examples = worked_examples("fenced", Likeness(tools=True, can_launch=True))
    goals = [message.content for message in examples if message.content.startswith("Goal: ")]
    assert all(LAUNCH_CALL in goal for goal in goals)
    using = [m for m in examples if m.role == "assistant" and "launch_subagent" in m.content]
    assert 1 <= len(using) < len(goals) / 2  # most goals are reached without


def test_many_tools_stand_in_the_system_message_alone() -> None:
    def make(number: int) -> Any:
        async def function(word: str) -> str:
            """What a word means."""
            return word

        function.__name__ = f"lookup_in_dictionary_{number}"
        return function

    system, *_, goal = opening("rich", "fenced", situation(tools=tool_set([make(n) for n in range(30)])))
    assert "lookup_in_dictionary_29" in system.content
    assert "lookup_in_dictionary" not in goal.content


def test_a_context_is_named_only_where_there_is_one() -> None:
    assert "context`" not in opening("rich", "fenced", situation())[-1].content
    assert "`context` holds" in opening("rich", "fenced", situation(context=[1]))[-1].content


@pytest.mark.parametrize(
    ("value", "described"),
    [
        (
            [{"day": "2024-01-01", "mm": 18}],
            "a list of 1 items: [{'day': '2024-01-01', 'mm': 18}]",
        ),
        ({"notes": "x" * 41}, "a dict of 1 keys: {'notes': <41 characters>}"),
        (["1h 20m", "45m", "2h"], "a list of 3 items: ['1h 20m', '45m', … 3 in all]"),
        ([[[[1]]], b"x"], "a list of 2 items: [[[<a list of 1 items>]], <1 bytes>]"),
        ({n: n for n in range(9)}, "a dict of 9 keys: {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, … 9 in all}"),
        ("x" * 201, "a string of 201 characters"),
        ("x" * 200, repr("x" * 200)),
        (10**1000, "<a whole number of 3,322 bits>"),
    ],
)
def test_short_texts_of_a_context_are_shown_as_they_are(value: Any, described: str) -> None:
    assert f"`context` holds {described}." in opening("rich", "fenced", situation(context=value))[-1].content
