"""The credit of recorded runs in words, with the settings of the training run that they belong to.

Runs of the same group are compared. The agents whose weights depend on each other are those of a training step: of a run of
online training, those of the groups that the step took (`used_groups.py`), or of a run of an older version, all that stand in
the folder of the step; elsewhere it is not known which groups are trained together, and each is weighted by itself.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.trace.folder import TraceFile, read_trace, trace_files
from recursive_agent.trace.schema import ROOT, NodeStarted
from recursive_agent.trace.store import read_events
from recursive_agent.trace.tree import ExecutionTree, TreeBuilder

from ..credit.assign import assign
from ..credit.config import CreditConfig
from ..credit.counterfactual import launch_of
from ..credit.credits import Size
from ..credit.explain import Explained, explain
from ..errors import DataError
from .groups import group_of
from .policy import choose_policy, others_of
from .rows import TreeRows
from .used_groups import UsedGroups, read_used

SETTINGS, METRICS, TRACES = "training.json", "metrics.jsonl", "traces"
"""Of the folder of a training run: its settings, its metrics, and the traces of online training by step."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Training:
    """What decides about credit in a training run."""

    config: CreditConfig
    source: str
    """Where the settings are from, for people."""
    policy: str | None = None
    folder: Path | None = None


def training_of(traces: Path) -> Path | None:
    """The folder of the online training run that a trace (or a folder of traces) belongs to; None where it is of none."""
    return next(
        (
            above.parent
            for above in (traces, *traces.parents)
            if above.name == TRACES and (above.parent / SETTINGS).is_file()
        ),
        None,
    )


def read_training(folder: Path) -> CreditConfig:
    """The settings of credit of a training run. Raises ConfigurationError where there are none that can be read."""
    path = folder / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        credit = settings["credit"]
        known = {field.name for field in fields(CreditConfig)}
        return CreditConfig(**{name: value for name, value in credit.items() if name in known})
    except OSError as error:
        raise ConfigurationError(f"{folder} is not the folder of a training run ({path}: {error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} has no settings of credit that can be read ({error})") from None


def attempts_beside(file: TraceFile) -> list[TraceFile]:
    """A trace and the others of its folder that it is compared with: those of its group; in online training, of its step."""
    if file.tree is None or ROOT not in file.tree.nodes:
        return [file]
    group = group_of(file.tree)
    used = _used(file.path.parent)
    batch = _batch(file.path, _home(file.path, file.tree.group), used)
    taken = used.get(batch) if batch is not None else None
    whole_step = batch is not None and taken is None
    groups = {group} if taken is None else {*taken.groups}
    folders = [file.path.parent] if taken is None else [file.path.parents[1] / name for name in taken.folders]
    found = [file]
    further: list[Path] = []
    runs = {file.tree.run}
    for path in (path for folder in folders if folder.is_dir() for path in trace_files(folder)):
        if path == file.path:
            continue
        head = None if whole_step else _head(path)
        if head is not None and launch_of(head.group) is not None:
            further.append(path)
        elif whole_step or (head is not None and group_of(head) in groups):
            other = read_trace(path)
            found.append(other)
            runs |= set() if other.tree is None else {other.tree.run}
    for path in further:
        launch = launch_of(getattr(_head(path), "group", None))
        if launch is not None and launch[0] in runs:
            found.append(read_trace(path))
    return sorted(found, key=lambda each: each.path)


def credit_of(files: Sequence[TraceFile], training: Training) -> dict[Path, dict[str, Json]]:
    """The credit of every agent of these runs, by file and node id; nothing where no agent of any of them has a score."""
    trees = {file.path: file.tree for file in files if file.tree is not None and ROOT in file.tree.nodes}
    if all(node.score_status is None for tree in trees.values() for node in tree.nodes.values()):
        return {}
    found: dict[Path, dict[str, Json]] = {}
    batches: defaultdict[tuple[int | None, str], list[Path]] = defaultdict(list)
    homes = {tree.run: group_of(tree) for tree in trees.values()}
    used = {folder: _used(folder) for folder in {path.parent for path in trees}}
    for path, tree in trees.items():
        if not tree.complete or any(node.running for node in tree.nodes.values()):
            left_out = Explained(
                left_out="The run has not ended (or its trace was cut off): only whole runs are trained on."
            )
            found[path] = {node: left_out.as_data() for node in tree.nodes}
            continue
        launch = launch_of(tree.group)
        home = group_of(tree) if launch is None else homes.get(launch[0], group_of(tree))
        step = _batch(path, home, used[path.parent])
        batches[step, "" if step is not None else home].append(path)
    averages: Mapping[int, float] | None = {}
    expected = 0
    for (step, _), paths in sorted(batches.items(), key=lambda item: (item[0][0] is None, item[0][0] or 0, item[0][1])):
        if training.config.baseline == "ema_depth":
            averages = averages if step == expected else None
            expected += 1
        members = {path: trees[path] for path in paths}
        explained, averages = _explained(members, training, step, averages)
        found |= explained
    return found


def _explained(
    trees: Mapping[Path, ExecutionTree], training: Training, step: int | None, averages: Mapping[int, float] | None
) -> tuple[dict[Path, dict[str, Json]], Mapping[int, float] | None]:
    """The credit of a batch, and the moving averages after it."""
    groups = {path: tree.group for path, tree in trees.items()}
    config = training.config
    try:
        if averages is None:
            raise DataError(
                "The baseline is a moving average over the steps before, which are not all here: show the whole folder of the "
                "training run."
            )
        for tree in trees.values():  # as training does for runs that were recorded without a group
            tree.group = group_of(tree)
        sizes = _sizes(list(trees.values()), training.policy)
        update = 0 if step is None else _update(training.folder, step)
        version = update if step is not None else None
        arguments: dict[str, Any] = {"sizes": sizes, "version": version, "update": update, "averages": averages}
        batch = "the group" if step is None else "the step"
        explained = explain(list(trees.values()), config, batch=batch, **arguments)
        if config.baseline == "ema_depth":
            whole = replace(config, max_nodes_per_depth=None)
            averages = assign(list(trees.values()), whole, **arguments).averages
    except DataError as error:
        left_out = Explained(left_out=str(error)).as_data()
        return {path: dict.fromkeys(tree.nodes, left_out) for path, tree in trees.items()}, averages
    finally:
        for path, tree in trees.items():
            tree.group = groups[path]
    found = {}
    for path, own in zip(trees, explained, strict=True):
        found[path] = {node: credit.as_data() for node, credit in own.items()}
        if (root := found[path].get(ROOT)) is not None:
            root["why"] = [*root["why"], f"settings of credit: {training.source}"]
    return found, averages


def _sizes(trees: Sequence[ExecutionTree], policy: str | None) -> list[dict[str, Size]] | None:
    """The sizes of rows as training has them; None where a run has no token ids, so that sizes are those of its usage."""
    chosen = choose_policy(trees, policy)
    others = [frozenset[str]() if chosen is None else others_of(tree, chosen) for tree in trees]
    try:
        return [TreeRows.of(tree, others=own).sizes for tree, own in zip(trees, others, strict=True)]
    except DataError:
        if not any(others):
            return None
        return [
            {
                node.id: Size(0, max(1, node.usage.completion_tokens), of_policy=node.id not in own)
                for node in tree.nodes.values()
            }
            for tree, own in zip(trees, others, strict=True)
        ]


def _step(path: Path) -> int | None:
    """The number of the folder of online training that a trace is in."""
    name = path.parent.name
    return int(name) if name.isdecimal() and training_of(path.parent.parent) == path.parent.parent.parent else None


def _used(folder: Path) -> dict[int, UsedGroups]:
    """Which groups each batch has of the online training that a folder of traces is of; nothing where it is of none."""
    training = training_of(folder)
    return {} if training is None else read_used(training)


def _home(path: Path, group: str | None) -> str | None:
    """The group of an attempt, or of the one that a further attempt belongs to."""
    if (launch := launch_of(group)) is None:
        return group
    heads = (_head(other) for other in trace_files(path.parent))
    return next((head.group for head in heads if head is not None and head.run == launch[0]), group)


def _batch(path: Path, group: str | None, used: Mapping[int, UsedGroups]) -> int | None:
    """The number of the batch that a trace belongs to; None where it is of none, or where no step has used it."""
    folder = _step(path)
    if folder is None or not used:
        return folder
    return next((number for number, each in used.items() if group in each.groups), None)


def _update(folder: Path | None, batch: int) -> int:
    """The number of updates before a batch was trained on: batches that teach nothing are skipped."""
    try:
        lines = [] if folder is None else (folder / METRICS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:
        try:
            row = json.loads(line)
            if row.get("rao/batch") == batch:
                return int(row["step"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a torn line, or a row of another kind
    return batch


def _head(path: Path) -> ExecutionTree | None:
    """A run up to the start of its root: what it was asked."""
    builder = TreeBuilder()
    try:
        for event in read_events(path):
            builder.add(event)
            if isinstance(event, NodeStarted):
                break
    except TraceError:
        return None
    return builder.tree if builder.tree is not None and builder.tree.nodes else None
