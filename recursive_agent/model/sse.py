"""Server-sent events, read as leniently as endpoints write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_BOM = b"\xef\xbb\xbf"


class NoJson(ValueError):
    """Data of an event that is not JSON."""


class Events:
    """Takes the bytes of a stream piece by piece and gives the JSON of its events; `done` after [DONE].

    Lines end as they like, comments and other fields are passed over, data may be spread over several lines, the blank line
    between events may be missing, and so may the last line's end. Raises NoJson for data that cannot be read.
    """

    def __init__(self) -> None:
        self.done = False
        self._buffer = bytearray()
        self._searched = 0
        self._started = False
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[Any]:
        """The events that `piece` completes."""
        self._buffer += piece
        end = self._buffer.rfind(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return
        whole = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        yield from self._lines(whole)

    def close(self) -> Iterator[Any]:
        """The events that the end of the stream completes."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        yield from self._lines(rest)
        yield from self._end_of_event()

    def _lines(self, text: bytes) -> Iterator[Any]:
        if not self._started and text:
            self._started = True
            text = text.removeprefix(_BOM)
        for line in text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
            if self.done:
                return
            yield from self._line(line)

    def _line(self, line: bytes) -> Iterator[Any]:
        if not line.strip():
            yield from self._end_of_event()
            return
        if line.lstrip().startswith(b"{"):  # an error that a proxy wrote into the stream as it was
            value = _json(line)
            if value is not None:
                yield value
            return
        field, _, value = line.partition(b":")
        if field.strip() != b"data":
            return
        value = value.strip()
        if value == b"[DONE]":
            yield from self._end_of_event()
            self.done = True
            return
        event = None if self._data else _json(value)
        if event is not None:
            yield event  # not every endpoint ends its events with a blank line
        elif value:
            self._data.append(value)

    def _end_of_event(self) -> Iterator[Any]:
        if self._data:
            event = _json(b"\n".join(self._data))
            self._data.clear()
            if event is None:
                raise NoJson("the stream holds a line that is not JSON")
            yield event


def _json(data: bytes) -> Any:
    """The value, None where it is not JSON (or null)."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
