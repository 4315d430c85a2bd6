"""Trace files in folders: how they are named, found and listed, and what state each of them is in."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ..errors import TraceError
from ..status import Status
from ..usage import Usage
from .schema import ROOT
from .store import in_progress, read_events
from .tree import ExecutionTree

SUFFIX = ".jsonl"


class TraceState(StrEnum):
    """What a trace file holds of its run."""

    COMPLETE = "complete"
    """The run from its start to its end."""
    IN_PROGRESS = "in_progress"
    """The run so far: a living process is writing the file."""
    CUT_OFF = "cut_off"
    """The run up to where its process was killed: no end was written, or no agent was started."""
    UNREADABLE = "unreadable"
    """Nothing that can be used: the file is no trace, is damaged, or cannot be opened."""


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A trace file as it was when it was read."""

    path: Path
    state: TraceState
    tree: ExecutionTree | None
    """The run, as far as the file has it; None where not even its start can be read."""
    problem: str | None = None
    """Why there is no tree, in one sentence."""

    @property
    def complete(self) -> bool:
        """Whether the file holds the whole run."""
        return self.state is TraceState.COMPLETE


def read_trace(path: str | Path) -> TraceFile:
    """Read a trace file, whatever state it is in. Never raises TraceError."""
    path = Path(path)
    # Asked first: a writer that ends while the file is read leaves a whole trace that only seems to be in progress.
    writing = in_progress(path)
    try:
        if next(read_events(path), None) is None:  # a process may be killed before its first event is whole
            state = TraceState.IN_PROGRESS if writing else TraceState.CUT_OFF
            return TraceFile(path, state, None, f"{path}: The trace is empty: not even the start of a run was written.")
        tree = ExecutionTree.load(path)
    except TraceError as error:
        return TraceFile(path, TraceState.UNREADABLE, None, str(error))
    if writing:
        return TraceFile(path, TraceState.IN_PROGRESS, tree)
    whole = tree.complete and ROOT in tree.nodes
    return TraceFile(path, TraceState.COMPLETE if whole else TraceState.CUT_OFF, tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """One trace file of a folder, at a glance. `problem` says why its tree cannot be shown (the rest is then empty)."""

    path: Path
    state: TraceState = TraceState.UNREADABLE
    run: str = ""
    started: float = 0.0
    duration: float = 0.0
    status: Status = Status.RUNNING
    complete: bool = False
    goal: str = ""
    model: str = ""
    nodes: int = 0
    depth: int = 0
    usage: Usage = field(default_factory=Usage)
    score: float | None = None
    problem: str | None = None

    @classmethod
    def of(cls, path: Path) -> TraceSummary:
        """The summary of one file; never raises TraceError."""
        file = read_trace(path)
        tree = file.tree
        if tree is None:
            return cls(path=path, state=file.state, problem=file.problem)
        try:
            root = tree.root
        except TraceError as error:
            return cls(path=path, state=file.state, problem=str(error))
        return cls(
            path=path,
            state=file.state,
            run=tree.run,
            started=tree.started,
            duration=tree.duration,
            status=root.status,
            complete=tree.complete,
            goal=root.goal,
            model=tree.model,
            nodes=len(tree.nodes),
            depth=tree.max_depth,
            usage=tree.usage,
            score=root.score,
        )


def trace_path(directory: str | Path, run: str, started: float | None = None) -> Path:
    """Where a run's trace goes: names sort by start (now, unless given) and end in the run's id."""
    at = datetime.fromtimestamp(time.time() if started is None else started, UTC)
    stamp = at.strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
    return Path(directory) / f"{stamp}-{re.sub(r'[^A-Za-z0-9_-]', '_', run)[:100]}{SUFFIX}"


def trace_files(directory: str | Path) -> list[Path]:
    """The trace files right in a folder, oldest first. Raises TraceError where there is no such folder."""
    try:
        return sorted(path for path in Path(directory).iterdir() if path.suffix == SUFFIX and path.is_file())
    except OSError as error:
        raise TraceError(f"{directory}: the folder cannot be read ({error.strerror})") from error


def traces_below(directory: str | Path) -> list[Path]:
    """The trace files in a folder and in all its sub-folders, folder by folder, oldest first. Raises as `trace_files`."""
    place = Path(directory)
    folders = [place, *sorted(path for path in place.rglob("*") if path.is_dir())]
    return [file for folder in folders for file in trace_files(folder)]


def find_trace(reference: str | Path, directory: str | Path) -> Path:
    """The file that is meant: a file, the newest trace below a folder, or the one below `directory` with this in its name.

    Raises TraceError, saying what to do, where there is none or where several runs match.
    """
    path = Path(reference)
    if path.is_file():
        return path
    if path.is_dir():
        files = traces_below(path)
        if not files:
            raise TraceError(f"{path}: no trace in this folder (files end in {SUFFIX})")
        return max(files, key=lambda file: (file.name, file))  # names begin with the time of the start
    below = traces_below(directory) if Path(directory).is_dir() else []
    found = [file for file in below if str(reference) in file.stem]
    if not found:
        raise TraceError(
            f"{reference} is not a file, a folder, or the id of a run in {directory}; list the runs with `rao trace ls`"
        )
    if len(found) > 1:
        raise TraceError(
            f"{reference}: {len(found)} runs match in {directory}; give more characters of the id (`rao trace ls` lists them)"
        )
    return found[0]
