"""Recorded trees as the steps of a training run: `rao train traces/` with the RAO objective."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.trace.store import trace_files
from recursive_agent.trace.tree import ExecutionTree

from .batches import step_of
from .credit import CreditConfig
from .groups import group_of
from .loss import Normalize
from .samples import tree_rows
from .trainer import Step


@dataclass(frozen=True, slots=True)
class Recorded:
    """The groups of a folder of traces, by group id in order of appearance; `left_out` counts trees by reason."""

    groups: dict[str, list[ExecutionTree]]
    left_out: Counter[str]

    @property
    def trees(self) -> list[ExecutionTree]:
        """All of them."""
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
    no traces, files that cannot be read (another schema version, say), text without token ids, nothing scored, and no
    group of `min_group` trees.
    """
    groups: defaultdict[str, list[ExecutionTree]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for path in trace_paths(Path(place)):
        try:
            tree = ExecutionTree.load(path)
        except TraceError as error:
            raise ConfigurationError(str(error)) from error
        if not tree.complete:
            left_out["incomplete"] += 1
            continue
        tree_rows(tree)  # text-only traces are refused before anything is trained
        tree.group = group_of(tree)
        groups[tree.group].append(tree)
    recorded = Recorded(dict(groups), left_out)
    if not groups:
        raise ConfigurationError(f"{place} holds no whole run: all {left_out.total()} traces were cut off")
    if all(node.score_status is None for tree in recorded.trees for node in tree.nodes.values()):
        raise ConfigurationError(f"no agent in {place} has a score; give them one with `rao score {place}`")
    largest = max(len(group) for group in groups.values())
    if largest < min_group:
        raise ConfigurationError(
            f"the largest group in {place} has {largest} attempt{'s' * (largest > 1)} at its task, and {min_group} are "
            "needed to compare; record several attempts at each task"
        )
    return recorded


class OfflineSteps:
    """The steps of recorded groups: each epoch in a new order, `groups_per_step` groups a step, none twice in an epoch.

    A function of seed and step number alone, so a killed run goes on with the groups that would have come next. Raises
    ConfigurationError where no step teaches anything.
    """

    def __init__(
        self,
        recorded: Recorded,
        credit: CreditConfig,
        *,
        groups_per_step: int,
        seed: int,
        normalize: Normalize = "token",
        constant: float = 1.0,
    ) -> None:
        self.credit = credit
        self.seed = seed
        self.normalize: Normalize = normalize
        self.constant = constant
        self.groups_per_step = groups_per_step
        # A group that teaches nothing would make steps of different worth, and some of none.
        self.groups = [trees for trees in recorded.groups.values() if self._step(trees, 0).samples]
        if not self.groups:
            whole = self._step(recorded.trees, 0)
            reasons = {
                name.rpartition("/")[2]: int(count)
                for name, count in whole.metrics.items()
                if name.startswith("funnel/rollouts_dropped/")
            }
            told = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.items())
            raise ConfigurationError(f"the {len(recorded.trees)} runs teach nothing: {told or 'no sampled tokens'}")

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the groups."""
        return -(-len(self.groups) // self.groups_per_step)

    def steps(self, first: int) -> Iterator[Step]:
        """The steps from number `first` on, without end."""
        number = first
        while True:
            epoch, place = divmod(number, self.steps_per_epoch)
            order = list(self.groups)
            random.Random(f"groups/{self.seed}/{epoch}").shuffle(order)
            chosen = order[place * self.groups_per_step : (place + 1) * self.groups_per_step]
            yield self._step([tree for trees in chosen for tree in trees], number)
            number += 1

    def _step(self, trees: Sequence[ExecutionTree], number: int) -> Step:
        rng = random.Random(f"nodes/{self.seed}/{number}")
        return step_of(trees, self.credit, normalize=self.normalize, constant=self.constant, rng=rng)
