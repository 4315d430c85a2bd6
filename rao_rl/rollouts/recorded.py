"""The attempts that a folder of traces holds already, so that none is made twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from recursive_agent.trace.folder import read_trace, trace_files
from recursive_agent.trace.tree import ExecutionTree

from .failures import is_recorded


def recorded_attempts(folder: Path) -> Iterator[tuple[tuple[str, int], Path, ExecutionTree]]:
    """((group, seed), file, tree) of every attempt whose trace in `folder` is whole and scored.

    Skips the traces of runs that were killed, before they ended or before they were scored; of those that the endpoint, the
    sandbox or the judge failed (see `is_recorded`); and files that are no traces.
    """
    for path in trace_files(folder) if folder.is_dir() else []:
        file = read_trace(path)
        tree = file.tree
        if tree is None or not file.complete or not is_recorded(tree):
            continue
        if tree.group is not None and tree.seed is not None:
            yield (tree.group, tree.seed), path, tree
