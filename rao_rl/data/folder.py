"""Folders of recorded runs: the only reader of them, for scoring, credit assignment, imitation, export and listing.

Traces are found anywhere below a folder. Each is complete, in progress, cut off or unreadable (see `TraceState`). Only the
complete ones are used; the others are counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.folder import TraceState, read_trace, traces_below
from recursive_agent.trace.tree import ExecutionTree

from ..credit.counterfactual import launch_of
from ..errors import DataError
from .groups import group_of
from .policy import choose_policy, focus
from .rows import TreeRows
from .sampling import narrowing, number


@dataclass(frozen=True, slots=True)
class TraceFolder:
    """The complete trees of a folder by file, in order of files and sub-folders."""

    trees: dict[Path, ExecutionTree] = field(default_factory=dict)
    left_out: Counter[TraceState] = field(default_factory=Counter)
    """How many other traces there are, by their state."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with the files that cannot be read, a sentence for each."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The groups of a folder of traces, by group id in order of appearance; `left_out` and `problems` as in `TraceFolder`."""

    groups: dict[str, list[TreeRows]]
    left_out: Counter[TraceState]
    problems: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[TreeRows]:
        """All trees with their rows, group by group."""
        return [tree for group in self.groups.values() for tree in group]

    @property
    def trees(self) -> list[ExecutionTree]:
        """All trees, group by group."""
        return [each.tree for each in self.rows]


def trace_paths(place: Path) -> list[Path]:
    """A trace file, or all below a folder. Raises ConfigurationError where there is no such place, DataError for no traces."""
    if place.is_file():
        return [place]
    if not place.exists():
        raise ConfigurationError(f"{place} does not exist; record traces {_HOW}")
    files = traces_below(place)
    if not files:
        raise DataError(f"{place} contains no traces; record some {_HOW}")
    return files


_HOW = "with `rao rollout`, or with `rao run --trace-dir` and `rao score`"


def read_folder(place: str | Path) -> TraceFolder:
    """Every complete tree in a trace file, or anywhere below a folder.

    Raises ConfigurationError if the path does not exist, and DataError if it contains no complete tree, or if two files
    are the same run.
    """
    folder = TraceFolder()
    files: dict[str, Path] = {}
    for path in trace_paths(Path(place)):
        file = read_trace(path)
        if file.tree is None or not file.complete:
            folder.left_out[file.state] += 1
            if file.state is TraceState.UNREADABLE:
                folder.problems.append(file.problem or str(path))
            continue
        if (twin := files.setdefault(file.tree.run, path)) != path:
            raise DataError(f"{path} and {twin} are the same run, which would be trained twice; remove one")
        folder.trees[path] = file.tree
    if not folder.trees:
        if folder.problems:
            raise DataError(folder.problems[0])
        raise DataError(f"{place} contains no complete run: {left_out_text(folder.left_out)}")
    return folder


def left_out_text(left_out: Mapping[TraceState, int]) -> str:
    """How many traces were left out, and why."""
    words = {
        TraceState.IN_PROGRESS: "of its traces {} still being written",
        TraceState.CUT_OFF: "of its traces {} cut off",
        TraceState.UNREADABLE: "of its traces cannot be read",
    }
    return ", ".join(
        f"{number:,} {words[state].format('was' if number == 1 else 'were')}"
        for state, number in left_out.items()
        if number
    )


def read_groups(
    place: str | Path, *, min_group: int = 2, policy: str | None = None, start: str | Path | None = None
) -> Recorded:
    """The complete trees of a trace folder by group, with their rows of tokens.

    Of runs with several models, the agents of one are trained: `policy`, or the one that `choose_policy` finds for the
    checkpoint `start`. Raises like `read_folder`, and DataError if training cannot use the trees: text without token ids, no
    scores, no group of `min_group` trees, or several models to choose from.
    """
    groups: defaultdict[str, list[TreeRows]] = defaultdict(list)
    folder = read_folder(place)
    chosen = choose_policy(folder.trees.values(), policy, start)
    for path, tree in folder.trees.items():
        try:
            rows = TreeRows.of(tree, others=frozenset() if chosen is None else focus(tree, chosen))
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        tree.group = group_of(tree)
        groups[tree.group].append(rows)
    _join_further(groups)
    recorded = Recorded(dict(groups), folder.left_out, folder.problems)
    if all(node.score_status is None for tree in recorded.trees for node in tree.nodes.values()):
        raise DataError(f"no agent in {place} has a score; give them one with `rao score {place}`")
    largest = max(len(group) for group in groups.values())
    if largest < min_group:
        raise DataError(
            f"the largest group in {place} has {largest} attempt{'s' * (largest > 1)}, but training "
            f"compares at least {min_group}; record several attempts at each task"
        )
    return recorded


def _join_further(groups: dict[str, list[TreeRows]]) -> None:
    """Put the further children at a launch (see `credit.counterfactual`) into the group of the run that it was in."""
    homes = {each.tree.run: name for name, trees in groups.items() for each in trees}
    for name in list(groups):
        if (launch := launch_of(name)) is not None and (home := homes.get(launch[0])) is not None:
            groups[home] += groups.pop(name)


def temperature_of(trees: Iterable[ExecutionTree], requested: float | None = None) -> float:
    """The temperature that recorded trees were sampled at; `requested` (else 1) where they do not say.

    Raises DataError where they say several; where it was 0, at which nothing is sampled; and where sampling was cut or bent
    (top_p, top_k, penalties, …), so that log-probs are not the policy's. Raises ConfigurationError where they say another
    one than `requested`.
    """
    trees = list(trees)
    counts = Counter(value for tree in trees if (value := number(tree.settings.get("temperature"))) is not None)
    for tree in trees:
        if cut := narrowing(tree.settings):
            raise DataError(
                f"run {tree.run} was sampled with {', '.join(cut)}, so the log-probs in its trace are not those of the policy; "
                "record new runs without such settings"
            )
    if len(counts) > 1:
        listed = ", ".join(f"{value:g} ({number:,} runs)" for value, number in sorted(counts.items()))
        raise DataError(
            f"the runs were sampled at different temperatures: {listed}; training needs one temperature, so put "
            "the runs of each temperature into a separate folder"
        )
    recorded = next(iter(counts), None)
    if recorded is None:
        return 1.0 if requested is None else requested
    if recorded <= 0:
        raise DataError(
            "the runs were sampled at temperature 0, so the attempts at a task are equal; record new runs at a higher one"
        )
    if requested is not None and requested != recorded:
        raise ConfigurationError(
            f"the runs were sampled at temperature {recorded:g}, and training must use the same, not "
            f"{requested:g}: leave out collect.temperature"
        )
    return recorded


def check_one_policy(recorded: Recorded) -> None:
    """Raises DataError where attempts at one task, or all runs together, were sampled by more than one model.

    A baseline across two policies compares what cannot be compared. Versions that are numbers are those of a training run,
    whose batches may be a few updates old; others name weights, and a group must have one kind of them.
    """
    names = Counter(tree.model for tree in recorded.trees)
    for group, rows in recorded.groups.items():
        for kind, of_group in (
            ("models", {each.tree.model for each in rows}),
            ("versions of the weights", {version for each in rows for version in _versions(each)}),
        ):
            if len(of_group) > 1:
                raise DataError(
                    f"the attempts of group {group} were sampled by different {kind}: {', '.join(sorted(of_group))}; the "
                    "attempts at a task are compared with each other, so put the runs of each into a separate folder"
                )
    if len(names) > 1:
        listed = ", ".join(f"{name} ({count:,} runs)" for name, count in sorted(names.items()))
        raise DataError(
            f"the runs were sampled by different models: {listed}; train each model on its own runs, in a separate folder"
        )


def _versions(rows: TreeRows) -> set[str]:
    """The names of weights in a tree; the numbers of updates are none."""
    known = (row.version for own in rows.rows.values() for row in own)
    return {version for version in known if version is not None and not version.isdecimal()}
