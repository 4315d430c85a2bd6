"""A trace file: one JSONL file per run, appended as things happen, readable whenever the writer dies.

Events leave one after the other on a descriptor opened with O_APPEND, each in one `os.write` or, where it is large, in a
few; so a killed process leaves at most one torn line, the last, which readers drop. A writer holds a lock on its file
(`flock`, released by the kernel when it dies), so scores are never mixed into a run under way. What a power failure
leaves is up to the file system: nothing is fsynced.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from ..errors import TraceError
from ..sizes import no_collection
from .codec import Decoder, Detail, Encoder, check_version
from .redact import Redactor
from .schema import Event, RunStarted
from .weight import is_heavy_event

_CHUNK = 1 << 16
_MOST_AT_ONCE = 1 << 20


class TraceWriter:
    """Writes the trace of one run; a context manager.

    The file is new and readable by its owner only; missing folders are made. `secrets` (API keys) are kept out of
    everything that is written. Raises TraceError where the file cannot be made or written.

    With `max_bytes` a trace stays a trace when it grows too large: from three quarters of it on, large values are left
    out of what is written, and once it is reached, everything but how each agent started and ended. `left_out` then
    says so.
    """

    _fd: int | None

    def __init__(self, path: str | Path, *, secrets: Iterable[str | None] = (), max_bytes: int | None = None) -> None:
        self._set_up(path, secrets, max_bytes)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise TraceError(f"{self.path}: the trace cannot be written ({error.strerror})") from error
        except ValueError as error:  # a path with a null character
            raise TraceError(f"{str(self.path)!r}: the trace cannot be written ({error})") from error
        with suppress(OSError):  # a file system without locks: traces work there, only `in_progress` does not
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def _set_up(self, path: str | Path, secrets: Iterable[str | None], max_bytes: int | None) -> None:
        self.path = Path(path)
        self.left_out: str | None = None
        self._encoder = Encoder(Redactor(secrets))
        self._size = 0
        self._most = max_bytes
        self._detail = Detail.FULL
        self._fd = None
        self._ended = "the trace is closed"

    @classmethod
    def reopen(
        cls, path: str | Path, *, secrets: Iterable[str | None] = (), max_bytes: int | None = None
    ) -> tuple[Self, list[Event]]:
        """A writer that goes on with a trace, whose writer has ended or died, and the events that stand there.

        What stands there is never rewritten; a torn last line is cut off. Raises TraceError where the file is no trace, is
        still being written, or cannot be.
        """
        writer = cls.__new__(cls)
        writer._set_up(path, secrets, max_bytes)
        try:
            writer._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            if not _lock(writer._fd, fcntl.LOCK_EX):
                raise TraceError(f"{path}: the run is still going on; it can be resumed when it has ended")
            writer._size = _mend(writer._fd, path)
            decoder = Decoder()
            events = list(_decoded(path, decoder))
            writer._encoder.continues(decoder)
        except OSError as error:
            writer.close()
            raise TraceError(f"{path}: the trace cannot be written ({error.strerror})") from error
        except BaseException:
            writer.close()
            raise
        return writer, events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def append(self, event: Event, *, heavy: bool | None = None) -> None:
        """Append one event. Raises TraceError where it cannot be written; the file then ends with the event before.

        A heavy event (found out where it is not said) is encoded and written in pieces, none of which takes long.
        """
        if self._fd is None:
            raise TraceError(f"{self.path}: {self._ended}")
        if not self._size and not isinstance(event, RunStarted):
            raise TraceError(f"{self.path}: a trace begins with the start of a run, not with a {event.kind} event")
        heavy = is_heavy_event(event) if heavy is None else heavy
        if heavy:
            with no_collection():
                pieces = self._fitting(event, heavy)
        else:
            pieces = self._fitting(event, heavy)
        try:
            for piece in pieces if len(pieces) == 1 else _batches(pieces):
                _write_all(self._fd, piece)
        except OSError as error:
            with suppress(OSError):  # a full disk must not leave a torn line for later events to follow
                os.ftruncate(self._fd, self._size)
            self.close()
            self._ended = f"the trace cannot be written any more ({error.strerror})"
            raise TraceError(f"{self.path}: {self._ended}") from error
        self._size += sum(map(len, pieces))

    def _fitting(self, event: Event, heavy: bool) -> list[bytes]:
        """The lines of the event, with as much of it as the limit of the file allows."""
        if self._most is None:
            return self._encoder.pieces(event, heavy=heavy)
        if self._detail is Detail.FULL:
            pieces = self._encoder.pieces(event, heavy=heavy)
            if self._size + sum(map(len, pieces)) <= self._most * 3 // 4:
                return pieces
            self._encoder.undo()
        if self._detail is not Detail.OUTLINE:
            pieces = self._encoder.pieces(event, Detail.NO_LARGE_VALUES, heavy=heavy)
            if self._size + sum(map(len, pieces)) <= self._most:
                self._note("large values are left out of it")
                return pieces
            self._encoder.undo()
            self._detail = Detail.OUTLINE  # for good: a conversation with gaps would be a false one
        self._note("it holds no more than how later agents started and ended")
        return self._encoder.pieces(event, Detail.OUTLINE, heavy=heavy)

    def _note(self, what: str) -> None:
        assert self._most is not None
        self.left_out = f"the trace has reached its limit of {self._most / 1024**2:g} MiB (Limits.max_trace_mb): {what}"

    @property
    def removed(self) -> bool:
        """Whether somebody has removed the file while it is being written."""
        try:
            return self._fd is not None and os.fstat(self._fd).st_nlink == 0
        except OSError:
            return False

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with suppress(OSError):  # a network file system says only now that it is full
                os.close(fd)


def read_events(path: str | Path) -> Iterator[Event]:
    """The events of a trace file, in order; none for the file of a process killed before its first one.

    A torn last line is dropped. Raises TraceError, naming file and line, for anything else that is malformed.
    """
    return _decoded(path, Decoder())


def _decoded(path: str | Path, decoder: Decoder) -> Iterator[Event]:
    for number, line, whole in _lines(path):
        if not whole and not is_json(line):  # torn by the death of its writer
            return
        try:
            if number == 1:
                check_first(line)
            event = decoder.decode(line)
        except TraceError as error:
            raise TraceError(f"{path}, line {number}: {error}") from error
        if event is not None:
            yield event


def append_events(path: str | Path, events: Iterable[Event], *, secrets: Iterable[str | None] = ()) -> None:
    """Append events (scores) to the trace of a run that is over; what stands there is never rewritten.

    A torn last line is cut off first. The events leave in one write. Raises TraceError where the file is no trace, is
    still being written, or cannot be written.
    """
    encoder = Encoder(Redactor(secrets))
    data = b"".join(encoder.encode(event) for event in events)
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        raise TraceError(f"{path}: the trace cannot be written ({error.strerror})") from error
    try:
        if not _lock(fd, fcntl.LOCK_EX):
            raise TraceError(f"{path}: the run is still going on; append to its trace when it has ended")
        size = _mend(fd, path)
        try:
            _write_all(fd, data)
        except OSError:
            os.ftruncate(fd, size)
            raise
    except OSError as error:
        raise TraceError(f"{path}: the trace cannot be written ({error.strerror})") from error
    finally:
        os.close(fd)


def in_progress(path: str | Path) -> bool:
    """Whether a living process is writing this trace; False where the file system has no locks."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _lines(path: str | Path) -> Iterator[tuple[int, bytes, bool]]:
    """Number (from 1), contents and wholeness of each line; only the last line can lack its newline."""
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                whole = line.endswith(b"\n")
                yield number, line.rstrip(b"\n"), whole
    except OSError as error:
        raise TraceError(f"{path}: the trace cannot be read ({error.strerror})") from error
    except ValueError as error:  # a path with a null character
        raise TraceError(f"{str(path)!r}: the trace cannot be read ({error})") from error


def check_first(line: bytes) -> None:
    """Raises TraceError where the first line of a file is none of a trace that this version reads."""
    first = json.loads(line) if is_json(line) else None
    if not isinstance(first, dict) or "schema_version" not in first:
        raise TraceError("not a trace of rao: its first line does not give a schema_version")
    check_version(first)


def _mend(fd: int, path: str | Path) -> int:
    """Make the file end after a whole line; returns its size. Raises TraceError where it does not begin as a trace."""
    size = os.fstat(fd).st_size
    tail, start = b"", size
    while start and b"\n" not in tail:
        start = max(0, start - _CHUNK)
        tail = os.pread(fd, min(_CHUNK, size - start), start) + tail
    keep = start + tail.rfind(b"\n") + 1
    head = os.pread(fd, _CHUNK, 0)
    while keep and b"\n" not in head:
        head += os.pread(fd, _CHUNK, len(head))
    try:
        check_first(head.partition(b"\n")[0] if keep else b"")
    except TraceError as error:
        raise TraceError(f"{path}, line 1: {error}") from error
    if keep < size:
        if not is_json(os.pread(fd, size - keep, keep)):
            os.ftruncate(fd, keep)
            return keep
        _write_all(fd, b"\n")  # whole but for its newline
        return size + 1
    return size


def is_json(line: bytes) -> bool:
    """Whether a line is whole but for its newline."""
    try:
        json.loads(line)
    except (ValueError, RecursionError, MemoryError):
        return False
    return True


def _lock(fd: int, kind: int) -> bool:
    """Whether the lock can be had; True where the file system has none."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _batches(pieces: list[bytes]) -> Iterator[bytes]:
    """The pieces in order, small ones joined: a light event is one, and leaves in one write."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        if batch and size + len(piece) > _MOST_AT_ONCE:
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(piece)
        size += len(piece)
    if batch:
        yield b"".join(batch)


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):  # a signal, or a nearly full disk
        written += os.write(fd, memoryview(data)[written:])
