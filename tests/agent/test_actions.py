"""Finding the code in what models really write."""

import pytest

from recursive_agent.actions import parse_action
from recursive_agent.model.base import Completion, ToolCall
from recursive_agent.usage import Usage


def answer(text: str, finish_reason: str = "stop", calls: tuple[ToolCall, ...] = ()) -> Completion:
    return Completion(
        text=text, finish_reason=finish_reason, usage=Usage(completion_tokens=9), model="m", tool_calls=calls
    )


@pytest.mark.parametrize(
    "text",
    [
        "```python\nx = 1\n```",
        "Let me think.\n```python\nx = 1\n```\nThat is it.",
        "```py\nx = 1\n```",
        "```Python\nx = 1\n```",
        "```\nx = 1\n```",
        "~~~\n```python\nx = 1\n```",
        "````python\nx = 1\n````",
        "```python\nx = 1",
        "  ```python\nx = 1\n  ```",
        "```json\n{}\n```\n```python\nx = 1\n```",
    ],
)
def test_fenced_code_is_found(text: str) -> None:
    assert parse_action(answer(text), "fenced").code == "x = 1"


def test_a_longer_fence_may_hold_a_shorter_one() -> None:
    text = "````python\ns = '''\n```\n'''\n````"
    assert parse_action(answer(text), "fenced").code == "s = '''\n```\n'''"


def test_only_the_first_block_counts_and_the_agent_is_told() -> None:
    action = parse_action(answer("```python\na = 1\n```\nOutput: 1\n```python\nb = 2\n```"), "fenced")
    assert action.code == "a = 1"
    assert "first of your 2" in (action.note or "")


@pytest.mark.parametrize("text", ["", " \n", "no code", "```json\n{}\n```", "```python\n\n```", "`x = 1`"])
def test_an_answer_without_code_has_a_reason(text: str) -> None:
    action = parse_action(answer(text), "fenced")
    assert action.code is None
    assert action.note


def test_a_block_cut_by_the_length_limit_is_not_run() -> None:
    action = parse_action(answer("```python\nx = 1\ny =", "length"), "fenced")
    assert action.code is None
    assert "cut after 9 tokens" in (action.note or "")


def test_a_whole_block_before_the_cut_is_run() -> None:
    assert parse_action(answer("```python\nx = 1\n```\nand so", "length"), "fenced").code == "x = 1"


def test_tags() -> None:
    assert parse_action(answer("<python>\nx = 1\n</python>"), "tags").code == "x = 1"
    assert parse_action(answer("<python>x = 1"), "tags").code == "x = 1"
    assert parse_action(answer("<python>x = 1", "length"), "tags").code is None
    assert parse_action(answer("```python\nx\n```"), "tags").code is None


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (ToolCall("1", "python", '{"code": "x = 1"}'), "x = 1"),
        (ToolCall("1", "python", '{"code": "x = 1'), None),
        (ToolCall("1", "python", '["x"]'), None),
        (ToolCall("1", "python", '{"code": 5}'), None),
        (ToolCall("1", "bash", '{"code": "x"}'), None),
    ],
)
def test_native_tool_calls(call: ToolCall, code: str | None) -> None:
    action = parse_action(answer("", calls=(call,)), "tool")
    assert action.code == code
    assert (action.note is None) == (code is not None)
