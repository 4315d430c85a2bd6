"""A folder of traces as credit assignment takes it: whole trees with exact tokens, by group. No torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.trace.schema import ROOT
from recursive_agent.trace.store import read_events, trace_files
from recursive_agent.trace.tree import ExecutionTree

from .groups import group_of
from .samples import tree_rows


@dataclass(frozen=True, slots=True)
class Recorded:
    """The groups of a folder of traces, by group id in order of appearance; `left_out` counts trees by reason."""

    groups: dict[str, list[ExecutionTree]]
    left_out: Counter[str]

    @property
    def trees(self) -> list[ExecutionTree]:
        """All of them, group by group."""
        return [tree for group in self.groups.values() for tree in group]


def trace_paths(place: Path) -> list[Path]:
    """A trace file, or all below a folder. Raises ConfigurationError where there is none."""
    if place.is_file():
        return [place]
    folders = [place, *sorted(path for path in place.rglob("*") if path.is_dir())] if place.is_dir() else []
    files = [file for folder in folders for file in trace_files(folder)]
    if not files:
        raise ConfigurationError(
            f"{place} holds no traces; record some with `rao rollout`, or with `rao run --trace-dir` and `rao score`"
        )
    return files


def read_groups(place: str | Path, *, min_group: int = 2) -> Recorded:
    """The whole trees of a trace folder by group.

    Trees that were cut off are counted and left out. Raises ConfigurationError in one sentence for what cannot be trained:
    no traces, files that cannot be read (another schema version, say), the same run twice, text without token ids,
    nothing scored, and no group of `min_group` trees.
    """
    groups: defaultdict[str, list[ExecutionTree]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    files: dict[str, Path] = {}
    for path in trace_paths(Path(place)):
        try:
            begun = next(read_events(path), None) is not None  # a writer may be killed before its first event
            tree = ExecutionTree.load(path) if begun else None
        except TraceError as error:
            raise ConfigurationError(str(error)) from error
        if tree is None or not tree.complete or ROOT not in tree.nodes:
            left_out["incomplete"] += 1
            continue
        if (twin := files.setdefault(tree.run, path)) != path:
            raise ConfigurationError(f"{path} and {twin} are the same run, which would be trained twice; remove one")
        try:
            tree_rows(tree)  # text-only traces are refused before anything is trained
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        tree.group = group_of(tree)
        groups[tree.group].append(tree)
    recorded = Recorded(dict(groups), left_out)
    if not groups:
        raise ConfigurationError(f"{place} holds no whole run: {left_out.total()} of its traces were cut off")
    if all(node.score_status is None for tree in recorded.trees for node in tree.nodes.values()):
        raise ConfigurationError(f"no agent in {place} has a score; give them one with `rao score {place}`")
    largest = max(len(group) for group in groups.values())
    if largest < min_group:
        raise ConfigurationError(
            f"the largest group in {place} has {largest} attempt{'s' * (largest > 1)} at its task, and {min_group} are "
            "needed to compare; record several attempts at each task"
        )
    return recorded
