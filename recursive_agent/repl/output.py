"""What a cell shows: printed text cut to a stated size, and tracebacks of the agent's own lines."""

from __future__ import annotations

import asyncio
import linecache
import traceback
from collections import deque

CELL_PREFIX = "<cell "


def cell_name(number: int) -> str:
    """The file name of a cell, as tracebacks show it."""
    return f"{CELL_PREFIX}{number}>"


class CutText:
    """Text written bit by bit of which at most `limit` characters are kept: the first two thirds and the last third."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._tail_room = limit // 3
        self._head_room = limit - self._tail_room
        self._head: list[str] = []
        self._head_size = 0
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._lost = 0

    def write(self, text: str) -> int:
        """Take `text` in; what falls out of the middle is only counted."""
        size = len(text)
        if self._head_size < self._head_room:
            room = self._head_room - self._head_size
            part = text if size <= room else text[:room]
            self._head.append(part)
            self._head_size += len(part)
            text = text[room:]
        if text:
            self._tail.append(text)
            self._tail_size += len(text)
            while self._tail_size - len(self._tail[0]) >= self._tail_room:
                self._lose(len(self._tail[0]))
                self._tail.popleft()
            excess = self._tail_size - self._tail_room
            if excess > self._tail_room:  # keeps one long piece from being held whole
                self._tail[0] = self._tail[0][excess:]
                self._lose(excess)
        return size

    def _lose(self, size: int) -> None:
        self._lost += size
        self._tail_size -= size

    def flush(self) -> None:
        """For `print(..., flush=True)`."""

    def value(self) -> str:
        """The text, with a note where something was cut."""
        head, tail = "".join(self._head), "".join(self._tail)
        excess = max(0, len(tail) - self._tail_room)
        lost = self._lost + excess
        if lost == 0:
            return head + tail
        return f"{head}\n[… {lost:,} characters cut: print less …]\n{tail[excess:]}"


def remember_source(name: str, source: str) -> None:
    """Let tracebacks quote the lines of a cell."""
    lines = [line + "\n" for line in source.splitlines()]
    linecache.cache[name] = (len(source), None, lines, name)


def _own_frames(error: traceback.TracebackException, seen: set[int]) -> None:
    if id(error) in seen:
        return
    seen.add(id(error))
    error.stack[:] = [frame for frame in error.stack if frame.filename.startswith(CELL_PREFIX)]
    for other in (error.__cause__, error.__context__, *(getattr(error, "exceptions", None) or ())):
        if other is not None:
            _own_frames(other, seen)


def describe(error: BaseException, limit: int) -> str:
    """The traceback of `error` with the frames of cells alone, cut to `limit` characters."""
    text = CutText(limit)
    if isinstance(error.__cause__, asyncio.CancelledError):  # how asyncio makes a TimeoutError; it tells nothing more
        error.__cause__, error.__suppress_context__ = None, True
    try:
        summary = traceback.TracebackException(type(error), error, error.__traceback__, limit=-50)
        _own_frames(summary, set())
        for part in summary.format():
            text.write(part)
    except Exception as failure:  # a __str__ of the agent's own that raises, or that cannot be printed
        text.write(f"{type(error).__name__} (its message cannot be shown: {type(failure).__name__})")
    return text.value().rstrip("\n")
