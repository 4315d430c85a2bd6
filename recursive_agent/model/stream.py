"""Streamed answers put together again, into the shape that whole answers have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from .base import OnText
from .failures import Failure


async def assemble(chunks: AsyncIterator[dict[str, Any]], on_text: OnText) -> dict[str, Any]:
    """Merge the chunks of one answer, calling `on_text` with each piece of its text.

    Raises Failure where the stream ends before the answer does.
    """
    body: dict[str, Any] = {}
    choice = _Choice()
    seen = False
    async for chunk in chunks:
        seen = True
        for key in ("id", "model", "system_fingerprint", "prompt_token_ids"):
            if chunk.get(key) is not None:
                body.setdefault(key, chunk[key])
        if chunk.get("usage"):
            body["usage"] = chunk["usage"]
        if "message" in (first := _first(chunk)):
            return chunk  # the endpoint answered in one piece although a stream was asked for
        if first and (text := choice.add(first)):
            on_text(text)
    if not seen or (choice.started and choice.finish_reason is None):
        raise Failure("the stream ended before the answer did", lost=True)
    body["choices"] = [choice.whole()] if choice.started else []
    return body


class _Choice:
    """The one choice of a stream, as it grows."""

    def __init__(self) -> None:
        self.started = False
        self.finish_reason: str | None = None
        self._chat = True
        self._text: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._token_ids: list[Any] | None = None
        self._logprobs: list[Any] | None = None
        self._prompt_token_ids: Any = None

    def add(self, choice: Mapping[str, Any]) -> str:
        """Take one chunk; returns its text."""
        self.started = True
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if choice.get("token_ids") is not None:
            self._token_ids = (self._token_ids or []) + list(choice["token_ids"])
        if (choice.get("logprobs") or {}).get("token_logprobs") is not None:
            self._logprobs = (self._logprobs or []) + list(choice["logprobs"]["token_logprobs"])
        if choice.get("prompt_token_ids") is not None:
            self._prompt_token_ids = choice["prompt_token_ids"]
        delta = choice.get("delta")
        if delta is None:
            self._chat = False
            text = choice.get("text") or ""
        else:
            text = delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                self._add_call(call)
        if text:
            self._text.append(text)
        return str(text)

    def whole(self) -> dict[str, Any]:
        """The choice as a whole answer would have it."""
        text = "".join(self._text)
        choice: dict[str, Any] = {"finish_reason": self.finish_reason, "token_ids": self._token_ids}
        if self._logprobs is not None:
            choice["logprobs"] = {"token_logprobs": self._logprobs}
        if self._prompt_token_ids is not None:
            choice["prompt_token_ids"] = self._prompt_token_ids
        calls = [self._calls[index] for index in sorted(self._calls)]
        return choice | ({"message": {"content": text, "tool_calls": calls}} if self._chat else {"text": text})

    def _add_call(self, delta: Mapping[str, Any]) -> None:
        call = self._calls.setdefault(
            int(delta.get("index") or 0), {"id": "", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = delta.get("id") or call["id"]
        function = delta.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def _first(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = chunk.get("choices") or [{}]
    return choices[0] if isinstance(choices[0], dict) else {}
