"""The code in calls of the tool `python`: the arguments of native calls, and calls that are spelt in a text."""

from __future__ import annotations

import json
import re
from typing import Any

from .code_checks import plausible, unwrapped
from .fences import blocks, is_code, parsed
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
PYTHON_NAMES = re.compile(
    r"(?:functions?\.|tools?\.|default_api[.:])?"
    r"(?:i?python(?:_?(?:exec|repl|code|tool|interpreter|cell))?3?|code_?(?:interpreter|execution)|execute_(?:i?python|code)|"
    r"run_(?:python|code)|repl)(?:\.(?:run|exec))?",
    re.I,
)
_CODE_KEYS = ("code", "source", "python", "script", "input", "query", "command", "cell")
_TALK = frozenset({"thought", "thoughts", "reasoning", "explanation", "language", "lang", "comment", "description"})


def spelt_calls(text: str) -> list[str]:
    """Code of calls that are spelt in the text: `{"name": "python", "arguments": {"code": …}}` and its relatives."""
    found: list[str] = []
    for match in _QWEN_CALL.finditer(text):
        if PYTHON_NAMES.fullmatch(match["name"]):
            code = match["code"] if match["code"] is not None else code_argument(match["json"])
            found += [code] if code else []
    for match in _HARMONY_CALL.finditer(text):
        if PYTHON_NAMES.fullmatch(match["name"]) and (code := code_argument(match["given"].strip())):
            found.append(code)
    for name, raw in written_calls(text):
        if PYTHON_NAMES.fullmatch(name):
            code = code_argument(raw) if isinstance(raw, str) else _code_in(raw)
            found += [code] if code else []
    pythonic = pythonic_call(parsed(text.strip())) if "(" in text else None
    if pythonic is not None and PYTHON_NAMES.fullmatch(pythonic[0]) and (code := _code_in(pythonic[1])):
        found.append(code)
    candidates = [match["call"] or match["rest"] or "" for match in _CALL_TAG.finditer(text)]
    candidates += [
        block.code for block in blocks(text) if block.is_python or block.label in ("", "json", "tool_call", "tool")
    ]
    for candidate in [text, *candidates]:
        code = spelt_call(candidate.strip())
        found += [code] if code else []
    return [code.strip("\n") for code in found if is_code(code)]


def spelt_call(text: str) -> str | None:
    """The code of a call that a text, which is JSON, spells; None where it spells none."""
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
    if not isinstance(name, str) or not PYTHON_NAMES.fullmatch(name):
        return None
    raw = next((call[key] for key in ("arguments", "parameters", "args", "input", "action_input") if key in call), None)
    return code_argument(raw)


def code_argument(raw: Any) -> str | None:
    """The code among the arguments of a call to `python`, in the ways that models give it."""
    if isinstance(raw, str):
        try:
            value = json.loads(raw, strict=False)
        except (ValueError, RecursionError):
            # gpt-oss sends the bare code; arguments that broke off are no code.
            return _clean_code(raw) if is_code(unwrapped(raw)) else None
        if not isinstance(value, dict | list):
            return value if isinstance(value, str) else (raw if is_code(raw) and plausible(raw) else None)
        raw = value
    return _code_in(raw) if isinstance(raw, dict) else None


def _code_in(raw: dict[str, Any]) -> str | None:
    code = next((raw[key] for key in _CODE_KEYS if key in raw), None)
    if code is None and len(raw) == 1:
        (code,) = raw.values()
        code = code if isinstance(code, str) and is_code(code) and plausible(code) else None
    if isinstance(code, list) and all(isinstance(line, str) for line in code):
        code = "\n".join(line.rstrip("\n") for line in code)
    return _clean_code(code) if isinstance(code, str) else None


def _clean_code(code: str) -> str:
    return unwrapped(code.replace("\r\n", "\n").replace("\r", "\n"))


def plain_name(name: str) -> str:
    """A name without what templates leave on it (`python<|channel|>commentary`)."""
    return re.split(r"<\||\s", name.strip(), maxsplit=1)[0]


def loaded(arguments: str) -> Any:
    """JSON arguments as a value; None where they cannot be read."""
    try:
        return json.loads(arguments, strict=False)
    except (ValueError, RecursionError):
        return None
