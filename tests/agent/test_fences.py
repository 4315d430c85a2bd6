"""Code as models really write it into their answers: fences, tags, calls spelt in text, thinking, and nothing at all."""

import json
from inspect import cleandoc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.actions import parse_action
from recursive_agent.actions.fences import blocks, is_code
from recursive_agent.model.base import Completion, ToolCall
from recursive_agent.usage import Usage


def answer(text: str, finish_reason: str = "stop", *calls: ToolCall, **more: str) -> Completion:
    usage = Usage(completion_tokens=9)
    return Completion(text=text, finish_reason=finish_reason, usage=usage, model="m", tool_calls=calls, **more)


def code_of(text: str, action_format: str = "fenced", finish_reason: str = "stop", *calls: ToolCall) -> str | None:
    return parse_action(answer(text, finish_reason, *calls), action_format).code  # type: ignore[arg-type]


# -- fences -----------------------------------------------------------------------------------------------------------

LABELS = [
    *("python", "Python", "PYTHON", "py", "py3", "python3", "Python3", "python3.11", "ipython", "ipython3", "repl"),
    *(
        "tool_code",
        "{python}",
        "{.python .numberLines}",
        "python title=x",
        'python title="a.py" {1,3}',
        "python {cmd=true}",
    ),
    *("python:main.py", "  python", "python  ", "python-repl", "pycon", "", " "),
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("fence", ["```", "````", "~~~"])
def test_info_strings(label: str, fence: str) -> None:
    assert code_of(f"Text.\n{fence}{label}\nx = 1\ny = 2\n{fence}\nMore.") == "x = 1\ny = 2"


NESTED = [
    "s = '''# How to\n```bash\nls\n```\nend'''\nfinish(s)",
    's = """\n```python\nprint(1)\n```\n```\nplain\n```\n"""\nfinish(s)',
    "def f():\n    '''\n    ```\n    x\n    ```\n    '''\n    return 1\nfinish(f())",
    "s = f'''\n~~~\n{1}\n~~~\n````\n'''",
]


@pytest.mark.parametrize("code", NESTED)
@pytest.mark.parametrize("fence", ["```python", "~~~python", "```"])
def test_a_fence_inside_a_string_does_not_end_the_block(code: str, fence: str) -> None:
    close = fence[:3]
    assert code_of(f"So:\n{fence}\n{code}\n{close}\nAnd then\n{fence}\nb = 2\n{close}") == code
    assert code_of(f"{fence}\r\n{code}\r\n{close}".replace("\n", "\r\n").replace("\r\r", "\r")) == code


@pytest.mark.parametrize(
    "text",
    [
        "- step\n  ```python\n  for x in y:\n      f(x)\n  ```\n",
        "1. step\n\n    ```python\n    for x in y:\n        f(x)\n    ```\nDone.",
        "- ```python\n  for x in y:\n      f(x)\n  ```",
        "10) ```python\n    for x in y:\n        f(x)\n    ```",
        "\t```python\n\tfor x in y:\n\t    f(x)\n\t```",
        "  ```python\nfor x in y:\n    f(x)\n  ```",
        "```python\n    for x in y:\n        f(x)\n```",
        "> ```python\n> for x in y:\n>     f(x)\n> ```",
        "```python\n>>> for x in y:\n...     f(x)\n```",
        "```\nIn [1]: for x in y:\n   ...:     f(x)\n```",
        "```python\nfor x in y:\n\u00a0\u00a0\u00a0\u00a0f(x)\n```",
    ],
)
def test_what_only_the_page_put_before_the_code_is_taken_off(text: str) -> None:
    assert code_of(text) == "for x in y:\n    f(x)"


def test_output_in_a_session_is_no_code() -> None:
    assert (
        code_of("```pycon\n>>> x = 1\n>>> x\n1\n>>> def f():\n...     return 2\n```")
        == "x = 1\nx\ndef f():\n    return 2"
    )


def test_a_string_keeps_its_indentation_where_the_block_has_none() -> None:
    text = "  ```python\ns = '''\n    a\n  b'''\n  ```"
    assert code_of(text) == "s = '''\n    a\n  b'''"


@pytest.mark.parametrize(
    "text",
    [
        "```python finish(1)```",
        "```finish(1)```",
        "~~~python finish(1)~~~",
        "```python\nfinish(1)```",
        "```python\nfinish(1)\n```That is it.",
        "```python finish(1)\n```",
        "```python\n\n```python\nfinish(1)\n```",
        "Code: ```python\nfinish(1)\n```",
        "```\npython\nfinish(1)\n```",
        "```python\nfinish(1)",
        "````python\nfinish(1)\n```",
        "```markdown\nUse this:\n```python\nfinish(1)\n```\n```",
        "Use ```x``` so:\n```python\nfinish(1)\n```",
        "```text\nout\n```\n```\nfinish(1)\n```",
        "```\nsome prose here\n```\n```\nfinish(1)\n```",
        "```json\n{}\n```\n```python\nfinish(1)\n```",
        "```python\nfinish(1)\n```<|im_end|>",
        "\ufeff```python\nfinish(1)\n```",
        "```python\nfinish(1)\n\n```\n```python\nfinish(2)\n```",
    ],
)
def test_odd_fences(text: str) -> None:
    assert code_of(text) == "finish(1)"


def test_a_statement_beside_the_label_belongs_to_the_code() -> None:
    assert code_of("```python import math\nfinish(math.pi)\n```") == "import math\nfinish(math.pi)"


def test_code_with_an_error_ends_at_its_first_fence() -> None:
    assert code_of("```python\nx = = 1\n```\nThen\n```python\ny = 2\n```") == "x = = 1"


def test_a_block_cut_inside_a_string_is_not_run() -> None:
    action = parse_action(answer("```python\ns = '''# How\n```bash\nls\n```\nmore", "length"), "fenced")
    assert action.code is None
    assert "cut after 9 tokens" in (action.note or "")


LINES = st.sampled_from(
    ["x = 1", "f(x)", "", "# ```", "s = '```'", "if x:\n    f(x)", "s = '''\n```\n'''", "t = '''\n```python\na\n```'''"]
)


@given(st.lists(LINES, min_size=1, max_size=8), st.sampled_from(LABELS), st.sampled_from(["", "  ", "    "]))
def test_any_code_comes_out_of_its_fence_as_it_went_in(lines: list[str], label: str, indent: str) -> None:
    code = "\n".join(lines)
    if not code.strip():
        return
    inside = "\n".join(f"{indent}{line}" if line else "" for line in code.split("\n"))
    found = code_of(f"Text\n{indent}```{label}\n{inside}\n{indent}```\nMore text.\n\n```json\n[]\n```")
    assert found == code.strip("\n")


@given(st.text(alphabet="`~ \n>p-1.'\"(x=)", max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    for block in blocks(text):
        assert 0 <= block.start <= block.end <= len(text)
    for action_format in ("fenced", "tags", "tool"):
        action = parse_action(answer(text), action_format)
        assert (action.code is None) == (action.note is not None and action.code is None)


@pytest.mark.parametrize(
    "text",
    ["```python\n" + "'''\n```\n" * 20_000, "```\n" * 50_000, "- " * 50_000, "<think>" * 20_000 + "</think>" * 20_000,
     "(" * 100_000, "```python\n" + "-" * 100_000 + "1\n```", "<tool_call>" * 20_000, "[" * 100_000, "x." * 50_000 + "x",
     "to=python" * 20_000, "<function=python>" * 20_000, "<python>" * 20_000, "<code>\n" * 20_000, "f(" * 40_000,
     " \t" * 50_000],
)  # fmt: skip
@pytest.mark.parametrize("action_format", ["fenced", "tags", "tool"])
def test_a_hostile_text_takes_no_time(text: str, action_format: str) -> None:
    import time

    begun = time.process_time()
    code_of(text, action_format)
    assert time.process_time() - begun < 3


# -- other forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["finish(1)", "x = 1", "import math\nmath.pi", "await f()", "# Plan\n\nfor x in y:\n    print(x)", ">>> finish(1)",
     "def f():\n    return 1", "r = await asyncio.gather(a(1), b(2))\nr"],
)  # fmt: skip
def test_an_answer_that_is_code_as_a_whole_is_run(text: str) -> None:
    assert code_of(text) == text.removeprefix(">>> ")
    assert parse_action(answer(text), "fenced", bare_code=False).code is None
    assert code_of(text, "fenced", "length") is None


@pytest.mark.parametrize(
    "text",
    ["Done", "Yes.", "42", "-1", "Paris", "Paris (France)", "Hello, world", "Answer: 42", "not sure", "a and b", '"text"',
     "[1, 2]", '{"a": 1}', "x is y", "return home", "pass", "I think, therefore I am", "...", "# nothing", "None",
     "Result: x = 5", "The answer is 42."],
)  # fmt: skip
def test_prose_and_values_are_no_code(text: str) -> None:
    action = parse_action(answer(text), "fenced")
    assert action.code is None
    assert action.example is not None
    assert "finish(1" not in action.example


CALL = {"name": "python", "arguments": {"code": "finish(1)"}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CALL),
        json.dumps([CALL]),
        json.dumps({"tool": "python", "parameters": {"code": "finish(1)"}}),
        json.dumps({"type": "function", "function": {"name": "python", "arguments": '{"code": "finish(1)"}'}}),
        json.dumps({"thought": "so", "code": "finish(1)"}),
        f"Let me call it.\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>",
        f"```json\n{json.dumps(CALL, indent=2)}\n```",
        f"```\n{json.dumps(CALL)}\n```",
        f"```python\n{json.dumps(CALL)}\n```",
        f"[TOOL_CALLS][{json.dumps(CALL)}]",
        "<|python_tag|>" + json.dumps({"name": "python", "parameters": {"code": "finish(1)"}}) + "<|eom_id|>",
        "<function=python>\n<parameter=code>\nfinish(1)\n</parameter>\n</function>",
        '<function=python>{"code": "finish(1)"}</function>',
        '<|channel|>commentary to=functions.python <|constrain|>json<|message|>{"code": "finish(1)"}<|call|>',
        "<|channel|>analysis to=python code<|message|>finish(1)<|call|>",
        "<python>finish(1)</python>",
        "<code>\nfinish(1)\n</code>",
        "Now:\n<execute>\nfinish(1)\n</execute>",
        "<tool_code>\n```python\nfinish(1)\n```\n</tool_code>",
    ],
)
@pytest.mark.parametrize("action_format", ["fenced", "tags", "tool"])
def test_other_forms_that_leave_no_doubt(text: str, action_format: str) -> None:
    assert code_of(text, action_format) == "finish(1)"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"name": "search", "arguments": {"q": "x"}}),
        json.dumps({"code": "Paris"}),
        json.dumps({"name": "Ann", "code": "A"}),
        "You may write <code>finish(1)</code> here.",
        "<code>some words</code>",
    ],
)
def test_forms_that_leave_doubt_are_not_run(text: str) -> None:
    assert code_of(text) is None


def test_tags_hold_fences_and_closing_tags() -> None:
    assert code_of("<python>\n```python\nx = 1\n```\n</python>", "tags") == "x = 1"
    assert code_of("<python>s = '</python>'\nf(s)</python>", "tags") == "s = '</python>'\nf(s)"
    assert code_of("<PYTHON>x = 1</PYTHON>", "tags") == "x = 1"
    assert code_of("```python\nfinish(1)\n```", "tags") == "finish(1)"


# -- native calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("python", '{"code": "finish(1)"}'),
        ("python", "finish(1)"),
        ("functions.python", '{"code": "finish(1)"}'),
        ("python<|channel|>commentary", '{"code": "finish(1)"}'),
        ("code_interpreter", '{"code": "finish(1)"}'),
        ("python", '{"input": "finish(1)"}'),
        ("python", '{"whatever": "finish(1)"}'),
        ("python", '{"code": ["finish(1)"]}'),
        ("python", '"finish(1)"'),
        ("python", '{"code": "```python\\nfinish(1)\\n```"}'),
        ("python", '{"code": "\nfinish(1)"}'),
        ("python", "```python\nfinish(1)\n```"),
    ],
)
@pytest.mark.parametrize("action_format", ["fenced", "tool"])
def test_native_calls_of_every_dialect(name: str, arguments: str, action_format: str) -> None:
    call = ToolCall("1", name, arguments)
    assert (code_of("", action_format, "tool_calls", call) or "").strip() == "finish(1)"


def test_a_stray_call_never_hides_a_block_of_code() -> None:
    stray = ToolCall("1", "search", "{}")
    for action_format in ("fenced", "tool"):
        assert code_of("```python\nfinish(1)\n```", action_format, "tool_calls", stray) == "finish(1)"


def test_a_stray_call_is_answered_in_the_form_that_was_asked_for() -> None:
    stray = ToolCall("1", "search", '{"q": "x", "n": 2}')
    note = parse_action(answer("", "tool_calls", stray), "fenced").note or ""
    assert "await search(q='x', n=2)" in note
    assert "```python block" in note
    assert "Call the tool" not in note
    assert "Call the tool `python`" in (parse_action(answer("", "tool_calls", stray), "tool").note or "")


# -- thinking, refusals, cuts -----------------------------------------------------------------------------------------

DRAFT, REAL = "```python\nfinish('draft')\n```", "```python\nfinish('real')\n```"


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{DRAFT}\n</think>\n{REAL}",
        f"Maybe\n{DRAFT}\nno\n</think>\n{REAL}",
        f"<thinking>{DRAFT}</thinking>{REAL}",
        f"<think>a</think>\n<think>{DRAFT}</think>\n{REAL}",
        f"[THINK]{DRAFT}[/THINK]{REAL}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{REAL}",
    ],
)
def test_code_inside_the_thinking_is_not_run(text: str) -> None:
    assert code_of(text) == "finish('real')"


def test_a_closing_tag_inside_the_code_is_code() -> None:
    assert code_of("```python\nfinish('</think>')\n```") == "finish('</think>')"
    assert code_of("finish('</think>')") == "finish('</think>')"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (answer("", refusal="I cannot help with that"), "I cannot help with that"),
        (answer("", "content_filter"), "content filter"),
        (answer("", "length", reasoning="hm"), "cut after 9 tokens of reasoning"),
        (answer(f"<think>\n{DRAFT}", "length"), "cut after 9 tokens of reasoning"),
        (answer("<think>hm"), "only reasoning"),
        (answer("", reasoning="hm"), "only reasoning"),
        (answer("I will now", "length"), "cut after 9 tokens"),
        (answer(""), "was empty"),
        (answer("Let me see."), "No code was found"),
    ],
)
def test_why_there_is_no_code_is_said(given: Completion, words: str) -> None:
    action = parse_action(given, "fenced")
    assert action.code is None
    assert words in (action.note or "")


def test_the_example_is_itself_an_answer_that_can_be_run() -> None:
    for action_format in ("fenced", "tags"):
        example = parse_action(answer("Let me see."), action_format).example or ""
        assert is_code(code_of(example, action_format) or "-")
    assert cleandoc(example)
