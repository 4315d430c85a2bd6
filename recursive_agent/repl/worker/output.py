"""The output of a cell: printed text cut to a stated size, and tracebacks of the agent's own lines."""

from __future__ import annotations

import asyncio
import linecache
import re
import traceback
from collections import deque
from typing import Any, NamedTuple

from .errors import CellExit
from .values import values_there

CELL_PREFIX = "<cell "


def cell_name(number: int) -> str:
    """The file name of a cell, as tracebacks show it."""
    return f"{CELL_PREFIX}{number}>"


class Report(NamedTuple):
    """How a cell ended, in the order in which it is sent: a `messages.Done`."""

    status: str
    output: str
    error: str | None
    refused: str | None
    """Why the value of `finish` was refused."""
    unawaited: list[str]
    running: list[str]
    wall: float
    cpu: float


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
        if type(text) is not str:  # of a class of the agent's own, which `print` lets through
            text = str.__str__(text)
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


_DIGITS = re.compile(r"; use sys\.set_int_max_str_digits\(\) to increase the limit")
_DIGITS_ADVICE = "; work with its parts (n % 10**k, n // 10**k) or hex(n), or give its size (n.bit_length())"


def _own_frames(error: traceback.TracebackException) -> None:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        part.stack[:] = [frame for frame in part.stack if frame.filename.startswith(CELL_PREFIX)]
        others = (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ()))
        waiting.extend(other for other in others if other is not None)


def _forget_modules(error: BaseException) -> None:
    """Take from errors of imports what the traceback would import for itself, to suggest a name that is like a wrong one."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        part = waiting.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, ImportError) and hasattr(ImportError, "name_from"):  # since Python 3.12
            BaseException.__setattr__(part, "name_from", None)
        if isinstance(part, BaseExceptionGroup):
            waiting.extend(_MEMBERS.__get__(part))
        waiting.extend((part.__cause__, part.__context__))


_MEMBERS: Any = BaseExceptionGroup.__dict__["exceptions"]  # whatever an agent's class says they are


def describe(error: BaseException, limit: int) -> str:
    """The traceback of `error` with the frames of cells alone, cut to `limit` characters.

    It may run the agent's code (`__str__`, `__notes__`), so only while a cell runs; where that takes the rest of the
    cell's time, or fails, a shorter text takes its place.
    """
    text = CutText(limit)
    if isinstance(error.__cause__, asyncio.CancelledError):  # how asyncio makes a TimeoutError; it tells nothing more
        BaseException.__setattr__(error, "__cause__", None)  # not that of its class
    _forget_modules(error)
    for _ in range(2):  # the limit may strike a first time just here
        try:
            summary = traceback.TracebackException(type(error), error, error.__traceback__, limit=-50)
            _own_frames(summary)
            for part in summary.format():
                text.write(part)
            for line in values_there(error, CELL_PREFIX):
                text.write(f"{line}\n")
            shown = text.value()
            break
        except BaseException as failure:  # of the agent's code: nothing of it may end the worker
            why = "it takes too long" if isinstance(failure, CellExit) else type(failure).__name__
            shown = f"{type(error).__name__} (its message cannot be shown: {why})"
            shown = shown if len(shown) <= limit else shown[:limit]
            text = CutText(limit)
    return _DIGITS.sub(_DIGITS_ADVICE, shown).rstrip("\n")
