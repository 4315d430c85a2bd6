"""Pages on this machine as a full-text index: SQLite's FTS5, ranked by BM25."""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import anyio

from recursive_agent.errors import ConfigurationError

from .search import Found, NoSuchPage, Page, SearchUnavailable

_SCHEMA = """
CREATE TABLE pages (id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(
    title, text, content='pages', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
);
"""
_SEARCH = """
SELECT pages.url, pages.title, snippet(words, 1, '', '', ' … ', 40), bm25(words, 8.0, 1.0) AS weight
FROM words JOIN pages ON pages.id = words.rowid WHERE words MATCH ? ORDER BY weight, pages.id LIMIT ?
"""
_PARTS = re.compile(r'"([^"]*)"|(\w+)')
_MOST_PARTS = 64
LAYOUT = 1
"""Changes with the tables and how they are filled, so that an index of another version is built anew."""


class Corpus:
    """A `SearchBackend` over an index of pages. The words in double quotes of a query are a phrase."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._closed = weakref.finalize(self, connection.close)

    @classmethod
    def of(cls, pages: Iterable[Page]) -> Corpus:
        """An index in memory."""
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        fill(connection, pages)
        return cls(connection)

    @classmethod
    def open(cls, file: Path) -> Corpus:
        """An index that `fill` made. Raises ConfigurationError if the file is none."""
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        try:
            if connection.execute("PRAGMA user_version").fetchone() != (LAYOUT,):
                raise ConfigurationError(f"{file} is no index of this version of rao")
            connection.execute(_SEARCH, ('"a"', 1)).fetchall()
        except sqlite3.Error as error:
            connection.close()
            raise ConfigurationError(f"{file} is no index of pages ({error})") from None
        except ConfigurationError:
            connection.close()
            raise
        return cls(connection)

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT count(*) FROM pages").fetchone()[0])

    def check(self) -> None:
        """Nothing can be wrong with an index that is open."""

    async def search(self, query: str, max_results: int) -> Sequence[Found]:
        """Pages that have any of the words, the best matches first."""
        match = match_expression(query)
        if match is None:
            return []
        rows = await anyio.to_thread.run_sync(partial(self._rows, _SEARCH, match, max_results))
        return [Found(url=url, title=title, content=text, score=_share(rank)) for url, title, text, rank in rows]

    async def page(self, url: str) -> str:
        """The text of a page. Raises NoSuchPage."""
        rows = await anyio.to_thread.run_sync(partial(self._rows, "SELECT text FROM pages WHERE url = ?", _utf8(url)))
        if not rows:
            raise NoSuchPage(f"there is no page at {url!r:.200}: use the url of a result of search_web")
        return str(rows[0][0])

    def _rows(self, statement: str, *values: object) -> list[tuple[str, str, str, float]]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:  # a disk that fails, a file that was cut short
            raise SearchUnavailable(
                "search is not available in this run",
                lasting=f"the index of pages cannot be read ({error}); delete the cached index, and it is made again.",
            ) from None


def fill(connection: sqlite3.Connection, pages: Iterable[Page]) -> None:
    """Index `pages` in an empty database. Raises ConfigurationError for two pages with one address, or for no page."""
    connection.executescript(_SCHEMA)
    with connection:
        for page in pages:
            values = [_utf8(text) for text in (page.url, page.title, page.text)]
            try:
                connection.execute("INSERT INTO pages (url, title, text) VALUES (?, ?, ?)", values)
            except sqlite3.IntegrityError:
                raise ConfigurationError(f"two pages have the url {page.url!r:.200}; each page needs its own") from None
        if connection.execute("SELECT count(*) FROM pages").fetchone() == (0,):
            raise ConfigurationError("the corpus has no pages")
        connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
    connection.execute(f"PRAGMA user_version = {LAYOUT}")


def match_expression(query: str) -> str | None:
    """A query as FTS5 takes it: any of its words and quoted phrases; None where it has no words.

    Every part is quoted, so nothing in a query is an operator and none is a syntax error.
    """
    parts: dict[str, None] = {}
    for match in _PARTS.finditer(query):
        words = re.findall(r"\w+", match[1] if match[1] is not None else match[2])
        if words:
            parts[f'"{" ".join(words)}"'] = None
    return " OR ".join(list(parts)[:_MOST_PARTS]) or None


def _share(rank: float) -> float:
    """BM25 as SQLite gives it (the more negative, the better) as a score from 0 to 1."""
    weight = max(0.0, -rank)
    return round(weight / (1 + weight), 4)


def _utf8(text: str) -> str:
    """Text that a database takes: lone surrogates have no bytes."""
    return text.encode("utf-8", "replace").decode()
