"""Following a trace file while it is being written: each line is read and decoded once."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import TraceError
from .codec import Decoder
from .schema import Event
from .store import check_first, in_progress, is_json

_AT_ONCE = 4 << 20
"""Bytes that are read in one call of `TraceTail.read`, unless a single line is longer."""
_HEAD = 4096
"""Bytes at the beginning of a file by which another one in its place is recognised."""


class TraceTail:
    """The events of a trace file that were written since it was last asked; the file may not be there yet.

    Only whole lines are read. A torn last line stays until it is whole, or its writer has died and a later one cuts it off.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.generation = 0
        """How often another file was found in the place of the one that was read: what came before is then void."""
        self._begin()

    def _begin(self) -> None:
        self._decoder = Decoder()
        self._offset = 0
        self._lines = 0
        self._file: tuple[int, int] | None = None
        self._head = b""
        self._seen: tuple[int, int] | None = None
        """Size and time of the file when everything in it had been read."""
        self._torn: tuple[int, int] | None = None
        """The same when a torn last line was met."""
        self._bare = False
        """The last line that was read had no newline."""
        self._problem: TraceError | None = None
        self._done = False
        """Whether the last attempt to read came to the end of what is there."""

    @property
    def exists(self) -> bool:
        """Whether there is a file now."""
        return self.path.is_file()

    def read(self) -> list[Event]:
        """The next events, oldest first; empty if there are none for now.

        After a long time this may be a part of them: call it again until it gives nothing. A `generation` that has changed
        says that these events are of another file. Raises TraceError for a file that cannot be read or is malformed; it then
        raises again until the file is replaced.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []  # removed, or not there yet: what was read stands
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise TraceError(f"{self.path}: the trace cannot be read ({reason})") from error
        try:
            while not (events := self._read(fd)) and not self._done:
                pass  # there may be nothing but parts of the next event in what was read
            return events
        except OSError as error:
            raise TraceError(f"{self.path}: the trace cannot be read ({error.strerror})") from error
        finally:
            os.close(fd)

    def _read(self, fd: int) -> list[Event]:
        state = os.fstat(fd)
        file, seen = (state.st_dev, state.st_ino), (state.st_size, state.st_mtime_ns)
        if self._file is not None and self._is_another(fd, file, state.st_size):
            self._begin()
            self.generation += 1
        self._file = file
        self._done = False
        if self._problem is not None:
            raise self._problem
        if seen == self._seen:
            self._done = True
            return []
        if self._bare and os.pread(fd, 1, self._offset) == b"\n":  # who goes on with the file completes its last line
            self._bare = False
            self._offset += 1
        data, rest = self._lines_from(fd, state.st_size)
        if data:
            return self._decode(data, fd)
        if not rest:
            self._seen = seen
        elif seen != self._torn:
            self._torn = seen  # most likely the rest is just being written
        elif not in_progress(self.path):
            self._seen = seen  # its writer is dead
            if is_json(rest):  # whole but for its newline
                self._bare = True
                return self._decode(rest, fd)
        self._done = True
        return []

    def _is_another(self, fd: int, file: tuple[int, int], size: int) -> bool:
        if file != self._file or size < self._offset:
            return True
        return os.pread(fd, len(self._head), 0) != self._head

    def _lines_from(self, fd: int, size: int) -> tuple[bytes, bytes]:
        """The whole lines from where reading stopped, and what follows them if there is none."""
        data, most = b"", _AT_ONCE
        while self._offset + len(data) < size:
            piece = os.pread(fd, most, self._offset + len(data))
            if not piece:
                break
            end = piece.rfind(b"\n")
            data += piece
            if end >= 0:
                return data[: len(data) - len(piece) + end + 1], b""
            most *= 2  # a line that is longer than that
        return b"", data

    def _decode(self, data: bytes, fd: int) -> list[Event]:
        events: list[Event] = []
        for line in data.removesuffix(b"\n").split(b"\n"):
            self._lines += 1
            try:
                if self._lines == 1:
                    check_first(line)
                event = self._decoder.decode(line)
            except TraceError as error:
                self._problem = TraceError(f"{self.path}, line {self._lines}: {error}")
                if events:
                    return events  # those before it count; the problem comes with the next call
                raise self._problem from error
            if event is not None:
                events.append(event)
        self._offset += len(data)
        if not self._head:
            self._head = os.pread(fd, min(_HEAD, self._offset), 0)
        return events
