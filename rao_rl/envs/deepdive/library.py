"""The index of a folder of pages, made once and kept on disk under a name that follows from the pages."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from recursive_agent.errors import ConfigurationError

from .corpus import LAYOUT, Corpus, fill
from .search import Page

_FIELDS = ("url", "title", "text")


def open_library(path: str | Path, cache: str | Path | None = None) -> Corpus:
    """The index of the pages at `path`: a .jsonl file with objects {url, title, text}, or a folder of such files.

    A folder may also hold .txt and .md files: one page each, its title the first line, its url the path within the folder.
    The index is kept in `cache` (default: rao/search in the user's cache folder), and used again as long as the files are
    the same. Raises ConfigurationError, naming the file and the line, for pages that cannot be read.
    """
    source = Path(path).expanduser()
    files = _files(source)
    kept = (_cache() if cache is None else Path(cache).expanduser()) / f"{_digest(source, files)}.sqlite"
    if kept.exists():
        try:
            return Corpus.open(kept)
        except ConfigurationError:  # of another version, or damaged: made anew
            pass
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=kept.parent, suffix=".part")
    except OSError as error:
        raise ConfigurationError(
            f"the search index cannot be kept in {kept.parent} ({error.strerror}); name another folder with cache=PATH"
        ) from None
    os.close(handle)
    part = Path(name)
    try:
        connection = sqlite3.connect(part)
        try:
            fill(connection, (page for file in files for page in _pages(source, file)))
        except sqlite3.Error as error:
            raise ConfigurationError(f"the search index cannot be written to {kept.parent} ({error})") from None
        finally:
            connection.close()
        part.replace(kept)  # whole or not at all, whoever else makes the same index
    finally:
        part.unlink(missing_ok=True)
    return Corpus.open(kept)


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise ConfigurationError(
            f"there are no pages at {source}; name a .jsonl file of {{url, title, text}}, or a folder"
        )
    if source.is_file():
        return [source]
    found = sorted(file for file in source.rglob("*") if file.suffix in (".jsonl", ".txt", ".md") and file.is_file())
    if not found:
        raise ConfigurationError(f"the folder {source} has no pages: no .jsonl, .txt or .md files")
    return found


def _digest(source: Path, files: list[Path]) -> str:
    digest = blake2b(f"layout {LAYOUT}".encode(), digest_size=16)
    for file in files:
        digest.update(_place(source, file).encode("utf-8", "surrogateescape") + b"\0")
        try:
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read ({error.strerror})") from None
        digest.update(b"\0")
    return digest.hexdigest()


def _pages(source: Path, file: Path) -> Iterator[Page]:
    try:
        if file.suffix in (".txt", ".md"):
            text = file.read_text(encoding="utf-8")
            title = next((line.strip("# \t") for line in text.splitlines() if line.strip()), file.stem)
            yield Page(url=_place(source, file), title=title, text=text)
            return
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _page(line, f"{file}, line {number}")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is not text in UTF-8") from None


def _page(line: str, place: str) -> Page:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{place} is not JSON; the file may be cut short") from None
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in _FIELDS) or not row["url"]:
        raise ConfigurationError(f"{place} must be an object with the texts url, title and text")
    return Page(**{name: row[name] for name in _FIELDS})


def _place(source: Path, file: Path) -> str:
    return file.name if file == source else file.relative_to(source).as_posix()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rao" / "search"
