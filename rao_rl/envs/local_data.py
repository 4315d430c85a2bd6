"""Rows of a public data set from a local copy: parquet or JSON lines, a few at a time, only the columns that are used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from recursive_agent.errors import ConfigurationError

_SUFFIXES = (".parquet", ".jsonl")
_BATCH = 8
"""Rows of a parquet file that are in memory at a time: a single row can hold a document of 16 million characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalData:
    """A public data set that the user has a copy of.

    `columns` are those that are used, with the types of their values (`list[str]` is a list of texts, `str | None` a text or
    nothing); `sizes` the rows of each split; `obtain` is a sentence that says how to get the copy.
    """

    name: str
    columns: Mapping[str, Any]
    sizes: Mapping[str, int]
    obtain: str

    def rows(self, path: str | Path | None, split: str, *, subset: bool = False) -> Iterator[dict[str, Any]]:
        """The rows of a split, in the order of the files' names, with `columns` only.

        `path`: a file, or a folder that holds the files of the split (`test.jsonl`, `test-00000-of-00002.parquet`) at any
        level. `subset` allows a copy with fewer rows than the public set. Raises ConfigurationError, naming the file and what
        to do, where there is no copy, it cannot be read, a column is missing or has another type, or rows are missing.
        """
        files = self.files(path, split)
        return self._read(files, split, subset)

    def files(self, path: str | Path | None, split: str) -> list[Path]:
        """The files of a split. Raises ConfigurationError where there are none."""
        if path is None:
            raise ConfigurationError(f"{self.name} needs a local copy of its data: {self.obtain}")
        place = Path(path).expanduser()
        if not place.exists():
            raise ConfigurationError(f"{self.name}: there is nothing at {place}. {self.obtain}")
        if place.is_file():
            found = [place]
        else:
            found = sorted(file for file in place.rglob("*") if file.is_file() and _belongs(file, split))
        found = [file for file in found if file.suffix in _SUFFIXES]
        if not found:
            raise ConfigurationError(
                f"{self.name}: {place} has no file of the split {split!r} (such as {split}.jsonl or "
                f"{split}-00000-of-00001.parquet). {self.obtain}"
            )
        return found

    def _read(self, files: list[Path], split: str, subset: bool) -> Iterator[dict[str, Any]]:
        count = 0
        for file in files:
            for number, row in enumerate(self._parquet(file) if file.suffix == ".parquet" else self._lines(file)):
                yield self._checked(row, file, number)
                count += 1
        expected = self.sizes.get(split)
        if count == 0 or (expected is not None and count < expected and not subset):
            raise ConfigurationError(
                f"{self.name}: the copy of the split {split!r} has {count:,} rows where the public set has {expected or 0:,}; "
                "get it again, or say subset=True if that is meant"
            )

    def _parquet(self, file: Path) -> Iterator[dict[str, Any]]:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise ConfigurationError("reading parquet files needs pyarrow: pip install 'rao[data]'") from None
        try:
            with pq.ParquetFile(file) as table:
                self._check_columns(table.schema_arrow.names, file)
                for batch in table.iter_batches(batch_size=_BATCH, columns=list(self.columns)):
                    yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(file, str(error).splitlines()[0]) from error

    def _lines(self, file: Path) -> Iterator[dict[str, Any]]:
        try:
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    if not line.strip():
                        continue
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise self._unreadable(file, f"line {number} is not a JSON object")
                    self._check_columns(row, file)
                    yield {name: row[name] for name in self.columns}
        except ConfigurationError:
            raise
        except (ValueError, RecursionError) as error:  # not UTF-8, not JSON
            raise self._unreadable(file, str(error)) from error
        except OSError as error:
            raise self._unreadable(file, error.strerror or str(error)) from error

    def _check_columns(self, found: Any, file: Path) -> None:
        missing = [name for name in self.columns if name not in found]
        if missing:
            raise ConfigurationError(
                f"{self.name}: {file} has no column {', '.join(missing)}; it has {', '.join(map(str, found))}. {self.obtain}"
            )

    def _checked(self, row: dict[str, Any], file: Path, number: int) -> dict[str, Any]:
        for name, kind in self.columns.items():
            if not _is(row[name], kind):
                raise ConfigurationError(
                    f"{self.name}: {file}, row {number}: {name} must be {_words(kind)}, not {row[name]!r:.80}. {self.obtain}"
                )
        return row

    def _unreadable(self, file: Path, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name}: {file} cannot be read ({why:.200}); it may be cut short. {self.obtain}"
        )


def _belongs(file: Path, split: str) -> bool:
    name = file.name
    return name.startswith(split) and name[len(split) : len(split) + 1] in (".", "-", "_")


def _is(value: object, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is(value, each) for each in kind.__args__)
    item = getattr(kind, "__args__", None)
    if item:
        return isinstance(value, list) and all(_is(part, item[0]) for part in value)
    if kind is float and isinstance(value, int):
        return not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _words(kind: Any) -> str:
    return str(kind) if getattr(kind, "__args__", None) else str(kind.__name__)
