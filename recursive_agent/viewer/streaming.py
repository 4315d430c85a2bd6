"""Server-sent events for a page that follows runs, whatever server sends them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

import anyio
import anyio.to_thread

from .follow import Message
from .page import json_text

EVERY = 0.25
"""Seconds between two looks at the files."""
_MOST_BETWEEN = 2.0
_SHARE = 4.0
"""How many times as long as making the data took is waited before the next time, so that watching stays cheap."""
_SILENCE = 15.0
"""Seconds after which a comment is sent, so that neither side takes the connection for dead."""
PING = b": ping\n\n"


class Source(Protocol):
    """Something that a page follows, such as a run."""

    def since(self, cursor: str | None) -> tuple[str, list[Message]]:
        """The cursor of its state now, and what a page lacks that has an earlier one."""


async def events(
    sources: Sequence[Source],
    last_id: str | None = None,
    *,
    ending: Callable[[], str | None] = lambda: None,
    limiter: anyio.CapacityLimiter | None = None,
) -> AsyncGenerator[bytes, None]:
    """The events for one page, without end; `last_id` is the id of the last one that it got, if it was there before.

    Once `ending()` gives a reason, the page gets the last state and then this reason, and the stream ends.
    """
    known: list[str | None] = list((last_id or "").split("~"))
    cursors: list[str | None] = known if len(known) == len(sources) else [None for _ in sources]
    sent = time.monotonic()
    while True:
        reason = ending()
        begun = time.monotonic()
        for at, source in enumerate(sources):
            cursors[at], messages = await anyio.to_thread.run_sync(source.since, cursors[at], limiter=limiter)
            name = "~".join(cursor or "" for cursor in cursors)
            for message in messages:
                yield _event(message, name)
                sent = time.monotonic()
        if reason is not None:
            yield _event(Message("bye", json_text({"reason": reason})))
            return
        now = time.monotonic()
        if now - sent > _SILENCE:
            yield PING
            sent = now
        await anyio.sleep(min(_MOST_BETWEEN, max(EVERY, _SHARE * (now - begun))))


def _event(message: Message, name: str | None = None) -> bytes:
    """As it is sent. JSON of a page holds no newline."""
    identity = "" if name is None else f"id: {name}\n"
    return f"event: {message.event}\n{identity}data: {message.data}\n\n".encode()
