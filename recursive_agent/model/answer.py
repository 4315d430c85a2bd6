"""Reads one answer of chat: text, drafts, tool calls, and why an answer is empty."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .base import NoAnswer, ToolCall
from .texts import clean
from .thinking import part

_REASONING = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "reasoning_text")
"""Fields in which providers put drafts, best first."""
_DETAILS = ("reasoning_details", "thinking_blocks", "thinking_parts")
"""Fields that hold them as a list of parts (OpenRouter, LiteLLM, Mistral)."""
_READ = frozenset({"role", "content", "tool_calls", "function_call", "refusal", "annotations", "audio", "name"})
_FILTERED = frozenset({"content_filter", "safety", "prohibited_content", "blocklist", "recitation", "spii", "sensitive",
                       "guardrail_intervened", "content_filtered", "moderation", "refusal", "image_safety"})  # fmt: skip
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_MOST_CALLS = 100


@dataclass(frozen=True, slots=True)
class Echo:
    """What an endpoint wants back with its own message, beside text and tool calls: reasoning and its signatures."""

    message: Mapping[str, Any] = field(default_factory=dict)
    calls: tuple[Mapping[str, Any], ...] = ()
    """Fields of each tool call; those of its `function` stand under that name."""
    null: bool = False
    """Whether its content was null."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says."""

    text: str = ""
    reasoning: str | None = None
    calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    finish_reason: str = "empty"
    no_answer: NoAnswer | None = None
    echo: Echo = field(default_factory=Echo)
    size: int = 0
    """Bytes of everything that was sampled, as far as it can be seen."""


def read_choice(choice: Mapping[str, Any], *, place: int) -> Reading:
    """Read the choice of an answer, whatever is missing. `place` is the message's, for ids of calls that have none."""
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    content = _content(message.get("content"))
    parted = part(clean(content.text))
    drafts = [text for text in (_field(message), content.drafts, parted.draft) if text]
    reasoning = "\n\n".join(dict.fromkeys(drafts)) or None
    calls, extras = _calls(message, place)
    refusal = next((text for text in (message.get("refusal"), content.refusal) if _says(text)), None)
    refusal = clean(refusal) if refusal is not None else None
    reason = choice.get("finish_reason")
    finish_reason = clean(reason)[:80] if isinstance(reason, str) and reason else ("stop" if choice else "empty")
    return Reading(
        text=parted.answer,
        reasoning=reasoning,
        calls=calls,
        refusal=refusal[:2000] if refusal is not None else None,
        finish_reason=_common(finish_reason),
        no_answer=None
        if parted.answer.strip() or calls
        else _why(finish_reason, refusal, choice, thought=reasoning is not None),
        echo=Echo(_extra(message, _READ), extras, null=message.get("content") is None),
        size=sampled([content.text, refusal]) + sum(len(c.name) + len(c.arguments) for c in calls),
    )


def _common(finish_reason: str) -> str:
    """Other names of the same: `length` for every answer that was cut."""
    lowered = finish_reason.lower()
    if lowered in _CUT:
        return "length"
    return {"end_turn": "stop", "eos": "stop", "eos_token": "stop", "tool_use": "tool_calls"}.get(
        lowered, finish_reason
    )


def _why(finish_reason: str, refusal: str | None, choice: Mapping[str, Any], *, thought: bool) -> NoAnswer:
    if refusal is not None:
        return NoAnswer.REFUSED
    native = choice.get("native_finish_reason")
    if {finish_reason.lower(), native.lower() if isinstance(native, str) else ""} & _FILTERED or _is_filtered(choice):
        return NoAnswer.FILTERED
    if finish_reason.lower() in _CUT:
        return NoAnswer.CUT_WHILE_THINKING
    return NoAnswer.ONLY_THINKING if thought else NoAnswer.EMPTY


def _is_filtered(choice: Mapping[str, Any]) -> bool:
    """Azure lists the filters beside the answer."""
    results = choice.get("content_filter_results")
    return isinstance(results, Mapping) and any(
        isinstance(result, Mapping) and result.get("filtered") is True for result in results.values()
    )


@dataclass(frozen=True, slots=True)
class _Content:
    """A message's content: its text, and what stands beside that as parts of a list."""

    text: str = ""
    drafts: str = ""
    refusal: str = ""


def _content(content: Any) -> _Content:
    if isinstance(content, str):
        return _Content(content)
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return _Content()
    texts, drafts, refusals = [], [], []
    for item in content:
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, Mapping):
            kind = item.get("type")
            refusal = refusal_of(item)
            if refusal is not None:
                refusals.append(refusal)
            elif isinstance(kind, str) and ("think" in kind or "reason" in kind):
                drafts.append(_draft(item))
            else:
                text = item.get("text")
                texts.append(text if isinstance(text, str) else _content(text).text if isinstance(text, list) else "")
    return _Content("".join(texts), "\n\n".join(draft for draft in drafts if draft), "".join(refusals))


def refusal_of(item: Mapping[str, Any]) -> str | None:
    """The words of a part of a message's content that is a refusal; None for any other part."""
    refusal = item.get("refusal")
    if item.get("type") == "refusal":
        words = next((text for text in (refusal, item.get("text"), item.get("content")) if _says(text)), "")
        return words if isinstance(words, str) else ""
    return refusal if isinstance(refusal, str) and refusal and not _says(item.get("text")) else None


def _says(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _field(message: Mapping[str, Any]) -> str:
    """The drafts that a message holds in a field of their own."""
    for name in _REASONING:
        if text := _draft(message.get(name)):
            return text
    return next((text for name in _DETAILS if (text := _draft(message.get(name)))), "")


def _draft(value: Any, depth: int = 0) -> str:
    if isinstance(value, str):
        return clean(value).strip()
    if depth > 3:
        return ""
    if isinstance(value, list):
        return "\n".join(text for item in value[:1000] if (text := _draft(item, depth + 1)))
    if isinstance(value, Mapping):
        names = ("text", "thinking", "reasoning", "summary", "content")
        return next((text for name in names if (text := _draft(value.get(name), depth + 1))), "")
    return ""


def _extra(data: Mapping[str, Any], read: frozenset[str]) -> dict[str, Any]:
    """Fields beside those that are read, empty ones left out."""
    return {name: value for name, value in data.items() if name not in read and value not in (None, "", [], {})}


def _calls(message: Mapping[str, Any], place: int) -> tuple[tuple[ToolCall, ...], tuple[Mapping[str, Any], ...]]:
    listed = message.get("tool_calls")
    listed = [listed] if isinstance(listed, Mapping) else listed
    raw = [call for call in listed[:_MOST_CALLS] if isinstance(call, Mapping)] if isinstance(listed, list) else []
    if not raw and isinstance(legacy := message.get("function_call"), Mapping):
        raw = [{"function": legacy}]
    calls: list[ToolCall] = []
    extras: list[Mapping[str, Any]] = []
    ids: set[str] = set()
    for position, call in enumerate(raw):
        function = call.get("function")
        inner = function if isinstance(function, Mapping) else call
        name = inner.get("name") or (function if isinstance(function, str) else "")
        identity = call.get("id") or call.get("call_id")
        identity = clean(str(identity))[:200] if isinstance(identity, str | int) else ""
        if not identity or identity in ids:
            identity = f"call{place % 1000:03d}{position % 100:02d}"  # nine letters and digits, as Mistral wants them
        ids.add(identity)
        calls.append(ToolCall(identity, clean(name)[:200] if isinstance(name, str) else "", _arguments(inner)))
        extra = _extra(call, frozenset({"id", "call_id", "function", "index", "type", "name", *_ARGUMENTS}))
        if inner is function and (within := _extra(inner, frozenset({"name", "description", *_ARGUMENTS}))):
            extra["function"] = within
        extras.append(extra)
    return tuple(calls), tuple(extras)


_ARGUMENTS = ("arguments", "input", "parameters", "args")


def _arguments(function: Mapping[str, Any]) -> str:
    """Arguments as JSON text. Ollama and others give an object where OpenAI gives text."""
    for name in _ARGUMENTS:
        value = function.get(name)
        if isinstance(value, str):
            return clean(value)
        if value is not None:
            return json.dumps(value, ensure_ascii=False)
    return "{}"


def sampled(readings: Iterable[str | None]) -> int:
    """Bytes of texts."""
    return sum(len(text.encode("utf-8", "replace")) for text in readings if text)


def names_of(echoes: Iterable[Echo]) -> Sequence[str]:
    """The names of all fields that go back."""
    names: dict[str, None] = {}
    for echo in echoes:
        names.update(dict.fromkeys(echo.message))
        for extra in echo.calls:
            names.update(dict.fromkeys(extra))
            inner = extra.get("function")
            names.update(dict.fromkeys(inner if isinstance(inner, Mapping) else ()))
    names.pop("function", None)
    return tuple(names)
