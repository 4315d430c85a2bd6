"""Calibration of a judge: its agreement with a verifier on nodes that both have scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from recursive_agent.trace.tree import ExecutionTree, Node

from .judge import Judge, is_verdict
from .traces import Tally, visit


@dataclass(slots=True, kw_only=True)
class Agreement:
    """Counts of nodes by the judge's verdict and the verifier's, success or failure."""

    both: int = 0
    judge_only: int = 0
    """Success for the judge, failure for the verifier: nodes that training would wrongly reward."""
    verifier_only: int = 0
    neither: int = 0
    unjudged: int = 0
    """Nodes with a verifier's score, without a verdict because the judge failed; not counted in the figures below."""

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            both=self.both + other.both,
            judge_only=self.judge_only + other.judge_only,
            verifier_only=self.verifier_only + other.verifier_only,
            neither=self.neither + other.neither,
            unjudged=self.unjudged + other.unjudged,
        )

    def add(self, judge: bool, verifier: bool) -> None:
        """Count one node."""
        if judge:
            self.both, self.judge_only = self.both + verifier, self.judge_only + (not verifier)
        else:
            self.verifier_only, self.neither = self.verifier_only + verifier, self.neither + (not verifier)

    @property
    def nodes(self) -> int:
        """Nodes with a verdict and a verifier's score."""
        return self.both + self.judge_only + self.verifier_only + self.neither

    @property
    def accuracy(self) -> float | None:
        """Share of nodes on which judge and verifier agree; None without nodes."""
        return (self.both + self.neither) / self.nodes if self.nodes else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960): agreement beyond that by chance, given the two rates of success; 1 at best.

        None where judge and verifier would agree on everything by chance: both say the same of all nodes.
        """
        if not self.nodes:
            return None
        judge, verifier = self.both + self.judge_only, self.both + self.verifier_only
        by_chance = judge * verifier + (self.nodes - judge) * (self.nodes - verifier)
        agreed = (self.both + self.neither) * self.nodes
        whole = self.nodes * self.nodes  # in whole numbers, so that "everything" is exact
        return None if by_chance == whole else (agreed - by_chance) / (whole - by_chance)


@dataclass(slots=True, kw_only=True)
class Calibration:
    """Agreement by depth (0: roots), and on leaves and nodes with sub-agents (delegators), which have different rubrics."""

    places: dict[tuple[int, bool], Agreement] = field(default_factory=dict)
    """Agreement by the depth of the nodes, and by whether they have sub-agents."""
    threshold: float = 0.5
    """A verifier's score of at least this is a success."""
    tally: Tally = field(default_factory=Tally)
    """Counts of the files that were read, if any were."""

    def add(self, node: Node, verdict: float | None, truth: float) -> None:
        """Count a node: the judge's verdict (None: it failed) and the verifier's score."""
        agreement = self.places.setdefault((node.depth, bool(node.children)), Agreement())
        if verdict is None:
            agreement.unjudged += 1
        else:
            agreement.add(judge=verdict >= 0.5, verifier=truth >= self.threshold)

    @property
    def leaves(self) -> Agreement:
        """Agreement on nodes without sub-agents."""
        return self._sum(lambda depth, delegates: not delegates)

    @property
    def delegators(self) -> Agreement:
        """Agreement on nodes with sub-agents."""
        return self._sum(lambda depth, delegates: delegates)

    @property
    def roots(self) -> Agreement:
        """Agreement on roots."""
        return self._sum(lambda depth, delegates: depth == 0)

    @property
    def sub_agents(self) -> Agreement:
        """Agreement on all nodes but the roots."""
        return self._sum(lambda depth, delegates: depth > 0)

    @property
    def depths(self) -> dict[int, Agreement]:
        """Agreement at each depth."""
        found: dict[int, Agreement] = {}
        for (depth, _), agreement in sorted(self.places.items()):
            found[depth] = found.get(depth, Agreement()) + agreement
        return found

    @property
    def all(self) -> Agreement:
        """Agreement on all nodes."""
        return self._sum(lambda depth, delegates: True)

    def _sum(self, chosen: Callable[[int, bool], bool]) -> Agreement:
        return sum((item for place, item in self.places.items() if chosen(*place)), Agreement())


async def calibrate(
    files: Iterable[Path],
    judge: Judge,
    *,
    threshold: float = 0.5,
    concurrency: int = 8,
    on_file: Callable[[], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Calibration:
    """Judge the nodes that a verifier has scored, and compare the two; the traces are not changed.

    A verifier's score of at least `threshold` is a success. Only nodes that finished are compared: the others fail by rule
    for both, which would flatter the judge. Raises ModelError as `Judge.assess` does.
    """
    complain = warn or (lambda line: None)
    result = Calibration(threshold=threshold)

    async def compare(path: Path, node: Node, truth: float) -> None:
        event = await judge.assess(node)
        result.add(node, event.score, truth)
        if event.score is None:
            complain(f"{path.name}, agent {node.id}: no verdict ({event.source})")

    async def handle(path: Path, tree: ExecutionTree) -> None:
        async with anyio.create_task_group() as group:
            for node in tree.nodes.values():
                if node.score is not None and node.finished and not is_verdict(node.score_source):
                    group.start_soon(compare, path, node, node.score)

    await visit(files, handle, result.tally, concurrency=concurrency, on_file=on_file, warn=complain)
    return result
