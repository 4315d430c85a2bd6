"""Messages, code and results as attributes, for those who ask for them: JSON, shortened, and without secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ...messages import Message
from ..redact import Redactor
from ..schema import ModelCalled

VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The conventions' own switch. Content goes into spans, so of its values SPAN_ONLY, SPAN_AND_EVENT and true count."""
_ON = frozenset({"span_only", "span_and_event", "true", "1"})
LONGEST = 20_000
"""Characters of a text that an attribute keeps."""


def wanted(argument: bool | None = None) -> bool:
    """Whether spans are to hold content: as the argument says, else as the environment does; by default they do not."""
    return os.environ.get(VARIABLE, "").strip().lower() in _ON if argument is None else argument


class Content:
    """Makes attributes of content; of nothing where it is off."""

    def __init__(self, on: bool, secrets: Sequence[str] = ()) -> None:
        self.on = on
        self._redactor = Redactor(secrets)

    def text(self, text: str) -> str:
        """A text without secrets, shortened."""
        # A secret at the cut is found only if the text is redacted first, and a text may be very long.
        text = self._redactor.text(text[: 2 * LONGEST])
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}… [shortened]"

    def value(self, value: Any) -> str:
        """Any plain value as JSON, without secrets, shortened."""
        return self.text(json.dumps(self._shortened(value), ensure_ascii=False, default=_other))

    def messages(self, messages: Sequence[Message]) -> str:
        """Messages as the conventions' JSON."""
        return json.dumps([self._message(each) for each in messages], ensure_ascii=False)

    def answer(self, called: ModelCalled) -> str:
        """The answer of a model call likewise."""
        message = self._message(Message("assistant", called.text, tuple(called.tool_calls)))
        if called.reasoning:
            message["parts"].insert(0, {"type": "reasoning", "content": self.text(called.reasoning)})
        return json.dumps([{**message, "finish_reason": called.finish_reason}], ensure_ascii=False)

    def said(self, role: str, text: str, **more: Any) -> str:
        """One message of text likewise."""
        return json.dumps([{**self._message(Message(role, text)), **more}], ensure_ascii=False)  # type: ignore[arg-type]

    def _message(self, message: Message) -> dict[str, Any]:
        parts: list[dict[str, Any]] = []
        if message.tool_call_id is not None:
            answered = {"type": "tool_call_response", "id": message.tool_call_id}
            parts.append({**answered, "response": self.text(message.content)})
        elif message.content:
            parts.append({"type": "text", "content": self.text(message.content)})
        for call in message.tool_calls:
            arguments = self.text(call.arguments)
            parts.append({"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments})
        return {"role": message.role, "parts": parts}

    def _shortened(self, value: Any) -> Any:
        """The value with its long texts shortened, so that not all of it is spelled only to be cut."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(key): self._shortened(item) for key, item in list(value.items())[:1_000]}
        if isinstance(value, list | tuple):
            return [self._shortened(item) for item in value[:1_000]]
        return value


def _other(value: object) -> str:
    return f"{len(value):,} bytes" if isinstance(value, bytes) else f"{value!r:.200}"
