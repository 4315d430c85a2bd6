"""Streamed answers put together again, into the shape that whole answers have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from .answer import refusal_of
from .base import OnText
from .failures import Failure

_MOST_CALLS = 1000
"""Tool calls of one answer that are put together."""


async def assemble(chunks: AsyncIterator[dict[str, Any]], on_text: OnText) -> dict[str, Any]:
    """Merge the chunks of one answer, calling `on_text` with each piece of its text.

    Raises Failure where the stream ends before the answer does.
    """
    answer = Assembly()
    async for chunk in chunks:
        if text := answer.add(chunk):
            on_text(text)
    return answer.body()


class Assembly:
    """An answer as it grows."""

    def __init__(self) -> None:
        self._body: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._choice = _Choice()
        self._seen = False

    def add(self, chunk: Mapping[str, Any]) -> str:
        """Take one chunk; returns its text."""
        self._seen = True
        for key in ("id", "model", "system_fingerprint", "prompt_token_ids"):
            if chunk.get(key) is not None:
                self._body.setdefault(key, chunk[key])
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            _merge_usage(self._usage, usage)
        first = _first(chunk)
        if isinstance(first.get("message"), dict) and "delta" not in first:
            self._body = {**self._body, **chunk}  # the endpoint answered in one piece although a stream was asked for
            return ""
        return self._choice.add(first) if first else ""

    def body(self) -> dict[str, Any]:
        """The answer as a whole one would be. Raises Failure where the stream ended before it did."""
        if self._usage:
            self._body["usage"] = self._usage
        if "choices" in self._body and not self._choice.started:
            return self._body
        if not self._seen or (self._choice.started and self._choice.finish_reason is None):
            raise Failure("the stream ended before the answer did", lost=True)
        self._body["choices"] = [self._choice.whole()] if self._choice.started else []
        return self._body


class _Choice:
    """The one choice of a stream, as it grows."""

    def __init__(self) -> None:
        self.started = False
        self.finish_reason: Any = None
        self._chat = True
        self._text: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._by_index: dict[Any, dict[str, Any]] = {}
        self._legacy: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._token_ids: list[Any] | None = None
        self._logprobs: list[Any] | None = None
        self._prompt_token_ids: Any = None

    def add(self, choice: Mapping[str, Any]) -> str:
        """Take one chunk; returns its text."""
        self.started = True
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if isinstance(ids := choice.get("token_ids"), list):
            self._token_ids = [*(self._token_ids or ()), *ids]
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(values := logprobs.get("token_logprobs"), list):
            self._logprobs = [*(self._logprobs or ()), *values]
        if choice.get("prompt_token_ids") is not None:
            self._prompt_token_ids = choice["prompt_token_ids"]
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            self._chat = self._chat and "text" not in choice
            text = choice.get("text")
        else:
            text = self._add_delta(delta)
        if not isinstance(text, str) or not text:
            return ""
        self._text.append(text)
        return text

    def _add_delta(self, delta: Mapping[str, Any]) -> Any:
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._add_call(call)
        if isinstance(call := delta.get("function_call"), dict):
            _extend(self._legacy, call, joined=("name", "arguments"))
        content = delta.get("content")
        if isinstance(content, dict):
            content = [content]
        if isinstance(content, list):
            content = "".join(map(self._add_part, content))
        rest = {key: value for key, value in delta.items() if key not in _READ}
        _extend(self._extra, rest, joined=tuple(key for key, value in rest.items() if isinstance(value, str)))
        return content

    def _add_part(self, part: Any) -> str:
        """Take a part of the content, which may be thinking, or a refusal; returns its text."""
        if isinstance(part, str):
            return part
        if not isinstance(part, dict):
            return ""
        refusal = refusal_of(part)
        if refusal is not None:
            _extend(self._extra, {"refusal": refusal}, joined=("refusal",))
            return ""
        if part.get("type") in _THINKING:
            self._extra.setdefault("thinking_parts", []).append(part)
            return ""
        text = part.get("text")
        return text if isinstance(text, str) else ""

    def whole(self) -> dict[str, Any]:
        """The choice as a whole answer would have it."""
        text = "".join(self._text)
        choice: dict[str, Any] = {"finish_reason": self.finish_reason, "token_ids": self._token_ids}
        if self._logprobs is not None:
            choice["logprobs"] = {"token_logprobs": self._logprobs}
        if self._prompt_token_ids is not None:
            choice["prompt_token_ids"] = self._prompt_token_ids
        if not self._chat:
            return choice | {"text": text}
        message: dict[str, Any] = {**self._extra, "content": text, "tool_calls": self._calls}
        if self._legacy:
            message["function_call"] = self._legacy
        return choice | {"message": message}

    def _add_call(self, delta: Mapping[str, Any]) -> None:
        """Take a piece of a tool call. Its index may be missing, its id and name may be repeated with each piece."""
        known = self._call_of(delta)
        function = delta.get("function")
        rest = {key: value for key, value in delta.items() if key not in ("index", "id", "function")}
        if delta.get("id"):
            known["id"] = delta["id"]
        _extend(known, rest, joined=())
        if isinstance(function, dict):
            inner = known["function"]
            name = function.get("name")
            # Names come in pieces from some, and whole with each piece from others.
            if isinstance(name, str) and name and not str(inner.get("name", "")).startswith(name):
                inner["name"] = str(inner.get("name", "")) + name
            elif isinstance(name, str):
                inner.setdefault("name", name)
            rest = {key: value for key, value in function.items() if key not in ("name", "arguments")}
            _extend(inner, rest, joined=())
            arguments = function.get("arguments")
            if isinstance(arguments, str) and isinstance(inner.get("arguments"), str):
                inner["arguments"] += arguments
            elif arguments is not None:
                inner["arguments"] = arguments

    def _call_of(self, delta: Mapping[str, Any]) -> dict[str, Any]:
        index, own = delta.get("index"), delta.get("id")
        last = self._calls[-1] if self._calls else None
        if isinstance(index, int):
            known = self._by_index.get(index)
            if known is not None and own and known["id"] and own != known["id"] and _begins(delta):
                known = None  # another call under the same index, as some gateways number them
        elif last is not None and (not own or own == last["id"]) and not (_begins(delta) and _is_complete(last)):
            known = last
        else:
            known = next((call for call in self._calls if own and call["id"] == own), None)
        if known is None:
            if len(self._calls) >= _MOST_CALLS:
                return self._calls[-1]
            known = {"id": "", "function": {"name": "", "arguments": ""}}
            self._calls.append(known)
            if isinstance(index, int):
                self._by_index[index] = known
        return known


_READ = frozenset({"role", "content", "tool_calls", "function_call"})
_THINKING = frozenset({"thinking", "reasoning", "redacted_thinking", "reasoning_text"})


def _begins(delta: Mapping[str, Any]) -> bool:
    function = delta.get("function")
    return isinstance(function, dict) and bool(function.get("name"))


def _is_complete(call: Mapping[str, Any]) -> bool:
    arguments = call["function"]["arguments"]
    return not isinstance(arguments, str) or arguments.rstrip().endswith("}")


def _extend(whole: dict[str, Any], piece: Mapping[str, Any], *, joined: tuple[str, ...]) -> None:
    """Merge a piece into what there is: text of the fields `joined` and lists grow, everything else is replaced."""
    for key, value in piece.items():
        if value is None:
            continue
        known = whole.get(key)
        if isinstance(known, str) and isinstance(value, str) and key in joined:
            whole[key] = known + value
        elif isinstance(known, list) and isinstance(value, list):
            whole[key] = [*known, *value]
        else:
            whole[key] = value


def _merge_usage(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Counts of a stream are cumulative, and its last chunk may name only some of them: the largest of each counts."""
    for key, value in piece.items():
        known = whole.get(key)
        if isinstance(value, dict):
            inner = whole.setdefault(key, {})
            if isinstance(inner, dict):
                _merge_usage(inner, value)
        elif isinstance(value, int | float) and isinstance(known, int | float):
            whole[key] = max(known, value)
        elif value is not None:
            whole[key] = value


def _first(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    """The piece of the one choice that was asked for; gateways that make several number them."""
    choices = chunk.get("choices")
    pieces = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    return next((choice for choice in pieces if choice.get("index") in (0, None)), {})
