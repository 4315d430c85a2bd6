"""Recorded trees as the steps of a training run: `rao train traces/` with the RAO objective."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ..config import CreditConfig
from ..credit.normalization import BY_TOKEN, Normalization
from ..data.folder import Recorded
from ..data.rows import TreeRows
from ..errors import DataError
from .steps import step_of
from .trainer import Step

_KINDS = {"rollouts": ("run", "runs"), "nodes": ("agent", "agents")}


class OfflineSteps:
    """The steps of recorded groups: each epoch in a new order, `groups_per_step` groups a step, none twice in an epoch.

    A function of seed and step number alone, so a killed run continues with the groups that would have come next. At a step
    in `redrawn`, at which the run has diverged before, other groups of the whole set are taken instead, at random; the same
    ones only where there are no others. Raises DataError where no step teaches anything.
    """

    def __init__(
        self,
        recorded: Recorded,
        credit: CreditConfig,
        *,
        groups_per_step: int,
        seed: int,
        normalization: Normalization = BY_TOKEN,
    ) -> None:
        self.credit = credit
        self.seed = seed
        self.normalization = normalization
        self.groups_per_step = groups_per_step
        self.number = 0
        """Number of the step that was asked for last."""
        self.redrawn: Mapping[int, int] = {}
        """How often the run has diverged at each step."""
        # A group that teaches nothing would make steps of different worth, and some of none.
        self._all = len(recorded.groups)
        self._dropped: Counter[str] = Counter()
        self.groups: list[list[TreeRows]] = []
        for trees in recorded.groups.values():
            step = self._step(trees, 0)
            if step.samples:
                self.groups.append(trees)
            for name, count in step.metrics.items():
                if "_dropped/" in name:
                    self._dropped[name.removeprefix("funnel/").replace("_dropped/", " ")] += int(count)
        if not self.groups:
            whole = self._step(recorded.rows, 0)
            reasons = {
                name.rpartition("/")[2]: int(count)
                for name, count in whole.metrics.items()
                if name.startswith("funnel/rollouts_dropped/")
            }
            if set(reasons) == {"zero_advantage"}:
                raise DataError(
                    "nothing to train on: within each group every attempt got the same score; record more varied attempts "
                    "(higher temperature, harder tasks)"
                )
            agents = {
                name.rpartition("/")[2]: int(count)
                for name, count in whole.metrics.items()
                if name.startswith("funnel/nodes_dropped/")
            }
            if "too_long" in agents and credit.max_length is not None:
                raise DataError(
                    f"nothing to train on: the conversations of {agents['too_long']:,} agents are longer than the "
                    f"{credit.max_length:,} tokens that the model has positions for (or credit.max_length allows); record runs "
                    "with a smaller context limit"
                )
            listed = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in (reasons or agents).items())
            raise DataError(f"nothing to train on in the {len(recorded.trees)} runs: {listed or 'no sampled tokens'}")

    def left_out(self) -> str | None:
        """A sentence about what is not trained of the runs, and why; None where everything is."""
        if not self._dropped:
            return None
        listed = ", ".join(
            f"{count:,} {_KINDS[kind][count != 1]} ({reason.replace('_', ' ')})"
            for (kind, _, reason), count in ((name.partition(" "), count) for name, count in self._dropped.items())
        )
        return f"training on {len(self.groups):,} of {self._all:,} groups; left out: {listed}"

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the groups."""
        return -(-len(self.groups) // self.groups_per_step)

    def steps(self, first: int) -> Iterator[Step]:
        """The steps from number `first` on, without end."""
        averages: Mapping[int, float] = {}
        if self.credit.baseline == "ema_depth":  # which depends on the steps before
            for step in itertools.islice(self.steps(0), first):
                averages = step.averages
        number = first
        while True:
            epoch, place = divmod(number, self.steps_per_epoch)
            order = list(self.groups)
            random.Random(f"groups/{self.seed}/{epoch}").shuffle(order)
            chosen = order[place * self.groups_per_step : (place + 1) * self.groups_per_step]
            if times := self.redrawn.get(number, 0):
                others = [group for group in self.groups if not any(group is one for one in chosen)]
                rng = random.Random(f"redrawn/{self.seed}/{number}/{times}")
                chosen = rng.sample(others, min(len(others), len(chosen))) or chosen
            self.number = number
            step = self._step([tree for trees in chosen for tree in trees], number, averages)
            averages = step.averages
            yield step
            number += 1

    def _step(self, trees: Sequence[TreeRows], number: int, averages: Mapping[int, float] = {}) -> Step:
        rng = random.Random(f"nodes/{self.seed}/{number}")
        return step_of(trees, self.credit, normalization=self.normalization, rng=rng, update=number, averages=averages)
