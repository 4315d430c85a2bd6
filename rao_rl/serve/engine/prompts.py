"""Prompts of the embedded engine: token ids out of messages and texts, and the room they leave for an answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio.to_thread

from recursive_agent.errors import CapabilityMissing
from recursive_agent.model.base import Message
from recursive_agent.model.local import LocalModel

from ..http.errors import ApiError
from ..http.protocol import ChatMessage


class Prompts:
    """Makes the prompts of one model. `window` is its context length in tokens."""

    def __init__(self, model: LocalModel) -> None:
        self.window = model.window
        self._renderer = model.renderer
        self._vocabulary = model.vocabulary

    async def of_chat(self, messages: Sequence[ChatMessage], *, generation_prompt: bool) -> list[int]:
        """Ids of a conversation under the chat template. Raises ApiError 400 where that cannot be written."""
        plain = [_plain(place, message) for place, message in enumerate(messages)]
        # Long prompts take the tokenizer a while, which other requests need not wait for.
        encode = partial(self._renderer.encode, plain, generation_prompt=generation_prompt)
        try:
            ids = await anyio.to_thread.run_sync(encode)
        except CapabilityMissing as error:
            raise ApiError(400, str(error), param="messages") from None
        return self._checked(ids, "messages")

    async def of_text(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text; with `special`, as the tokenizer begins a text. Raises ApiError 400 for one without tokens."""
        encode = partial(self._renderer.tokenizer.encode, text, add_special_tokens=special)
        return self._checked(list((await anyio.to_thread.run_sync(encode)).ids), "prompt")

    async def of_prompt(
        self, prompt: str | list[int] | list[str] | list[list[int]], *, special: bool
    ) -> list[list[int]]:
        """Ids of each prompt of a completion request. Raises ApiError 400 for ids that the model does not know."""
        several = prompt if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else [prompt]
        return [
            await self.of_text(item, special=special) if isinstance(item, str) else self._checked(list(item), "prompt")  # type: ignore[arg-type]
            for item in several
        ]

    def answer_tokens(self, prompt: Sequence[int], requested: int | None, default: int) -> int:
        """The most tokens of an answer: what was `requested` (or else the default), cut to the room there is, as in vLLM.

        Raises ApiError 400 where there is none, or where it could never be enough.
        """
        room = self.window - len(prompt)
        if room < 1 or (requested or 1) > self.window:
            raise ApiError(
                400,
                f"This model's maximum context length is {self.window} tokens. However, you requested {requested or 1} "
                f"output tokens and your prompt contains {len(prompt)} input tokens. Shorten either.",
                param="prompt" if room < 1 else "max_tokens",
                code="context_length_exceeded",
            )
        return min(requested or default, room)

    def _checked(self, ids: list[int], param: str) -> list[int]:
        if not ids:
            raise ApiError(400, "The prompt has no tokens.", param=param)
        if max(ids) >= self._vocabulary:
            raise ApiError(400, f"Token id {max(ids)} is not among the model's {self._vocabulary}.", param=param)
        return ids


def _plain(place: int, message: ChatMessage) -> Message:
    if message.tool_calls:
        where = f"messages.{place}.tool_calls"
        raise ApiError(400, "This model makes no tool calls, so a conversation cannot hold any.", param=where)
    role = "system" if message.role == "developer" else message.role
    return Message(role, message.text, tool_call_id=message.tool_call_id)
