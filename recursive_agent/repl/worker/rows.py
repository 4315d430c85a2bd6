"""`csv.reader` of agents: an iterator of the agent's that asks the reader for a row while it gives it a line is refused.

The library's reader, in C, keeps what it has read so far in itself, and the row that is asked for meanwhile takes it away.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

_PLAIN = (list, tuple, io.StringIO)
"""What gives its lines without running any code of the agent's."""


class _Lines:
    """The lines of an iterator of the agent's, one at a time."""

    __slots__ = ("_busy", "_lines")

    def __init__(self, lines: Any) -> None:
        self._lines = iter(lines)
        self._busy = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._busy:
            raise RuntimeError("the reader was asked for a row while it waits for a line")
        self._busy = True
        try:
            return next(self._lines)
        finally:
            self._busy = False


def _lines(lines: Any) -> Any:
    return lines if type(lines) in _PLAIN else _Lines(lines)


def reader(csvfile: Any, /, *args: Any, **options: Any) -> Any:
    """csv.reader."""
    return csv.reader(_lines(csvfile), *args, **options)


class DictReader(csv.DictReader):  # type: ignore[type-arg]
    """csv.DictReader."""

    def __init__(self, f: Any, *args: Any, **options: Any) -> None:
        super().__init__(_lines(f), *args, **options)


DictReader.__module__ = "csv"
