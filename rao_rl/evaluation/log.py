"""The attempts of an evaluation on disk: one JSON line each, written as it ends, so that a killed evaluation can resume."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from recursive_agent.errors import ConfigurationError

from .outcome import Attempt

_HEAD = b'{"about": '


class AttemptLog:
    """Appends attempts to a JSONL file; a context manager.

    `done` are the attempts that the file has already, the newest of each task, mode and repeat. The first line holds the
    settings of the evaluation (`about`: model, split, seed, …). Each line is one write, so a killed process leaves at most one
    partial line, which is removed. Raises ConfigurationError if the file cannot be written, is in use by another process,
    is not a file of attempts, or has attempts with other settings.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about = json.loads(json.dumps(about))  # as it is read back
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ConfigurationError(f"{path}: the attempts cannot be written ({error.strerror})") from error
        try:
            self._lock()
            self.done: list[Attempt] = self._open()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def append(self, attempt: Attempt) -> None:
        """Append an attempt. Raises ConfigurationError if it cannot be written."""
        self._write(asdict(attempt))

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"{self.path} is being written by another evaluation") from None
        except OSError:  # a file system without locks
            pass

    def _open(self) -> list[Attempt]:
        data = self.path.read_bytes()
        if (
            data[: len(_HEAD)] != _HEAD[: len(data)]
        ):  # checked before anything is removed: it may be another file of the user
            raise ConfigurationError(f"{self.path} is not a file of `rao eval --attempts`; choose another one")
        whole = data.rfind(b"\n") + 1
        about, attempts = read_attempts(self.path, data[:whole]) if whole else (None, [])
        if about is not None:
            self._compare(about)
        os.ftruncate(self._fd, whole)
        if about is None:
            self._write({"about": self._about})
        return attempts

    def _compare(self, before: Mapping[str, Any]) -> None:
        for name in {**before, **self._about}:
            old, new = before.get(name), self._about.get(name)
            if (None if old == {} else old) != (None if new == {} else new):  # older files lack what is empty
                raise ConfigurationError(
                    f"{self.path} contains attempts with {name.replace('_', ' ')} {old}, not {new}; choose another file"
                )

    def _write(self, row: Mapping[str, Any]) -> None:
        data = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError as error:
            raise ConfigurationError(f"{self.path}: the attempts cannot be written ({error.strerror})") from error


def read_attempts(path: Path, data: bytes) -> tuple[dict[str, Any], list[Attempt]]:
    """The settings in the first line of a file of attempts, and the newest attempt of each task, mode and repeat.

    `data` are the contents of the file; a last line without its end is left out. Raises ConfigurationError, naming file and
    line, for another file.
    """
    if not data.startswith(_HEAD):
        raise ConfigurationError(f"{path} is not a file of `rao eval --attempts`; choose another one")
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    about = _parsed(path, lines[0], 1).get("about") if lines else {}
    if not isinstance(about, dict):
        raise ConfigurationError(f"{path}, line 1: not the settings of `rao eval`")
    newest: dict[tuple[str, str, int], Attempt] = {}
    for number, line in enumerate(lines[1:], start=2):
        row = _parsed(path, line, number)
        try:
            attempt = Attempt.from_row(row)
        except TypeError as error:
            raise ConfigurationError(f"{path}, line {number}: not an attempt of `rao eval` ({error})") from None
        newest[attempt.key] = attempt
    return about, list(newest.values())


def _parsed(path: Path, line: bytes, number: int) -> dict[str, Any]:
    row: Any = None
    with suppress(ValueError, RecursionError):
        row = json.loads(line)
    if not isinstance(row, dict):
        raise ConfigurationError(f"{path}, line {number}: not an attempt of `rao eval`")
    return row
