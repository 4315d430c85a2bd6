"""How much an event weighs: what is heavy is written by a thread, not on the event loop."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..model.base import Message
from ..sizes import LARGE_CHARS, is_large
from .schema import Event, ModelCalled


def is_heavy_event(event: Event) -> bool:
    """Whether writing `event` could hold up the event loop. Looks at a bounded part of it."""
    parts: list[Any] = [getattr(event, field.name) for field in fields(event)]
    if isinstance(event, ModelCalled):
        arrays = (event.prompt_token_ids, event.token_ids, event.logprobs)
        if sum(len(array) for array in arrays if array is not None) > LARGE_CHARS:
            return True
        parts = [event.text, *map(_parts, event.messages), [call.arguments for call in event.tool_calls]]
    try:
        return is_large(parts)
    except Exception:  # a mapping of a foreign class may do anything
        return True


def _parts(message: Message) -> list[str]:
    return [message.content, *(call.arguments for call in message.tool_calls)]
