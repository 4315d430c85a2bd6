"""Most answers are one plain block: they are read without being parsed, and exactly as any other answer is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.actions import Action, fences, parse_action, parsing
from recursive_agent.actions.fences import blocks, mended, sole_code
from recursive_agent.model.base import Completion, ToolCall
from recursive_agent.usage import Usage

USUAL = [
    "```python\nx = 1\nx\n```",
    "I think that we should look first.\n\n```python\nprint(context[:10])\n\nfinish(1)\n```\nThen we go on.",
    "```py\nif x:\n    f('`')\n```\n",
    "Eine Lösung:\n```python\nprint('größer')\n```",
    "```python\n\nthis is no code\n\n```",
]

_WORDS = ["", "So:\n", "So: ", "\n", "- ", "> ", "  ", "I think so.\n", "Use `f(x)`.\n", "<think>", "</think>\n", "~~~\n",
          "\ufeff", "``", "`", "<python>\n", "text\n```\nls\n```\n", "```json\n{}\n```\n", "<|channel|>", "“é”\n"]  # fmt: skip
_LABELS = ["python", "py", "Python", "python3", "python title=x", " python", "tool_code", "json", "text", "", "`python"]
_CODE = ["x = 1\n", "finish(1)\n", "\n", "  y = 2\n", "if x:\n    f(x)\n", "# only a comment\n", "s = '''\n", "```\n", "'''\n",
         ">>> z = 3\n", "3\n", "In [1]: z = 3\n", "“x”\n", "a\u00a0= 1\n", "\u200b", "f(\n", ")\n", '{"name": "python", ',
         '"arguments": {"code": "x = 5"}}\n', "[1, 2]\n", "s = '```'\n", "~~~\n", "\r\n", "\x0c", "\t", "x = 1", "</think>\n",
         'python(code="y")\n', "python\n", "é = 1\n"]  # fmt: skip
_AFTER = ["", "\n", "\nMore text.\n", " \n", "python\n", "`\n", "\n```\n", "\n```python\nb = 2\n```", "<|im_end|>",
          "\n</think>", "\n~~~\n", "\r\nMore"]  # fmt: skip

usual_texts = st.builds(
    lambda before, label, code, after: f"{before}```{label}\n{code}\n```{after}",
    st.sampled_from(["", "So:\n", "I think so.\n", "“é”\n", "<think>no</think>\n", "- "]),
    st.sampled_from(["python", "py", "tool_code"]),
    st.lists(st.sampled_from(_CODE), min_size=1, max_size=4).map("".join),
    st.sampled_from(["", "\n", "\nMore text.", *_AFTER]),
)
odd_texts = st.builds(
    lambda before, label, code, closing, after: (
        "".join(before) + f"```{label}\n" + "".join(code) + f"{closing}```" + "".join(after)
    ),
    st.lists(st.sampled_from(_WORDS), max_size=2),
    st.sampled_from(_LABELS),
    st.lists(st.sampled_from(_CODE), max_size=4),
    st.sampled_from(["", "", "", "\n", "  ", "> "]),
    st.lists(st.sampled_from(_AFTER), max_size=2),
) | st.lists(st.sampled_from(["```", "```python\n", *_WORDS, *_CODE, *_AFTER]), max_size=8).map("".join)
texts = usual_texts | odd_texts


def completion(text: str, finish_reason: str = "stop", calls: tuple[ToolCall, ...] = ()) -> Completion:
    return Completion(text=text, finish_reason=finish_reason, usage=Usage(), model="m", tool_calls=calls)


def read_at_length(answer: Completion) -> Action:
    """The action as it is found where no answer is a usual one and all code may have to be mended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "sole_code", lambda _: None)
        patch.setattr(fences, "_COPIED", re.compile(""))
        return parse_action(answer, "fenced")


@given(texts, st.sampled_from(["stop", "stop", "length"]), st.booleans())
def test_a_usual_answer_is_read_as_any_other_is(text: str, finish_reason: str, called: bool) -> None:
    calls = (ToolCall("1", "python", '{"code": "called"}'),) if called else ()
    answer = completion(text, finish_reason, calls)
    assert parse_action(answer, "fenced") == read_at_length(answer)


@given(texts)
def test_the_sole_code_is_that_of_the_only_block_of_python(text: str) -> None:
    code = sole_code(text)
    if code is not None:
        assert [block.code for block in blocks(text) if block.is_python] == [code]


@given(
    st.lists(st.sampled_from(_CODE), max_size=4).map("".join) | st.text(">In [1]: \n\t\x0bx=“\u00a0\ufeff", max_size=12)
)
def test_code_with_nothing_to_mend_is_left_alone(code: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fences, "_COPIED", re.compile(""))
        expected = mended(code)
    assert mended(code) == expected


@pytest.mark.parametrize("text", USUAL)
def test_a_usual_answer_is_not_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_at_length(completion(text))

    def parsed(code: str) -> None:
        raise AssertionError(f"parsed: {code}")

    monkeypatch.setattr(fences, "parsed", parsed)
    fences._parses.cache_clear()
    assert parse_action(completion(text), "fenced") == expected
    assert expected.code is not None
