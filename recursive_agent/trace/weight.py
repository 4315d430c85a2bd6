"""How much an event weighs: what is heavy is written by a thread, not on the event loop."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..messages import Message
from ..sizes import LARGE_CHARS, is_large
from .schema import ClockRead, Event, ModelCalled

_NEVER_LARGE = frozenset({"int", "int | None", "float", "float | None", "Usage", "Status"})
"""Types of fields that need not be looked at."""


def is_heavy_event(event: Event) -> bool:
    """Whether writing `event` could hold up the event loop. Looks at a bounded part of it."""
    parts: list[Any]
    if isinstance(event, ModelCalled):
        arrays = (event.prompt_token_ids, event.token_ids, event.logprobs)
        if sum(len(array) for array in arrays if array is not None) > LARGE_CHARS:
            return True
        parts = [
            event.text,
            event.reasoning,
            *map(_parts, event.messages),
            [call.arguments for call in event.tool_calls],
        ]
    elif isinstance(event, ClockRead):
        return len(event.values) > LARGE_CHARS
    else:
        parts = [getattr(event, name) for name in _weighed_fields(type(event))]
    try:
        return is_large(parts)
    except Exception:  # a mapping of a foreign class may do anything
        return True


_weighed: dict[type[Event], tuple[str, ...]] = {}


def _weighed_fields(event: type[Event]) -> tuple[str, ...]:
    """The fields that may be large; looked up once for each kind of event."""
    names = _weighed.get(event)
    if names is None:
        names = _weighed[event] = tuple(field.name for field in fields(event) if field.type not in _NEVER_LARGE)
    return names


def _parts(message: Message) -> list[str]:
    return [message.content, *(call.arguments for call in message.tool_calls)]
