"""What an agent reads where its answer holds nothing to run: why, and how to write it."""

from __future__ import annotations

import re
from typing import Any

from ..model.base import Completion, NoAnswer
from ..styles import ActionFormat
from .code_checks import calls_something
from .python_calls import PYTHON_NAMES, loaded, plain_name

ASKED: dict[ActionFormat, str] = {
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
_OWN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def stray_call(completion: Completion, action_format: ActionFormat) -> str:
    """Why the native calls of an answer gave nothing to run."""
    call, request = completion.tool_calls[0], f"{ASKED[action_format]}."
    name = plain_name(call.name)
    if PYTHON_NAMES.fullmatch(name):
        if completion.finish_reason == "length":
            return cut_short(completion, action_format)
        if isinstance(loaded(call.arguments), dict) and not str(loaded(call.arguments).get("code", "x")).strip():
            return f"The code of your tool call was empty. {request}"
        return f"The arguments of your tool call could not be read. {request}"
    shown = _as_python(name, loaded(call.arguments))
    return (
        f"There is no tool {name!r} to be called like that. What you may call is a function in Python"
        f"{f': write `{shown}`' if shown else ''}. {request}"
    )


def _as_python(name: str, arguments: Any) -> str | None:
    """The model's own call as the line of Python that it should have been."""
    name = name.rpartition(".")[2]
    if (
        not name.isidentifier()
        or not isinstance(arguments, dict)
        or not all(str(key).isidentifier() for key in arguments)
    ):
        return None
    shown_arguments = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    await_ = "" if name == "finish" else "await "
    shown = f"{await_}{name}({shown_arguments})"
    return shown if len(shown) <= 200 else f"{await_}{name}(…)"


def cut_short(completion: Completion, action_format: ActionFormat) -> str:
    """Why an answer that broke off before its code was complete gave nothing to run."""
    return (
        f"Your answer was cut after {completion.usage.completion_tokens:,} tokens, before its {_FORMS[action_format]} was "
        "complete, so nothing was run. Write a shorter one."
    )


def missing_code(
    completion: Completion, text: str, unended: bool, action_format: ActionFormat
) -> tuple[str, str | None]:
    """Why there is no code in an answer, and an example where the form is the trouble."""
    request = f"{ASKED[action_format]}."
    cut, length = completion.finish_reason == "length", f"{completion.usage.completion_tokens:,} tokens"
    if completion.refusal:
        return f"Your answer was a refusal ({_short(completion.refusal)}), so nothing was run. {request}", None
    if completion.no_answer is NoAnswer.FILTERED or completion.finish_reason in ("content_filter", "SAFETY", "refusal"):
        return (
            f"Your answer was withheld by the endpoint's content filter ({completion.finish_reason}), so nothing was run. "
            f"Go on another way. {request}"
        ), None
    if cut and (unended or (completion.reasoning and not text.strip())):
        return (
            f"Your answer was cut after {length} of reasoning (the limit is the length of one answer, max_tokens), before any "
            f"code, so nothing was run. Think less. {request}"
        ), None
    if unended or (completion.reasoning and not text.strip()):
        return f"Your answer held only reasoning and no code. {request}", None
    if "malformed" in completion.finish_reason.lower():
        return (
            f"Your tool call was malformed ({_short(completion.finish_reason)}), so nothing was run. {request}",
            None,
        )
    if not text.strip():
        if cut:
            return f"Your answer was cut after {length} and was empty. {request}", None
        odd = completion.finish_reason not in ("stop", "tool_calls", "empty", "")
        why = f" (it ended with {_short(completion.finish_reason)!r})" if odd else ""
        return f"Your answer was empty{why}. {request}", None
    if cut:
        return (
            f"Your answer was cut after {length}, before any code, so nothing was run. Write a shorter one. {request}",
            None,
        )
    if action_format == "tool":
        return f"Your answer had no tool call. {request}", None
    opening, closing = ("```python", "```") if action_format == "fenced" else ("<python>", "</python>")
    own = _own_code(text)
    lead = "Your code was not marked as such. Write it like that" if own else "For example"
    example = (
        f"{lead}:\n{opening}\n{own or _EXAMPLE}\n{closing}\nA result is given by calling finish(…) inside the block."
    )
    return f"No code was found in your answer. {request}", example


def _own_code(text: str) -> str | None:
    """The code that stands in an answer among its words, which is shown in the right form; None where none is clear."""
    paragraphs = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", text[-20_000:])][-50:]
    lines = [line.strip() for part in paragraphs for line in part.split("\n")][-100:]
    candidates = [*paragraphs, *(match[1] for match in _OWN.finditer(text[-20_000:])), *lines]
    found = [
        code for code in candidates if len(code) <= 600 and "(" in code and "`" not in code and calls_something(code)
    ]
    return next((code for code in found if "finish(" in code), found[0] if found else None)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:299]}…"
