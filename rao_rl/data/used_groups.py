"""Which groups of attempts each batch of an online run consists of: a line for each batch in `groups.jsonl` of its folder.

The line is written when a step takes the groups, before it trains on them. A run that was killed reads here what its steps
had after the checkpoint, and takes the same groups again; the others are still to be used. A group is named
`FOLDER/NUMBER/TASK`, and its traces are in `traces/FOLDER`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "groups.jsonl"


@dataclass(frozen=True, slots=True)
class UsedGroups:
    """The groups of a batch. `version` is the number of updates before the step that took them."""

    batch: int
    version: int
    groups: tuple[str, ...]

    @property
    def folders(self) -> list[str]:
        """The names of the folders with their traces."""
        return sorted({group.partition("/")[0] for group in self.groups})


def read_used(run: Path) -> dict[int, UsedGroups]:
    """What the batches of the run in this folder consist of, by number; none of them in a run of an older version."""
    return {used.batch: used for used in _lines(run / FILE)}


def add_used(run: Path, used: UsedGroups) -> None:
    """Write down what a batch consists of."""
    with (run / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(used)) + "\n")


def forget_used(run: Path, version: int | None = None, keep: Collection[int] = ()) -> None:
    """Leave out a torn last line, and the batches of steps from `version` on; those in `keep` stay."""
    path = run / FILE
    if not path.is_file():
        return
    kept = [used for used in _lines(path) if version is None or used.version < version or used.batch in keep]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(asdict(used)) + "\n" for used in kept), encoding="utf-8")
    temporary.replace(path)


def _lines(path: Path) -> Iterator[UsedGroups]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
            yield UsedGroups(int(row["batch"]), int(row["version"]), tuple(map(str, row["groups"])))
        except (ValueError, KeyError, TypeError):  # a torn line
            continue
