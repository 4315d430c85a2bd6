"""Mailboxes that were made from a local copy of emails, kept in the user's cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from recursive_agent.errors import ConfigurationError

from .database import INDEXES, SCHEMA, Database, write
from .messages import MOST_BODY, MOST_RECIPIENTS, Email

_ENDS = 1 << 20
"""Bytes at each end of a source file that its key depends on; a parquet file describes all of its parts at its end."""


def cache_folder() -> Path:
    """Where this user's mailboxes are kept: `$XDG_CACHE_HOME/rao/mailboxes`, or `~/.cache/rao/mailboxes`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "rao" / "mailboxes"


def key(files: Sequence[Path]) -> str:
    """A name for the mailbox made from `files`: of their names, sizes, times of change and ends."""
    digest = hashlib.sha256(repr((SCHEMA, INDEXES, MOST_BODY, MOST_RECIPIENTS)).encode())
    for file in files:
        status = file.stat()
        digest.update(repr((file.name, status.st_size, status.st_mtime_ns)).encode())
        with file.open("rb") as data:
            digest.update(data.read(_ENDS))
            data.seek(max(0, status.st_size - _ENDS))
            digest.update(data.read())
    return digest.hexdigest()[:32]


def cached(files: Sequence[Path], emails: Iterable[Email], folder: Path | None = None) -> Database:
    """The mailbox of `emails`, which come from `files`: made once, then read from the cache folder.

    Processes that want the same one wait for the first. A mailbox that was damaged is made again. Raises ConfigurationError
    where the folder cannot be written, or the emails give an empty mailbox.
    """
    folder = folder or cache_folder()
    file = folder / f"{key(files)}.sqlite"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel when this process ends, however it does
            if file.exists():
                try:
                    return Database.at(file)
                except ConfigurationError:
                    file.unlink()
            _build(file, emails)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"the mailbox cannot be written to {folder} ({error}); name another folder with cache=…"
        ) from error
    return Database.at(file)


def _build(file: Path, emails: Iterable[Email]) -> None:
    """Write the mailbox beside its place, and move it there when it is whole."""
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)  # of a process that was killed
    try:
        with closing(sqlite3.connect(part)) as connection:
            # A file that a power cut spoils is not in its place yet.
            connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            write(connection, emails)
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
