"""Scores for recorded runs: s̃ of every node of every complete tree, appended to its trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean

import anyio

from recursive_agent.concurrency import task_group
from recursive_agent.errors import ConfigurationError
from recursive_agent.plugins import load_reference
from recursive_agent.scoring import Scorer, assess
from recursive_agent.trace.folder import TraceState, read_trace
from recursive_agent.trace.schema import ROOT, Scored
from recursive_agent.trace.store import append_events
from recursive_agent.trace.tree import ExecutionTree, Node

from ..data.groups import group_of

Assessor = Callable[[Node], Awaitable[Scored]]
"""Returns the score event of a node. A failure of one node is a `judge_error` event; an exception ends the scoring."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of a set of trace files and of their nodes. Files that do not hold a complete run are not changed."""

    trees: int = 0
    """Complete trees, whether or not a score was added to them."""
    left_out: Counter[TraceState] = field(default_factory=Counter, repr=False)
    """How many other files there are, by their state."""
    scored: int = 0
    """Nodes that got a score now."""
    unknown: int = 0
    """Nodes whose scorer returned None."""
    judge_errors: int = 0
    """Nodes whose scorer failed."""
    kept: int = 0
    """Nodes that had a score already."""
    scores: list[float] = field(default_factory=list, repr=False)
    """The new scores, in no particular order."""
    root_scores: list[float] = field(default_factory=list, repr=False)
    """The new scores of roots."""
    groups: list[str] = field(default_factory=list, repr=False)
    """The group of each complete tree."""

    @property
    def mean(self) -> float | None:
        """Mean of the new scores; None without any."""
        return mean(self.scores) if self.scores else None

    @property
    def root_mean(self) -> float | None:
        """Mean of the new scores of roots, that is, the success rate of the runs; None without any."""
        return mean(self.root_scores) if self.root_scores else None

    def add(self, event: Scored) -> None:
        """Count the event of one node."""
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
    """Score the nodes in these files that have no score, and append the scores; existing lines never change.

    A node whose score is unknown, or whose judge failed, is scored again; with `again` all nodes are, and the last score
    counts. The scores of a tree are appended in one write, the root's last: if the process is killed within the write,
    the root has no score, and the next run completes the tree. At most `concurrency` nodes are scored at a time. `on_file`
    is called after each file, `warn` with a line for each node without a score and each file that cannot be read.
    `secrets` are kept out of the traces.

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
    """Call `handle` with every complete tree of these files, `concurrency` at a time; count the others in `tally`.

    Raises what `handle` raises.
    """
    waiting = iter(files)

    async def work() -> None:
        for path in waiting:
            tree = load_finished(path, tally, warn)
            if tree is not None:
                await handle(path, tree)
            if on_file is not None:
                on_file()

    async with task_group() as group:
        for _ in range(concurrency):
            group.start_soon(work)


def load_finished(path: Path, tally: Tally, warn: Callable[[str], None]) -> ExecutionTree | None:
    """The tree of a file if it is complete; otherwise None, and the file is counted in `tally`."""
    file = read_trace(path)
    if file.tree is None or not file.complete:
        tally.left_out[file.state] += 1
        if file.state is TraceState.UNREADABLE:
            warn(f"{file.problem}; left as it is")
        return None
    tally.trees += 1
    tally.groups.append(group_of(file.tree))
    return file.tree


def with_scorer(score: Scorer, source: str) -> Assessor:
    """Turn a scorer function of your application into an assessor for `score_traces`; `source` is its name in the trace."""
    return partial(assess, score, source=source)


def load_scorer(reference: str) -> Scorer:
    """The function with the name `module:function`; modules in the current directory are found, too.

    Raises ConfigurationError where it cannot be imported.
    """
    found = load_reference(reference, "module:function, such as app:score")
    if not callable(found):
        raise ConfigurationError(f"{reference} must be a function that takes a node; it is {found!r:.80}")
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
    unscored = [node for node in tree.nodes.values() if again or node.score is None]
    events: dict[str, Scored] = {}

    async def ask(node: Node) -> None:
        async with limiter:
            events[node.id] = await score(node)

    async with anyio.create_task_group() as group:
        for node in unscored:
            group.start_soon(ask, node)
    ordered = [events[node.id] for node in unscored]
    new = [event for event, node in zip(ordered, unscored, strict=True) if not _known(node, event)]
    if new:
        new.sort(key=lambda event: event.node == ROOT)
        append_events(path, new, secrets=secrets)
    tally.kept += len(tree.nodes) - len(unscored)
    for event in ordered:
        tally.add(event)
        if event.status == "judge_error":
            warn(f"{path.name}, agent {event.node}: no score ({event.source})")


def _known(node: Node, event: Scored) -> bool:
    """Whether the trace has this score already."""
    return (node.score, node.score_status, node.score_source) == (event.score, event.status, event.source)
