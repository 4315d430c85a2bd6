"""A mailbox as an SQLite database with a full-text index: how it is written, opened and checked."""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from recursive_agent.errors import ConfigurationError

from .messages import Email, kept

SCHEMA = """
CREATE TABLE emails (
    id INTEGER PRIMARY KEY,
    message_id TEXT UNIQUE,
    subject TEXT,
    from_address TEXT,
    date TEXT,
    body TEXT,
    file_name TEXT
);
CREATE TABLE recipients (
    email_id INTEGER REFERENCES emails (id),
    recipient_address TEXT,
    recipient_type TEXT CHECK (recipient_type IN ('to', 'cc', 'bcc'))
);
CREATE VIRTUAL TABLE emails_fts USING fts5(subject, body, content='emails', content_rowid='id');
"""
INDEXES = """
INSERT INTO emails_fts (emails_fts) VALUES ('rebuild');
CREATE INDEX emails_from ON emails (from_address);
CREATE INDEX emails_date ON emails (date);
CREATE INDEX recipients_email ON recipients (email_id, recipient_address);
CREATE INDEX recipients_address ON recipients (recipient_address, email_id);
"""
TABLES: Mapping[str, frozenset[str]] = {
    "emails": frozenset({"id", "message_id", "subject", "from_address", "date", "body", "file_name"}),
    "recipients": frozenset({"email_id", "recipient_address", "recipient_type"}),
    "emails_fts": frozenset({"subject", "body"}),
}
MOST_CONNECTIONS = 8
"""Queries at once on one database file."""
_BATCH = 1_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


def write(connection: sqlite3.Connection, emails: Iterable[Email]) -> int:
    """Write a mailbox into an empty database: of `emails`, those that it keeps. Returns their number."""
    connection.executescript(SCHEMA)
    count = 0
    for batch in _batches(kept(emails)):
        first, count = count + 1, count + len(batch)
        connection.executemany(
            "INSERT INTO emails VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (number, each.message_id, each.subject, each.sender, each.date, each.body, each.file_name)
                for number, each in enumerate(batch, first)
            ),
        )
        connection.executemany(
            "INSERT INTO recipients VALUES (?, ?, ?)",
            ((number, *recipient) for number, each in enumerate(batch, first) for recipient in each.recipients()),
        )
    connection.commit()
    connection.executescript(INDEXES)
    connection.commit()
    return count


class Database:
    """A mailbox that is read only, from any thread: up to `most` queries at once, each with a connection of its own.

    `open` makes a connection; connections are closed when the database is thrown away.
    """

    def __init__(self, open: Callable[[], sqlite3.Connection], most: int = MOST_CONNECTIONS) -> None:
        self._open = open
        self._free = threading.BoundedSemaphore(most)
        self._idle: list[sqlite3.Connection] = []
        self.close = weakref.finalize(self, _close, self._idle)
        """Close the connections that no query uses."""

    @classmethod
    def of(cls, emails: Callable[[], Iterable[Email]]) -> Database:
        """A mailbox in memory, written when it is first used."""

        def build() -> sqlite3.Connection:
            connection = sqlite3.connect(":memory:", check_same_thread=False)
            write(connection, emails())
            connection.execute("PRAGMA query_only = ON")
            return connection

        return cls(build, most=1)

    @classmethod
    def at(cls, file: Path) -> Database:
        """The mailbox in `file`. Raises ConfigurationError if it is not one, or was cut short."""
        database = cls(lambda: _read_only(file))
        try:
            check(database, file)
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one query."""
        with self._free:
            connection = self._idle.pop() if self._idle else self._open()
            try:
                yield connection
            finally:
                self._idle.append(connection)


def check(database: Database, file: Path) -> None:
    """Raises ConfigurationError, saying what is wrong, if `file` does not hold a whole mailbox."""
    try:
        with database.connection() as connection:
            problem = _problem(connection, file)
    except sqlite3.Error as error:
        problem = str(error)
    if problem:
        raise ConfigurationError(
            f"{file} is not a mailbox: {problem}. Give the folder of emails instead, and rao makes the mailbox from it."
        )


def _problem(connection: sqlite3.Connection, file: Path) -> str | None:
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if pages * size > file.stat().st_size:
        return "it was cut short"
    for table, columns in TABLES.items():
        found = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if not found:
            return f"it has no table {table}"
        if missing := columns - found:
            return f"its table {table} has no column {', '.join(sorted(missing))}"
    first = connection.execute("SELECT id, subject, body, date FROM emails ORDER BY id LIMIT 1").fetchone()
    if first is None:
        return "it holds no emails"
    if not _DATE.fullmatch(str(first[3])):
        return f"its dates must read like 2001-05-14 16:39:00, not {str(first[3])[:40]!r}"
    if connection.execute("SELECT 1 FROM recipients LIMIT 1").fetchone() is None:
        return "its table recipients is empty"
    words: Sequence[str] = re.findall(r"[A-Za-z]+", f"{first[1]} {first[2]}")
    query = "SELECT 1 FROM emails_fts WHERE emails_fts MATCH ? AND rowid = ?"
    if words and connection.execute(query, (f'"{words[0]}"', first[0])).fetchone() is None:
        return "its full-text index does not belong to its emails"
    return None


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, check_same_thread=False)


def _close(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()


def _batches(emails: Iterator[Email]) -> Iterator[list[Email]]:
    batch: list[Email] = []
    for email in emails:
        batch.append(email)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
