"""s̃ for runs that were recorded without it: every node of every finished tree, appended to its trace."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import anyio

from recursive_agent.errors import ConfigurationError
from recursive_agent.groups import the_cause
from recursive_agent.scoring import Scorer, assess
from recursive_agent.trace.schema import ROOT, Scored
from recursive_agent.trace.store import append_events
from recursive_agent.trace.tree import ExecutionTree, Node

from .groups import group_of
from .traces import read_one

Assessor = Callable[[Node], Awaitable[Scored]]
"""Gives the score event of a node. What it raises ends the scoring: what one node alone suffers from is `judge_error`."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of a set of trace files. Trees that were not complete are left as they are."""

    trees: int = 0
    """Complete trees, whether or not there was anything to add to them."""
    in_progress: int = 0
    incomplete: int = 0
    """Trees whose end was never written: their writer was killed."""
    unreadable: int = 0
    scored: int = 0
    unknown: int = 0
    judge_errors: int = 0
    kept: int = 0
    """Nodes that had a score already."""
    scores: list[float] = field(default_factory=list, repr=False)
    """Scores given now, in no particular order."""
    root_scores: list[float] = field(default_factory=list, repr=False)
    groups: list[str] = field(default_factory=list, repr=False)
    """Of each complete tree."""

    @property
    def mean(self) -> float | None:
        """Mean of the scores given now; None without any."""
        return mean(self.scores) if self.scores else None

    @property
    def root_mean(self) -> float | None:
        """The same over roots alone: how well the runs went."""
        return mean(self.root_scores) if self.root_scores else None

    def add(self, event: Scored) -> None:
        """Count a node that was asked about."""
        if event.score is not None:
            self.scored += 1
            self.scores.append(event.score)
            if event.node == ROOT:
                self.root_scores.append(event.score)
        elif event.status == "unknown":
            self.unknown += 1
        else:
            self.judge_errors += 1


async def score_traces(
    files: Iterable[Path],
    score: Assessor,
    *,
    again: bool = False,
    concurrency: int = 8,
    secrets: Sequence[str] = (),
    on_file: Callable[[], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Tally:
    """Score what the trees in these files lack a score for, and append it to them; nothing is ever rewritten.

    A node whose score is not known (nobody could tell, or the judge failed) is asked about again; with `again` all are,
    and the last score counts. The scores of a tree leave together, the root's last: where the process is killed within
    the write, the tree counts as one whose root is not scored, until the next run completes it. At most `concurrency`
    nodes are asked about at once; `on_file` is called after each file, `warn` with a line for each node and each file
    that something is wrong with; `secrets` are kept out of the traces.

    Raises what `score` raises, and TraceError where a file cannot be written.
    """
    tally = Tally()
    limiter = anyio.CapacityLimiter(concurrency)
    complain = warn or (lambda line: None)

    async def handle(path: Path, tree: ExecutionTree) -> None:
        await _score_tree(path, tree, score, tally, limiter, again, secrets, complain)

    await visit(files, handle, tally, concurrency=concurrency, on_file=on_file, warn=complain)
    return tally


async def visit(
    files: Iterable[Path],
    handle: Callable[[Path, ExecutionTree], Awaitable[None]],
    tally: Tally,
    *,
    concurrency: int,
    on_file: Callable[[], None] | None,
    warn: Callable[[str], None],
) -> None:
    """`handle` every complete tree of these files, `concurrency` at a time; the others are counted. Raises as it does."""
    waiting = iter(files)

    async def work() -> None:
        for path in waiting:
            tree = load_finished(path, tally, warn)
            if tree is not None:
                await handle(path, tree)
            if on_file is not None:
                on_file()

    try:
        async with anyio.create_task_group() as group:
            for _ in range(concurrency):
                group.start_soon(work)
    except BaseExceptionGroup as wrapped:
        raise the_cause(wrapped) from None


def load_finished(path: Path, tally: Tally, warn: Callable[[str], None]) -> ExecutionTree | None:
    """The tree of a file where it is complete; None, counted in `tally`, where it is not."""
    tree, reason, problem = read_one(path)
    if tree is None:
        setattr(tally, str(reason), getattr(tally, str(reason)) + 1)
        if problem:
            warn(f"{problem}; left as it is")
        return None
    tally.trees += 1
    tally.groups.append(group_of(tree))
    return tree


def with_scorer(score: Scorer, source: str) -> Assessor:
    """An application's own scorer; `source` is what the trace names it."""
    return partial(assess, score, source=source)


def load_scorer(reference: str) -> Scorer:
    """The function that `module:function` names; the current directory counts as a place where modules are.

    Raises ConfigurationError where there is none.
    """
    module_name, _, name = reference.partition(":")
    parts = [*module_name.split("."), *name.split(".")]
    if module_name.endswith(".py") or not all(part.isidentifier() for part in parts):
        raise ConfigurationError(f"a scorer is given as module:function (app:score, say), not {reference!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    found: Any
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{reference}: there is no module {error.name} here or installed") from error
        raise ConfigurationError(f"{reference}: importing {module_name} failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{reference}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigurationError(f"{reference}: {module_name} has no {name}") from None
    if not callable(found):
        raise ConfigurationError(f"{reference} is no function of a node but {found!r:.80}")
    scorer: Scorer = found
    return scorer


async def _score_tree(
    path: Path,
    tree: ExecutionTree,
    score: Assessor,
    tally: Tally,
    limiter: anyio.CapacityLimiter,
    again: bool,
    secrets: Sequence[str],
    warn: Callable[[str], None],
) -> None:
    wanted = [node for node in tree.nodes.values() if again or node.score is None]
    events: dict[str, Scored] = {}

    async def ask(node: Node) -> None:
        async with limiter:
            events[node.id] = await score(node)

    async with anyio.create_task_group() as group:
        for node in wanted:
            group.start_soon(ask, node)
    ordered = [events[node.id] for node in wanted]
    new = [event for event, node in zip(ordered, wanted, strict=True) if not _known(node, event)]
    if new:
        new.sort(key=lambda event: event.node == ROOT)
        append_events(path, new, secrets=secrets)
    tally.kept += len(tree.nodes) - len(wanted)
    for event in ordered:
        tally.add(event)
        if event.status == "judge_error":
            warn(f"{path.name}, agent {event.node}: no score ({event.source})")


def _known(node: Node, event: Scored) -> bool:
    """Whether the trace says already what the event says."""
    return (node.score, node.score_status, node.score_source) == (event.score, event.status, event.source)
