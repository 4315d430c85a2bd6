"""The `chat` interface: messages in, text out, over /v1/chat/completions of any endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..usage import Usage
from .base import Completion, Message, OnLost, OnText, Sampling, ToolCall
from .endpoint import OPENAI_URL, Endpoint
from .failures import Rejected
from .remote import RemoteModel, Stopwatch, first_choice, reported_usage
from .retry import Exhausted, Retries, call_with_retries

_FIXED_OVERHEAD = 256
"""Tokens a template may add of its own once: a default system prompt, the date, the generation prompt."""
_MESSAGE_OVERHEAD = 16
"""Tokens a template may add around one message."""
_SHORTEST_ANSWER = 16
"""Tokens below which an answer is not worth guessing for."""
_TOOLS_OVERHEAD = 512
"""Tokens a template may use to explain tool calls."""


class ChatModel(RemoteModel):
    """A model behind /v1/chat/completions."""

    interface: Literal["chat", "tokens"] = "chat"
    path = "/chat/completions"

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        sampling: Sampling | None = None,
        timeout: float = 600.0,
        retries: Retries | None = None,
    ) -> None:
        super().__init__(endpoint, sampling=sampling or Sampling(), timeout=timeout, retries=retries or Retries())
        # OpenAI's reasoning models know only the new name, most other servers only the old one.
        self.window_hint: int | None = None
        """The context window as a refusal named it."""
        self._limit_name = "max_completion_tokens" if endpoint.base_url == OPENAI_URL else "max_tokens"

    def conversation(
        self, *, tools: Sequence[Mapping[str, Any]] = (), sampling: Sampling | None = None
    ) -> ChatConversation:
        """A new, empty conversation."""
        return ChatConversation(self, tools, self.sampling_or_own(sampling))

    async def answer(self, body: dict[str, Any], max_tokens: int, on_text: OnText | None) -> dict[str, Any]:
        """One attempt, corrected where the endpoint says how: the limit's name, an answer too long for the window."""
        while True:
            try:
                return await self.ask({**body, self._limit_name: max_tokens}, on_text)
            except Rejected as rejected:
                if self._limit_name == "max_tokens" and _wants_new_name(rejected):
                    self._limit_name = "max_completion_tokens"
                    continue
                shorter = self._shorter(rejected, max_tokens)
                if shorter is None:
                    raise
                max_tokens = shorter

    def _shorter(self, rejected: Rejected, max_tokens: int) -> int | None:
        """A limit that may fit where `max_tokens` did not; None where the prompt alone is too long."""
        sizes = rejected.sizes() if rejected.is_overflow else None
        if sizes is None:
            return None
        self.window_hint = sizes.window
        # Where the endpoint did not count to the end, halving finds a limit that fits; being refused costs nothing.
        room = sizes.window - sizes.prompt if sizes.exact else min(max_tokens // 2, sizes.window - 1)
        return room if (1 if sizes.exact else _SHORTEST_ANSWER) <= room < max_tokens else None


class ChatConversation:
    """One node's exchange over chat completions. `prompt_tokens` is an upper bound."""

    exact = False

    def __init__(self, model: ChatModel, tools: Sequence[Mapping[str, Any]], sampling: Sampling) -> None:
        self.messages: list[Message] = []
        self._model = model
        self._sampling = sampling
        self._tools = [dict(tool) for tool in tools]
        self._known = _FIXED_OVERHEAD
        """Upper bound of the tokens of the first `_counted` messages, tools included."""
        if self._tools:
            self._known += _TOOLS_OVERHEAD + len(json.dumps(self._tools, indent=4))
        self._counted = 0

    def add(self, *messages: Message) -> None:
        """Append messages."""
        self.messages.extend(messages)

    async def prompt_tokens(self) -> int:
        """Upper bound: a token of a byte-level vocabulary is at least one byte of UTF-8; what was billed is known."""
        return self._bound()

    async def complete(
        self,
        *,
        max_tokens: int,
        seed: int | None = None,
        on_text: OnText | None = None,
        on_lost: OnLost | None = None,
    ) -> Completion:
        """One model call; see `Conversation.complete`."""
        model, watch = self._model, Stopwatch()
        max_tokens = max(1, min(max_tokens, self._sampling.max_tokens))
        sent, bound = len(self.messages), self._bound()
        if self._counted and model.window_hint is not None:
            # After an answer the bound is tight, so this spares a refusal without giving away much.
            max_tokens = min(max_tokens, max(model.window_hint - bound, _SHORTEST_ANSWER))
        body = {**model.body(self._sampling, seed=seed), "messages": [_plain(message) for message in self.messages]}
        if self._tools:
            body["tools"] = self._tools
        try:
            answered = await call_with_retries(
                lambda: model.answer(body, max_tokens, on_text),
                model.retries,
                bound=bound + max_tokens,
                on_lost=on_lost,
            )
        except Exhausted as exhausted:
            raise await model.failed(exhausted) from None
        data = answered.value
        choice = first_choice(data)
        text, calls = _content(choice)
        usage = reported_usage(data)
        self.messages.insert(sent, Message("assistant", text, calls))
        self._settle(usage, bound, sent)
        if usage is None:
            usage = Usage(calls=1, unconfirmed=bound + max_tokens)
        fingerprint = data.get("system_fingerprint")
        return Completion(
            text=text,
            finish_reason=str(choice.get("finish_reason") or ("stop" if choice else "empty")),
            usage=replace(usage, unconfirmed=usage.unconfirmed + answered.unconfirmed),
            model=str(data.get("model") or model.name),
            version=str(fingerprint) if fingerprint else None,
            tool_calls=calls,
            latency=watch.seconds,
            attempts=answered.attempts,
        )

    def _bound(self) -> int:
        return self._known + sum(_size(message) for message in self.messages[self._counted :])

    def _settle(self, usage: Usage | None, bound: int, sent: int) -> None:
        """Tighten the bound to what the endpoint counted."""
        answer = _size(self.messages[sent])
        if usage is None:
            self._known = bound + answer
        else:
            # Tool calls are written anew by the template, which may take more tokens than the model did.
            calls = answer if self.messages[sent].tool_calls else 0
            self._known = usage.prompt_tokens + max(usage.completion_tokens, calls) + _MESSAGE_OVERHEAD
        self._counted = sent + 1


def _wants_new_name(rejected: Rejected) -> bool:
    return rejected.status == 400 and not rejected.is_overflow and "max_completion_tokens" in rejected.message


def _size(message: Message) -> int:
    """Upper bound of a message's tokens."""
    size = _MESSAGE_OVERHEAD + len(message.content.encode("utf-8", "surrogatepass"))
    for call in message.tool_calls:
        size += _MESSAGE_OVERHEAD + len(json.dumps([call.id, call.name, call.arguments])) * 2
    return size + (len(message.tool_call_id) if message.tool_call_id else 0)


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        plain["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _content(choice: Mapping[str, Any]) -> tuple[str, tuple[ToolCall, ...]]:
    """Text and tool calls of a choice, whatever is missing."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return "", ()
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    calls = []
    for position, call in enumerate(message.get("tool_calls") or ()):
        function = (call.get("function") if isinstance(call, dict) else None) or {}
        arguments = function.get("arguments")
        calls.append(
            ToolCall(
                id=str(call.get("id") or f"call_{position}") if isinstance(call, dict) else f"call_{position}",
                name=str(function.get("name") or ""),
                # Ollama and others give an object where OpenAI gives text.
                arguments=arguments if isinstance(arguments, str) else json.dumps(arguments or {}),
            )
        )
    return str(content or ""), tuple(calls)
