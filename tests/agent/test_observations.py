"""What an agent is shown after its answers: what came of them, what to do next, and no hint for ever."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from recursive_agent.testing import Request, ScriptedEndpoint, replies
from tests.agent.helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio


async def shown(answers: list[str], **settings: Any) -> list[str]:
    """The observations of an agent that gives these answers, then finishes."""
    context = settings.pop("context", None)
    returns = settings.pop("returns", None)
    with ScriptedEndpoint(replies([*answers, py("finish(1)")])) as endpoint:
        result = await agent_on(endpoint, **settings).solve("g", context=context, returns=returns)
    return observations(result)


def hints(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("[step ")]


async def test_the_status_line_stands_first_once_few_answers_are_left() -> None:
    texts = await shown([py("1"), py("x = 1"), py("1 / 0"), "just words"], max_steps=6)
    assert [text.splitlines()[0].startswith("[step ") for text in texts] == [False, False, True, True]
    for text in texts:
        assert not any("[step" in line for line in text.splitlines()[1:])


async def test_an_agent_that_sees_the_answer_is_told_to_finish() -> None:
    (text,) = await shown([py("print(6 * 7)")])
    assert text.splitlines()[0] == "42"
    assert "call finish" in text.splitlines()[-1]


async def test_an_agent_that_sees_nothing_is_told_how_to_see() -> None:
    (text,) = await shown([py("x = 6 * 7")])
    assert "print" in text.splitlines()[-1]


async def test_an_error_asks_for_other_code_and_not_for_a_result() -> None:
    first, second = await shown([py("1 / 0"), py("1 / 0")], context="some text")
    assert "ZeroDivisionError" in first
    assert "without the mistake" in first.splitlines()[-1]
    assert "The same code fails in the same way" in second
    assert "print(str(context)[:300])" in second
    assert "finish" not in first + second


async def test_the_same_code_again_is_noticed_wherever_it_was_before() -> None:
    first, other, again = await shown([py("1"), py("2"), py("1")])
    assert "run this code before" not in first + other
    assert "run this code before" in again


async def test_a_refused_value_is_asked_for_again_with_its_type() -> None:
    answers = [py("finish('many')")]
    with ScriptedEndpoint(replies([*answers, py("finish([1])")])) as endpoint:
        result = await agent_on(endpoint).solve("g", returns=list[int])
    (text,) = observations(result)
    assert "finish() was refused" in text
    assert "list[int]" in text.splitlines()[-1]
    assert result.output == [1]


async def test_before_the_last_answer_the_agent_is_told_so() -> None:
    texts = await shown([py("1"), py("2"), py("3")], max_steps=4)
    assert ["one more answer" in text for text in texts] == [False, False, True]


@pytest.mark.parametrize("max_steps", [1, 3, 4])
async def test_few_answers_are_said_beforehand(max_steps: int) -> None:
    seen: list[str] = []

    def script(request: Request) -> str:
        seen.append(request.first)
        return py("finish(1)")

    with ScriptedEndpoint(script) as endpoint:
        await agent_on(endpoint, max_steps=max_steps).solve("g")
    assert (f"You have {max_steps} answer" in seen[0]) is (max_steps <= 3)


@pytest.mark.parametrize(
    "answer",
    [
        py("print(1)"),
        py("x = 1"),
        py("1 / 0"),
        py("finish(undefined"),
        "no code at all",
        "```python\n1\n```\n```python\n2\n```",
        py("finish({1: 2})"),
    ],
    ids=["prints", "silent", "error", "syntax", "prose", "blocks", "refused"],
)
async def test_no_hint_is_read_three_times(answer: str) -> None:
    texts = await shown([answer] * 8, max_malformed=10, returns=int)
    said = Counter(line for text in texts for line in set(hints(text)))
    outcome = set.intersection(*(set(hints(text)) for text in texts))  # what came of it is the same each time
    assert {line: n for line, n in said.items() if n > 2 and line not in outcome} == {}
    for line in outcome:
        assert not any(word in line for word in ("call finish", "Write ", "To see", "try another"))


async def test_no_hint_holds_a_ready_made_answer() -> None:
    answers = [py("1"), py("1"), py("x = 1"), py("1 / 0"), py("1 / 0"), "words", "words"]
    for text in await shown(answers, context=[1]):
        assert "finish(" not in text.replace("finish(…)", "")


async def test_a_parent_reads_what_came_of_its_sub_agent_and_no_advice() -> None:
    def script(request: Request) -> str:
        if "Goal: child" in request.first:
            return py("print('half of it')")
        return py(
            """
            try:
                await launch_subagent('child', max_steps=2)
            except SubagentError as error:
                finish(error.partial)
            """
        )

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert result.output == "half of it"


async def test_the_minimal_style_has_neither_status_nor_hints() -> None:
    texts = await shown([py("1"), py("1"), py("x = 1")], prompt_style="minimal")
    assert texts == ["1", "1", "(no output)"]


async def test_a_call_in_a_lambda_is_answered_with_code_that_awaits_it() -> None:
    async def temperature(city: str) -> float:
        """The temperature in a city."""
        return 3.0

    code = "cities = ['Oslo', 'Rome']\nmax(cities, key=lambda city: temperature(city) + 1)"
    (text,) = await shown([py(code)], tools=(temperature,))
    assert "A lambda cannot await" in text
    assert "`values = {city: await temperature(city) for city in cities}`" in text
