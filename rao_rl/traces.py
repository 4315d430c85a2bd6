"""A folder of traces as scoring, credit assignment and imitation read it: all that are whole, wherever they lie. No torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.trace.schema import ROOT
from recursive_agent.trace.store import in_progress, read_events, trace_files
from recursive_agent.trace.tree import ExecutionTree

from .groups import group_of
from .samples import tree_rows

LeftOut = Literal["in_progress", "incomplete", "unreadable"]
"""Why a trace is left out: a living process writes it, its writer was killed, or it cannot be read."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The groups of a folder of traces, by group id in order of appearance; `left_out` counts trees by reason."""

    groups: dict[str, list[ExecutionTree]]
    left_out: Counter[str]
    problems: list[str] = field(default_factory=list)
    """What is wrong with the files that cannot be read."""

    @property
    def trees(self) -> list[ExecutionTree]:
        """All of them, group by group."""
        return [tree for group in self.groups.values() for tree in group]


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole trees of a folder, by file, oldest first; `left_out` counts the others, `problems` names what is unreadable."""

    trees: dict[Path, ExecutionTree]
    left_out: Counter[str]
    problems: list[str]


def read_one(path: Path) -> tuple[ExecutionTree | None, LeftOut | None, str]:
    """The tree of a file, or why it is left out and, for one that cannot be read, a sentence about it."""
    if in_progress(path):
        return None, "in_progress", ""
    try:
        if next(read_events(path), None) is None:  # a writer may be killed before its first event
            return None, "incomplete", ""
        tree = ExecutionTree.load(path)
    except TraceError as error:
        return None, "unreadable", str(error)
    return (tree, None, "") if tree.complete and ROOT in tree.nodes else (None, "incomplete", "")


def read_finished(place: str | Path) -> Finished:
    """Every whole tree in a trace file, or anywhere below a folder.

    Raises ConfigurationError in one sentence where there is none, and where two files are the same run.
    """
    finished = Finished({}, Counter(), [])
    files: dict[str, Path] = {}
    for path in trace_paths(Path(place)):
        tree, reason, problem = read_one(path)
        if tree is None:
            finished.left_out[str(reason)] += 1
            finished.problems.extend([problem] if problem else [])
            continue
        if (twin := files.setdefault(tree.run, path)) != path:
            raise ConfigurationError(f"{path} and {twin} are the same run, which would be trained twice; remove one")
        finished.trees[path] = tree
    if not finished.trees:
        if finished.problems:
            raise ConfigurationError(finished.problems[0])
        raise ConfigurationError(f"{place} holds no whole run: {left_out_text(finished.left_out)}")
    return finished


def left_out_text(left_out: Mapping[str, int]) -> str:
    """How many traces were left out, and why."""
    words = {
        "in_progress": "of its traces {} still being written",
        "incomplete": "of its traces {} cut off",
        "unreadable": "of its traces cannot be read",
    }
    told = []
    for reason, number in left_out.items():
        if number:
            told.append(f"{number:,} {words.get(reason, reason).format('was' if number == 1 else 'were')}")
    return ", ".join(told)


def temperature_of(trees: Mapping[Any, ExecutionTree] | list[ExecutionTree], given: float | None = None) -> float:
    """The temperature that recorded trees were sampled at; `given` (else 1) where they do not say.

    Raises ConfigurationError where they say several, or another than the one `given`; where it was 0, at which nothing is
    sampled; and where answers were cut to a nucleus (top_p), whose log-probs are not the policy's.
    """
    known = list(trees.values()) if isinstance(trees, Mapping) else trees
    counts = Counter(value for tree in known if (value := _number(tree.settings.get("temperature"))) is not None)
    if any((_number(tree.settings.get("top_p")) or 1.0) < 1 for tree in known):
        raise ConfigurationError(
            "some of the runs were sampled with top_p below 1, so the log-probs in their traces are not those of the policy; "
            "record anew with top_p 1"
        )
    if len(counts) > 1:
        told = ", ".join(f"{value:g} ({number:,} runs)" for value, number in sorted(counts.items()))
        raise ConfigurationError(
            f"the runs were sampled at different temperatures: {told}; one training takes one temperature, so put them into "
            "folders of their own"
        )
    recorded = next(iter(counts), None)
    if recorded is None:
        return 1.0 if given is None else given
    if recorded <= 0:
        raise ConfigurationError(
            "the runs were sampled at temperature 0, which leaves nothing to compare; record anew at a higher one"
        )
    if given is not None and given != recorded:
        raise ConfigurationError(
            f"the runs were sampled at temperature {recorded:g}, and cannot be trained at {given:g}: leave "
            "collect.temperature out"
        )
    return recorded


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


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

    Traces that were cut off, are still being written or cannot be read are counted and left out. Raises ConfigurationError
    in one sentence for what cannot be trained: no whole trace, the same run twice, text without token ids, nothing scored,
    and no group of `min_group` trees.
    """
    groups: defaultdict[str, list[ExecutionTree]] = defaultdict(list)
    finished = read_finished(place)
    for path, tree in finished.trees.items():
        try:
            tree_rows(tree)  # text-only traces are refused before anything is trained
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error
        tree.group = group_of(tree)
        groups[tree.group].append(tree)
    recorded = Recorded(dict(groups), finished.left_out, finished.problems)
    if all(node.score_status is None for tree in recorded.trees for node in tree.nodes.values()):
        raise ConfigurationError(f"no agent in {place} has a score; give them one with `rao score {place}`")
    largest = max(len(group) for group in groups.values())
    if largest < min_group:
        raise ConfigurationError(
            f"the largest group in {place} has {largest} attempt{'s' * (largest > 1)} at its task, and {min_group} are "
            "needed to compare; record several attempts at each task"
        )
    return recorded
