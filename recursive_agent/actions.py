"""From a model's answer to the code to run."""

from __future__ import annotations

import ast
import html
import json
import re
from dataclasses import dataclass
from typing import Any

from .checkpoint import ActionFormat
from .fences import Block, blocks, is_code, mended, parsed
from .model.base import Completion, NoAnswer, ToolCall
from .model.thinking import part
from .written_calls import pythonic_call, written_calls

PYTHON_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "python",
        "description": "Run Python code in your persistent REPL.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "the code to run"}},
            "required": ["code"],
        },
    },
}

_ASKED: dict[ActionFormat, str] = {
    "fenced": "Answer with one ```python block",
    "tags": "Answer with one <python>…</python> block",
    "tool": "Call the tool `python` with the argument `code`",
}
_FORMS: dict[ActionFormat, str] = {
    "fenced": "```python block",
    "tags": "<python>…</python> block",
    "tool": "tool call",
}
_EXAMPLE = "print(type(context))"
"""Shown to a model that gave no code. It is harmless when copied, and gives nothing away."""

_TAG = re.compile(r"<python>", re.I)
_OTHER_TAG = re.compile(
    r"^[ \t]*<(python|py|code|execute|execute_python|execute_ipython|tool_code|python_code)>", re.I | re.M
)
_CALL_TAG = re.compile(
    r"<(?P<tag>tool_call|function_call|tool_use|tools?)>(?P<call>.*?)(?:</(?P=tag)>|\Z)"
    r"|(?:<\|python_tag\|>|<\|tool_calls?\|?>|\[TOOL_CALLS\])(?P<rest>.*?)(?:<\|/?\w+\|?>|\Z)",
    re.S | re.I,
)
_QWEN_CALL = re.compile(
    r"<function=(?P<name>[\w.]+)>\s*(?:<parameter=(?:code|source|python)>(?P<code>.*?)</parameter>|(?P<json>\{.*?\}))\s*</function>",
    re.S,
)
_HARMONY_CALL = re.compile(
    r"to=(?P<name>[\w.]{1,40})[^<]{0,40}(?:<\|\w+\|>[^<]{0,40}){0,3}<\|message\|>(?P<given>.*?)(?:<\|\w+\|>|\Z)", re.S
)
_CODE_TAG = re.compile(
    r"<\|python_tag\|>(?P<llama>.*?)(?:<\|\w+\|>|\Z)|\[PYTHON\](?P<meta>.*?)(?:\[/PYTHON\]|\Z)"
    r"|<pre[^<>]{0,80}>\s{0,8}<code[^<>]{0,80}>(?P<html>.*?)</code>|<script[^<>]{0,40}python[^<>]{0,40}>(?P<script>.*?)</script>"
    r"|```[ \t]*(?:python|py)[ \t]+(?P<inline>[^`\n]+)```|^``[ \t]*(?:python|py)[ \t]*\n(?P<short>.*?)\n``[ \t]*$"
    r"|\A\s*`{1,2}(?P<whole>[^`]+)`{1,2}\s*\Z",
    re.S | re.I | re.M,
)
"""Other marks that mean code to run: Llama's, Meta's, HTML, and fences that Markdown does not know."""
_NEUTRAL = frozenset({"text", "txt", "plaintext", "plain", "none", "sage", "ipynb"})
"""Labels of blocks that are run where nothing else is there and they are Python."""
_OWN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|return|>", "</s>",
         "<end_of_turn>")  # fmt: skip
_PYTHON_NAMES = re.compile(
    r"(?:functions?\.|tools?\.|default_api[.:])?"
    r"(?:i?python(?:_?(?:exec|repl|code|tool|interpreter|cell))?3?|code_?(?:interpreter|execution)|execute_(?:i?python|code)|"
    r"run_(?:python|code)|repl)(?:\.(?:run|exec))?",
    re.I,
)
_CODE_KEYS = ("code", "source", "python", "script", "input", "query", "command", "cell")
_TALK = frozenset({"thought", "thoughts", "reasoning", "explanation", "language", "lang", "comment", "description"})


@dataclass(frozen=True, slots=True)
class Action:
    """Code to run, or (`code` None) the reason why there is none. `note` is for the agent to read with the output.

    `example` shows the right form, for the first time that it is missed.
    """

    code: str | None
    note: str | None = None
    example: str | None = None


def parse_action(completion: Completion, action_format: ActionFormat, *, bare_code: bool = True) -> Action:
    """The action of an answer. Only the first block counts: what follows was written without having seen its output.

    With `bare_code`, an answer that is Python as a whole is code without a fence too.
    """
    text, _, unended = part(_cleaned(completion.text))  # an endpoint's answers come without drafts already
    called = _called(completion.tool_calls)
    if action_format == "tool" and called is not None:
        return called
    written = _written(text, completion, action_format)
    if written is not None and (written.code is not None or called is None):
        return written
    if called is not None:
        return called
    if completion.finish_reason != "length":
        code = _tolerated(text, action_format, bare_code=bare_code)
        if code is not None:
            return Action(code)
    if completion.tool_calls:
        return _stray(completion, action_format)
    return Action(None, *_missing(completion, text, unended, action_format))


# -- the form that was asked for --------------------------------------------------------------------------------------


def _written(text: str, completion: Completion, action_format: ActionFormat) -> Action | None:
    """The block that was asked for: its code, or why it is none. None where there is no such block."""
    if action_format == "tool":
        return None
    found = _tagged(text, _TAG) if action_format == "tags" else _python(blocks(text))
    if not found:
        return None
    cut = completion.finish_reason == "length"
    if (cut and found[0].end == len(text) and not found[0].closed) or (cut and _unended(found[0].code)):
        return Action(None, _cut(completion, action_format))
    filled = [block for block in found if block.code.strip()]
    filled = [block for block in filled if not _is_comment(block.code)] or filled
    if not filled:
        return Action(None, f"The code block of your answer was empty. {_ASKED[action_format]} with code in it.")
    note = (
        f"Only the first of your {len(found)} code blocks was run; write one for each answer."
        if len(found) > 1
        else None
    )
    code = filled[0].code
    return Action(_spelt_call(code.strip()) or code, note)


def _python(found: list[Block]) -> list[Block]:
    """The blocks that are meant: those that say Python, else those that say nothing (what is Python before what is not)."""
    labelled = [block for block in found if block.is_python]
    if labelled:
        return labelled
    silent = [block for block in found if not block.label and not _is_data(block.code)]
    return sorted(silent, key=lambda block: not block.parses)


def _tagged(text: str, tag: re.Pattern[str]) -> list[Block]:
    """Code between tags: up to the first closing tag that makes it Python, else the first."""
    found: list[Block] = []
    place = 0
    while (opening := tag.search(text, place)) is not None and len(found) < 32:
        name = opening[0].strip(" \t<>")
        closings = list(re.finditer(rf"</{name}>", text[opening.end() :], re.I))[:16]
        ends = [(opening.end() + match.start(), opening.end() + match.end()) for match in closings]
        chosen: Block | None = None
        for end, after in ends or [(len(text), len(text))]:
            code = _unwrapped(text[opening.end() : end])
            block = Block(code, "python", opening.start(), after, bool(ends), is_code(code))
            if chosen is None or block.parses:
                chosen = block
            if block.parses:
                break
        assert chosen is not None
        found.append(chosen)
        place = chosen.end
    return found


def _is_comment(code: str) -> bool:
    tree = parsed(code)
    return tree is not None and not tree.body


def _unwrapped(code: str) -> str:
    """Code that stands in a fence although it needed none."""
    fenced = blocks(code) if re.match(r"\s*(?:`{3}|~{3})", code) else []
    if fenced and not is_code(code):
        return fenced[0].code
    return mended(code).strip("\n")


def _unended(code: str) -> bool:
    """Whether the code stops inside a string or a bracket."""
    if parsed(code) is not None:
        return False
    try:
        compile(code[:100_000], "<answer>", "exec", ast.PyCF_ONLY_AST)
    except SyntaxError as error:
        return any(part in str(error.msg) for part in ("unterminated triple-quoted", "was never closed"))
    except (ValueError, RecursionError, MemoryError):
        pass
    return False


# -- other forms that leave no doubt ----------------------------------------------------------------------------------


def _tolerated(text: str, action_format: ActionFormat, *, bare_code: bool) -> str | None:
    """Code in another form than the one asked for, where it is clear what is meant."""
    for code in _json_calls(text):
        return code
    written = blocks(text)
    for found in (
        _tagged(text, _OTHER_TAG),
        [block for block in written if block.is_python],
        [block for block in written if block.label in _NEUTRAL],
    ):
        if found and plausible(found[0].code):
            return found[0].code
    for match in _CODE_TAG.finditer(text):
        code = next(part for part in match.groups() if part is not None)
        code = mended((html.unescape(code) if match["html"] is not None else code).strip("\n").rstrip()).strip("\n")
        if plausible(code) if match["whole"] is None else (bare_code and _calls_something(code)):
            return code
    if bare_code and action_format != "tool":
        code = mended(text.strip("\n"))
        if plausible(code):
            return code
    return None


def plausible(code: str) -> bool:
    """Whether this is Python that does something, and not prose that happens to parse (`Yes`, `42`, `Paris (France)`)."""
    tree = parsed(code)
    if tree is None:
        return False
    lines = code.encode().split(b"\n")
    return any(isinstance(node, _STATEMENTS) or _is_call(node, lines) for node in ast.walk(tree))


_STATEMENTS = (
    ast.Import, ast.ImportFrom, ast.Assign, ast.AugAssign, ast.NamedExpr, ast.Await, ast.For, ast.AsyncFor, ast.While,
    ast.With, ast.AsyncWith, ast.Try, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Match,
)  # fmt: skip


def _is_call(node: ast.AST, lines: list[bytes]) -> bool:
    """Whether a bracket stands right behind a name, as in code and not as in a sentence."""
    if not isinstance(node, ast.Call) or node.func.end_lineno is None or node.func.end_col_offset is None:
        return False
    return lines[node.func.end_lineno - 1][node.func.end_col_offset :][:1] == b"("


def _is_data(code: str) -> bool:
    """Whether a block is JSON: a value, and no code."""
    if not code.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(code, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _json_calls(text: str) -> list[str]:
    """Code of calls that are spelt in the text: `{"name": "python", "arguments": {"code": …}}` and its relatives."""
    found: list[str] = []
    for match in _QWEN_CALL.finditer(text):
        if _PYTHON_NAMES.fullmatch(match["name"]):
            code = match["code"] if match["code"] is not None else _argument(match["json"])
            found += [code] if code else []
    for match in _HARMONY_CALL.finditer(text):
        if _PYTHON_NAMES.fullmatch(match["name"]) and (code := _argument(match["given"].strip())):
            found.append(code)
    for name, given in written_calls(text):
        if _PYTHON_NAMES.fullmatch(name):
            code = _argument(given) if isinstance(given, str) else _code_in(given)
            found += [code] if code else []
    pythonic = pythonic_call(parsed(text.strip())) if "(" in text else None
    if pythonic is not None and _PYTHON_NAMES.fullmatch(pythonic[0]) and (code := _code_in(pythonic[1])):
        found.append(code)
    candidates = [match["call"] or match["rest"] or "" for match in _CALL_TAG.finditer(text)]
    candidates += [
        block.code for block in blocks(text) if block.is_python or block.label in ("", "json", "tool_call", "tool")
    ]
    for candidate in [text, *candidates]:
        code = _spelt_call(candidate.strip())
        found += [code] if code else []
    return [code.strip("\n") for code in found if is_code(code)]


def _spelt_call(text: str) -> str | None:
    if not text.startswith(("{", "[")) or len(text) > 200_000:
        return None
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    call = value[0] if isinstance(value, list) and value else value
    if not isinstance(call, dict):
        return None
    if isinstance(call.get("function"), dict):
        call = call["function"]
    name = next((call[key] for key in ("name", "tool", "tool_name", "function", "action") if key in call), None)
    if name is None:  # the arguments alone
        code = _code_in(call) if set(call) - _TALK == {"code"} else None
        return code if code is not None and plausible(code) else None
    if not isinstance(name, str) or not _PYTHON_NAMES.fullmatch(name):
        return None
    given = next(
        (call[key] for key in ("arguments", "parameters", "args", "input", "action_input") if key in call), None
    )
    return _argument(given)


def _argument(given: Any) -> str | None:
    """The code among the arguments of a call to `python`, in the ways that models give it."""
    if isinstance(given, str):
        try:
            value = json.loads(given, strict=False)
        except (ValueError, RecursionError):
            # gpt-oss sends the bare code; arguments that broke off are no code.
            return _clean_code(given) if is_code(_unwrapped(given)) else None
        if not isinstance(value, dict | list):
            return value if isinstance(value, str) else (given if is_code(given) and plausible(given) else None)
        given = value
    return _code_in(given) if isinstance(given, dict) else None


def _code_in(given: dict[str, Any]) -> str | None:
    code = next((given[key] for key in _CODE_KEYS if key in given), None)
    if code is None and len(given) == 1:
        (code,) = given.values()
        code = code if isinstance(code, str) and is_code(code) and plausible(code) else None
    if isinstance(code, list) and all(isinstance(line, str) for line in code):
        code = "\n".join(line.rstrip("\n") for line in code)
    return _clean_code(code) if isinstance(code, str) else None


def _clean_code(code: str) -> str:
    return _unwrapped(code.replace("\r\n", "\n").replace("\r", "\n"))


# -- native tool calls ------------------------------------------------------------------------------------------------


def _called(calls: tuple[ToolCall, ...]) -> Action | None:
    """The code of the first native call to `python`; None where there is none that can be read."""
    for call in calls:
        if not _PYTHON_NAMES.fullmatch(_plain_name(call.name)):
            continue
        code = _argument(call.arguments)
        if code is None or not code.strip():
            return None
        several = "Only the first of your tool calls was run; make one for each answer." if len(calls) > 1 else None
        return Action(code, several)
    return None


def _plain_name(name: str) -> str:
    """A name without what templates leave on it (`python<|channel|>commentary`)."""
    return re.split(r"<\||\s", name.strip(), maxsplit=1)[0]


def _stray(completion: Completion, action_format: ActionFormat) -> Action:
    """Why the native calls of an answer gave nothing to run."""
    call, asked = completion.tool_calls[0], f"{_ASKED[action_format]}."
    name = _plain_name(call.name)
    if _PYTHON_NAMES.fullmatch(name):
        if completion.finish_reason == "length":
            return Action(None, _cut(completion, action_format))
        if isinstance(_loaded(call.arguments), dict) and not str(_loaded(call.arguments).get("code", "x")).strip():
            return Action(None, f"The code of your tool call was empty. {asked}")
        return Action(None, f"The arguments of your tool call could not be read. {asked}")
    shown = _as_python(name, _loaded(call.arguments))
    return Action(
        None,
        f"There is no tool {name!r} to be called like that. What you may call is a function in Python"
        f"{f': write `{shown}`' if shown else ''}. {asked}.".replace("..", "."),
    )


def _loaded(arguments: str) -> Any:
    try:
        return json.loads(arguments, strict=False)
    except (ValueError, RecursionError):
        return None


def _as_python(name: str, arguments: Any) -> str | None:
    """The model's own call as the line of Python that it should have been."""
    name = name.rpartition(".")[2]
    if (
        not name.isidentifier()
        or not isinstance(arguments, dict)
        or not all(str(key).isidentifier() for key in arguments)
    ):
        return None
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    await_ = "" if name == "finish" else "await "
    shown = f"{await_}{name}({given})"
    return shown if len(shown) <= 200 else f"{await_}{name}(…)"


# -- answers without code ---------------------------------------------------------------------------------------------


def _cleaned(text: str) -> str:
    """With Python's line ends, and without the marks that a template left at the end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    for _ in range(4):
        text = text.rstrip(" \t\n") if text.rstrip().endswith(_ENDS) else text
        for mark in _ENDS:
            text = text.removesuffix(mark)
    return text


def _cut(completion: Completion, action_format: ActionFormat) -> str:
    return (
        f"Your answer was cut after {completion.usage.completion_tokens:,} tokens, before its {_FORMS[action_format]} was "
        "complete, so nothing was run. Write a shorter one."
    )


def _missing(completion: Completion, text: str, unended: bool, action_format: ActionFormat) -> tuple[str, str | None]:
    """Why there is no code in an answer, and an example where the form is the trouble."""
    asked = f"{_ASKED[action_format]}."
    cut, length = completion.finish_reason == "length", f"{completion.usage.completion_tokens:,} tokens"
    if completion.refusal:
        return f"Your answer was a refusal ({_short(completion.refusal)}), so nothing was run. {asked}", None
    if completion.no_answer is NoAnswer.FILTERED or completion.finish_reason in ("content_filter", "SAFETY", "refusal"):
        return (
            f"Your answer was withheld by the endpoint's content filter ({completion.finish_reason}), so nothing was run. "
            f"Go on another way. {asked}"
        ), None
    if cut and (unended or (completion.reasoning and not text.strip())):
        return (
            f"Your answer was cut after {length} of reasoning (the limit is the length of one answer, max_tokens), before any "
            f"code, so nothing was run. Think less. {asked}"
        ), None
    if unended or (completion.reasoning and not text.strip()):
        return f"Your answer held only reasoning and no code. {asked}", None
    if "malformed" in completion.finish_reason.lower():
        return (
            f"Your tool call was malformed ({_short(completion.finish_reason)}), so nothing was run. {asked}",
            None,
        )
    if not text.strip():
        if cut:
            return f"Your answer was cut after {length} and was empty. {asked}", None
        odd = completion.finish_reason not in ("stop", "tool_calls", "empty", "")
        why = f" (it ended with {_short(completion.finish_reason)!r})" if odd else ""
        return f"Your answer was empty{why}. {asked}", None
    if cut:
        return (
            f"Your answer was cut after {length}, before any code, so nothing was run. Write a shorter one. {asked}",
            None,
        )
    if action_format == "tool":
        return f"Your answer had no tool call. {asked}", None
    opening, closing = ("```python", "```") if action_format == "fenced" else ("<python>", "</python>")
    own = _own_code(text)
    said = "Your code was not marked as such. Write it like that" if own else "For example"
    example = (
        f"{said}:\n{opening}\n{own or _EXAMPLE}\n{closing}\nA result is given by calling finish(…) inside the block."
    )
    return f"No code was found in your answer. {asked}", example


def _own_code(text: str) -> str | None:
    """The code that stands in an answer among its words, which is shown in the right form; None where none is clear."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", text[-20_000:])][-50:]
    lines = [line.strip() for part in paragraphs for line in part.split("\n")][-100:]
    candidates = [*paragraphs, *(match[1] for match in _OWN.finditer(text[-20_000:])), *lines]
    found = [
        code for code in candidates if len(code) <= 600 and "(" in code and "`" not in code and _calls_something(code)
    ]
    return next((code for code in found if "finish(" in code), found[0] if found else None)


def _calls_something(code: str) -> bool:
    tree = parsed(code)
    return tree is not None and plausible(code) and any(isinstance(node, ast.Call) for node in ast.walk(tree))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:299]}…"
