"""Code in forms that nobody asked for, where it is clear what is meant."""

from __future__ import annotations

import json

import pytest

from recursive_agent.actions import Action, parse_action
from recursive_agent.model.base import Completion, NoAnswer
from recursive_agent.usage import Usage

CODE = "x = {'a': 1}\nprint(x)"
GIVEN = json.dumps({"code": CODE})
TYPED = ' string="true"'
ESCAPED = "x = {&#39;a&#39;: 1}\nprint(x)"


def action(text: str, finish_reason: str = "stop", no_answer: NoAnswer | None = None) -> Action:
    usage = Usage(completion_tokens=9)
    completion = Completion(text=text, finish_reason=finish_reason, usage=usage, model="m", no_answer=no_answer)
    return parse_action(completion, "fenced")


def invoked(prefix: str, more: str = "") -> str:
    """A call in XML, with the prefix that a dialect puts before each tag."""
    inner = f'<{prefix}parameter name="code"{more}>{CODE}</{prefix}parameter>'
    return f'<{prefix}invoke name="python">\n{inner}\n</{prefix}invoke>'


CALLS = {
    "Anthropic": f"<function_calls>\n{invoked('')}\n</function_calls>",
    "Anthropic, with a prefix": f"I look.\n\n{invoked('x:')}",
    "MiniMax": f"<minimax:tool_call>\n{invoked('')}\n</minimax:tool_call>",
    "DeepSeek": f"<｜DSML｜function_calls>\n{invoked('｜DSML｜', TYPED)}\n</｜DSML｜function_calls>",
    "GLM": f"<tool_call>python\n<arg_key>code</arg_key>\n<arg_value>{CODE}</arg_value>\n</tool_call>",
    "Mistral": f"[TOOL_CALLS]python[ARGS]{GIVEN}",
    "Mistral, with an id": f"[TOOL_CALLS]python[CALL_ID]abc123def[ARGS]{GIVEN}",
    "DeepSeek V3.1": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>python<｜tool▁sep｜>"
    f"{GIVEN}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "Kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.python:0<|tool_call_argument_begin|>"
    f"{GIVEN}<|tool_call_end|><|tool_calls_section_end|>",
    "Granite": f'<|tool_call|>[{{"name": "python", "arguments": {GIVEN}}}]',
    "Llama": f"<|python_tag|>{CODE}<|eom_id|>",
    "Llama, pythonic": f"[python(code={CODE!r})]",
    "one call": f"python({CODE!r})",
    "ReAct": f"Thought: I look.\nAction: python\nAction Input: {CODE}\nObservation: 1",
    "ReAct in JSON": f"Action: python\nAction Input: {GIVEN}",
}
MARKS = {
    "Meta": f"[PYTHON]\n{CODE}\n[/PYTHON]",
    "a tag left open": f"<python>\n{CODE}",
    "HTML": f'<pre><code class="language-python">\n{ESCAPED}\n</code></pre>',
    "a script": f'<script type="text/python">\n{CODE}\n</script>',
    "text": f"```text\n{CODE}\n```",
    "plaintext": f"```plaintext\n{CODE}\n```",
    "two backticks": f"``python\n{CODE}\n``",
    "a session": "In [1]: x = {'a': 1}\nIn [2]: print(x)",
    "typographic quotes": f"```python\n{CODE.replace(chr(39), '‘')}\n```",
    "closed by another mark": f"~~~python\n{CODE}\n```",
    "a plan first": f"```python\n# I look at it\n```\nand then\n```python\n{CODE}\n```",
}


@pytest.mark.parametrize("name", [*CALLS, *MARKS])
def test_code_is_found_in_every_dialect(name: str) -> None:
    assert action((CALLS | MARKS)[name]).code == CODE


@pytest.mark.parametrize(
    "text",
    ["`finish(3)`", "``finish(3)``", "```python finish(3)```", "I run ```python finish(3)``` now."],
)
def test_code_of_one_line_between_backticks_is_run(text: str) -> None:
    assert action(text).code == "finish(3)"


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_other_tools_are_no_code(name: str) -> None:
    if name != "Llama":  # whose mark says Python by itself
        assert action(CALLS[name].replace("python", "web_search")).code != CODE


@pytest.mark.parametrize(
    "text",
    [
        "I will call `finish(3)` now.",
        "It is done.\n\nfinish(3)",
        "finish(3)\n\nThat is the answer.",
        "First x = 1, then\nfinish(3)\nas asked for.",
    ],
)
def test_code_among_words_is_shown_in_the_right_form(text: str) -> None:
    found = action(text)
    assert found.code is None
    assert found.example is not None
    assert "```python\nfinish(3)\n```" in found.example


@pytest.mark.parametrize(
    "text", ["Yes.", "The answer (roughly) is 4.", "`context`", "I cannot `do` that.", "```json\n{}\n```"]
)
def test_words_are_no_code(text: str) -> None:
    found = action(text)
    assert found.code is None
    assert found.example is not None
    assert "print(type(context))" in found.example


@pytest.mark.parametrize(
    ("reason", "why", "said"),
    [
        ("PROHIBITED_CONTENT", NoAnswer.FILTERED, "content filter (PROHIBITED_CONTENT)"),
        ("stop", NoAnswer.FILTERED, "content filter"),
        ("sensitive", NoAnswer.FILTERED, "content filter (sensitive)"),
        ("MALFORMED_FUNCTION_CALL", NoAnswer.EMPTY, "tool call was malformed"),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", NoAnswer.EMPTY, "tool call was malformed"),
        ("insufficient_system_resource", NoAnswer.EMPTY, "insufficient_system_resource"),
        ("stop", NoAnswer.EMPTY, "Your answer was empty. Answer"),
    ],
)
def test_why_there_is_no_code_is_told(reason: str, why: NoAnswer, said: str) -> None:
    assert said in (action("", reason, why).note or "")
