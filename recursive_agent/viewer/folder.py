"""A folder of traces as a page: a row for each file, and the runs themselves as long as one page can hold them.

A file that is broken, cut off or no trace at all is a row too, with what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import TraceError
from ..trace.folder import SUFFIX, TraceFile, read_trace, traces_below
from .page import json_text
from .payload import Json, page_data, run_data
from .rows import row_data

MOST_EMBEDDED = 64 * 1024**2
"""Bytes of the runs that a page holds. Of larger folders it lists them only."""
MOST_READ = 4 * MOST_EMBEDDED
"""Bytes of the files of a folder whose runs may fit in a page, which leaves out token ids and log-probs."""

Credit = Mapping[Path, Mapping[str, Json]]
"""By file and node id."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The trace files of a folder and of those below it, oldest first."""

    place: Path
    files: tuple[Path, ...]
    size: int
    """Bytes of all files."""

    @property
    def fits(self) -> bool:
        """Whether its runs may fit in a page."""
        return self.size <= MOST_READ

    def read(self) -> Iterator[TraceFile]:
        """Each file as it is."""
        return map(read_trace, self.files)


def open_folder(place: str | Path) -> Folder:
    """The traces of a folder. Raises TraceError where it cannot be read or holds none."""
    files = sorted(traces_below(place), key=lambda file: (file.name, file))  # names begin with the time of the start
    if not files:
        raise TraceError(f"{place}: no trace in this folder (files end in {SUFFIX})")
    return Folder(Path(place), tuple(files), sum(map(_size, files)))


def folder_page(
    folder: Folder, files: list[TraceFile] | None = None, credit: Credit | None = None
) -> tuple[Json, list[tuple[str, str]]]:
    """The data of the page, and the runs to embed: the id and the JSON of each (see `page.page_pieces`).

    `files` is what `folder.read` gives, where it has been read already.
    """
    credit = credit or {}
    rows: list[Json] = []
    runs: dict[str, str] | None = {} if folder.fits else None
    first: dict[str, str] = {}
    left = MOST_EMBEDDED
    for file in folder.read() if files is None else files:
        name, tree = str(file.path.relative_to(folder.place)), file.tree
        problem = None if file.problem is None else file.problem.removeprefix(str(file.path)).lstrip(":, ")
        if tree is not None and (twin := first.setdefault(tree.run, name)) != name:
            tree, problem = None, f"the same run as {twin}"
        explained = credit.get(file.path, {})
        root = explained.get("0", {})
        row = {**row_data(tree, file=name, state=file.state.value, problem=problem), "size": _size(file.path)}
        rows.append({**row, "reward": root.get("reward")})
        if runs is not None and tree is not None:
            text = json_text(run_data(tree, file=str(file.path), state=file.state.value, credit=explained))
            left -= len(text.encode())
            runs[tree.run] = text
            runs = runs if left >= 0 else None
    note = None if runs is not None else _too_large(folder)
    title = folder.place.name or str(folder.place.resolve())
    return page_data(title, kind="folder", rows=rows, note=note), list((runs or {}).items())


def _too_large(folder: Folder) -> str:
    return (
        f"The runs of this folder are more than the {MOST_EMBEDDED // 1024**2} MB that one page holds, so it lists them only: "
        f"`rao trace view {folder.place}/FILE` shows one of them, and `rao trace view --serve {folder.place}` shows all."
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # removed meanwhile
        return 0
