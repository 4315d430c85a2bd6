"""A folder of traces that is followed: runs that begin in it, go on, and are removed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ..errors import TraceError
from ..trace.folder import TraceState, traces_below
from ..trace.tree import ExecutionTree
from .diff import compare
from .follow import LiveRun, Message, version_of
from .page import json_text
from .payload import Json, page_data
from .site import LIVE
from .streaming import Source

_EVERY = 1.0
"""Seconds between two looks at the folder."""
_KEPT = 60.0
"""Seconds that a run stays in memory after a page has asked for it."""

Signature = tuple[int, int, int]


@dataclass(slots=True)
class _Entry:
    """A file of the folder."""

    path: Path
    name: str
    row: Json | None = None
    version: int = 0
    """Of its last change."""
    signature: Signature | None = None
    state: TraceState = TraceState.IN_PROGRESS
    live: LiveRun | None = None
    """While it is being written, or a page shows it."""
    asked: float = float("-inf")


class FolderSite:
    """The runs of a folder and of those below it, as rows; each run when it is asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = Lock()
        self._epoch = secrets.token_hex(4)
        self._version = 0
        self._entries: dict[Path, _Entry] = {}
        self._gone: dict[str, int] = {}
        self._first: dict[str, str] = {}
        """The file of each run; of a run in several files the one that was found first."""
        self._looked = float("-inf")

    def data(self) -> Json:
        """The rows."""
        with self._lock:
            self._look()
            rows = [entry.row for entry in self._entries.values() if entry.row is not None]
        return page_data(str(self._directory), kind="folder", rows=rows, live=LIVE)

    def sources(self, runs: Sequence[str]) -> Sequence[Source] | None:
        """The folder, and runs of it."""
        found = [self._live(run) for run in runs]
        if any(live is None for live in found):
            return None
        return [self, *(live for live in found if live is not None)]

    def run(self, run: str) -> str | None:
        """One of the runs."""
        live = self._live(run)
        return None if live is None else live.run_json(run)

    def compare(self, left: str, right: str) -> str | None:
        """Two of the runs."""
        trees = [self._tree(run) for run in (left, right)]
        if trees[0] is None or trees[1] is None:
            return None
        return json_text(compare(trees[0], trees[1]).as_data())

    def since(self, cursor: str | None) -> tuple[str, list[Message]]:
        """The rows that changed, and the files that are gone."""
        with self._lock:
            self._look()
            now = f"{self._epoch}.{self._version}"
            if cursor == now:
                return now, []
            seen = version_of(cursor, self._epoch, self._version)
            since = -1 if seen is None else seen
            rows = [entry.row for entry in self._entries.values() if entry.row is not None and entry.version > since]
            gone = [name for name, version in self._gone.items() if version > since]
        return now, [Message("rows", json_text({"rows": rows, "gone": gone}))]

    def _live(self, run: str) -> LiveRun | None:
        with self._lock:
            self._look()
            entry = next((each for each in self._entries.values() if each.row and each.row.get("run") == run), None)
            if entry is None:
                return None
            entry.asked = time.monotonic()
            entry.live = entry.live or LiveRun(entry.path, file=entry.name)
            return entry.live

    def _tree(self, run: str) -> ExecutionTree | None:
        """One of the runs, apart from the one that pages follow."""
        live = self._live(run)
        if live is None:
            return None
        try:
            return ExecutionTree.load(live.path)
        except TraceError:
            return None

    def _look(self) -> None:
        """Take in what has changed in the folder, if the last look was a while ago."""
        begun = time.monotonic()
        if begun < self._looked + _EVERY:
            return
        try:
            paths = traces_below(self._directory)
        except TraceError:
            paths = []  # the folder is gone, and its runs with it
        for path in self._entries.keys() - set(paths):
            self._remove(path)
        for path in paths:
            entry = self._entries.get(path)
            if entry is None:
                name = str(path.relative_to(self._directory))
                entry = self._entries[path] = _Entry(path, name)
                self._gone.pop(name, None)
            self._look_at(entry)
        took = time.monotonic() - begun
        self._looked = begun + 5 * took  # so that a large folder on a slow disk is not looked at all the time

    def _look_at(self, entry: _Entry) -> None:
        signature = _signature(entry.path)
        if signature is None:
            return
        if signature != entry.signature or entry.state is TraceState.IN_PROGRESS:
            live = entry.live or LiveRun(entry.path, file=entry.name)
            row = self._row(entry, live, signature[1])
            if row != entry.row:
                entry.row, entry.version = row, self._next_version()
            entry.signature, entry.state, entry.live = signature, live.state, live
        if entry.state is not TraceState.IN_PROGRESS and time.monotonic() > entry.asked + _KEPT:
            entry.live = None

    def _row(self, entry: _Entry, live: LiveRun, size: int) -> Json:
        row = {**live.row(), "size": size}
        if row["problem"] is not None:
            row["problem"] = row["problem"].removeprefix(str(entry.path)).lstrip(":, ")
        if row["run"] is not None and (twin := self._first.setdefault(row["run"], entry.name)) != entry.name:
            row |= {"run": None, "problem": f"the same run as {twin}"}
        return row

    def _remove(self, path: Path) -> None:
        name = self._entries.pop(path).name
        self._gone[name] = self._next_version()
        self._first = {run: first for run, first in self._first.items() if first != name}
        for entry in self._entries.values():
            if entry.row is not None and entry.row["run"] is None:  # it may have been the same run
                entry.signature = None

    def _next_version(self) -> int:
        self._version += 1
        return self._version


def _signature(path: Path) -> Signature | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns
