"""Rollouts for online training: groups of attempts at an environment's tasks, recorded, none of them twice.

The plan is a sequence of groups: the place of a group determines its task and seeds. Each `tasks_per_step` groups in the order
of the plan share a folder of traces, so a run that was killed reads the whole traces from there and rolls out only the others.
Which groups a step trains on is decided by the queue (`flow.py`).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model
from recursive_agent.repl import Sandbox, make_sandbox
from recursive_agent.sizes import rare_collections
from recursive_agent.trace.tree import ExecutionTree

from ..bounds import Count, Few, Positive, Seed, Whole, check
from ..credit.assign import tree_version
from ..credit.counterfactual import launch_of
from ..envs.base import Environment, Mode
from ..scoring.attempts import AttemptJudge
from .attempt import ROLLOUT_LIMITS, AttemptRunner, AttemptSettings, attempt_seed
from .choice import Order
from .counterfactual import check_restarting, further_attempts
from .failures import FailuresInARow, is_lost
from .flow import Flow, Outcome, Taken, flowing
from .many import PlannedAttempt, run_attempt
from .recorded import recorded_attempts

_MOST = 1_000_000
"""Attempts of an optimizer step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """The rollouts of one optimizer step: `num_generations` attempts at each of `tasks_per_step` tasks."""

    tasks_per_step: Few = 8
    num_generations: Count = 8
    split: str = "train"
    level: str | None = "medium"
    """Levels of the tasks, separated by commas; None: all levels of the environment."""
    mode: Mode = "recursive"
    seed: Seed = 0
    max_in_flight: Count = 32
    """Most trees at a time in the whole run: those of later steps, and of evaluations, included."""
    max_failures: Count = 16
    """Attempts in a row that may fail because the endpoint or the sandbox does, before the run ends."""
    timeout: Positive = 300.0
    """Seconds of one tree; then it ends as `tree_timeout`, which is a failure of its root."""
    max_agents: Count = 512
    """Most agents of one tree."""
    max_steps: Count = 25
    """Most steps of one agent."""
    max_depth: Whole | None = None
    """Deepest level of sub-agents; None: the environment's."""
    context_limit: Count | None = None
    """Most tokens of one agent's conversation; None: the policy's window."""
    max_completion_length: Count | None = None
    """Most tokens of one answer; None: the setting saved with the policy."""
    temperature: float = 1.0
    counterfactual_children: Whole = 0
    """Further children at each chosen launch, for `credit.baseline=counterfactual`."""
    counterfactual_launches: Count = 1
    """Launches of each tree that are chosen for it."""

    def __post_init__(self) -> None:
        check(self)
        if self.num_generations * self.tasks_per_step > _MOST:
            raise ConfigurationError(
                f"num_generations times tasks_per_step must be at most {_MOST:,} attempts, not "
                f"{self.num_generations * self.tasks_per_step:,}"
            )
        if not 0 < self.temperature < math.inf:
            raise ConfigurationError(
                f"temperature must be more than 0, so that attempts differ, and finite, not {self.temperature}"
            )

    @property
    def sampling(self) -> dict[str, Any]:
        """Sampling settings. Sampling is never truncated, which would bias the importance ratio ρ."""
        most = {} if self.max_completion_length is None else {"max_tokens": self.max_completion_length}
        return {"temperature": self.temperature, "top_p": 1.0, **most}


def attempt_settings(config: CollectConfig, environment: Environment) -> AttemptSettings:
    """How the attempts at tasks of `environment` are made."""
    return AttemptSettings(
        mode=config.mode,
        limits=replace(
            ROLLOUT_LIMITS, max_agents=config.max_agents, max_steps=config.max_steps, timeout=config.timeout
        ),
        max_depth=None if config.max_depth is None else min(config.max_depth, environment.max_depth),
        context_limit=config.context_limit,
        sampling=config.sampling,
        concurrency=config.max_in_flight,
    )


@dataclass(slots=True)
class TreeBatch:
    """The trees of a step's groups, in the order of the plan; `lost` counts the attempts that gave no tree, by reason."""

    number: int
    """How many batches were taken before it."""
    trees: list[ExecutionTree]
    seconds: float
    """From the begin of its first group to the end of its last one."""
    recorded: int
    """Trees that were recorded already and so were not rolled out again."""
    lost: Counter[str] = field(default_factory=Counter)
    """Reasons: `incomplete` (no whole tree came of it), `no_answer` (its time passed without an answer of the model)."""

    @classmethod
    def of(cls, number: int, taken: Taken) -> TreeBatch:
        """The trees of these groups: those of the attempts, then those of further attempts."""
        groups = taken.groups
        attempts = [attempt for group in groups for attempt in group.attempts]
        ended = [*attempts, *(further for attempt in attempts for further in attempt.further)]
        outcomes = [attempt.outcome for attempt in ended if attempt.outcome is not None]
        seconds = max(group.ended for group in groups) - min(group.begun for group in groups)
        return cls(
            number,
            [outcome.tree for outcome in outcomes if outcome.tree is not None],
            seconds,
            sum(attempt.recorded for attempt in ended),
            Counter(outcome.lost for outcome in outcomes if outcome.lost),
        )


class Collector:
    """Rolls out group after group on one environment. `folder` holds a folder of traces for each `tasks_per_step` groups.

    `judge` scores the agents whose score the environment does not know; it may be set later.

    Raises ConfigurationError if the environment does not have the split or the level, or has no tasks of it.
    """

    def __init__(
        self,
        environment: Environment,
        model: Model,
        config: CollectConfig,
        folder: Path,
        *,
        judge: AttemptJudge | None = None,
    ) -> None:
        self.environment = environment
        self.model = model
        self.config = config
        self.folder = folder
        self.judge = judge
        self.runner: AttemptRunner | None = None
        """Where attempts run if not in this process; may be set later, as the judge."""
        if config.counterfactual_children:
            check_restarting(environment)
        self.places = anyio.CapacityLimiter(config.max_in_flight)
        """Places of the trees of the run, of which each takes one."""
        self.failures = FailuresInARow(config.max_failures)
        if config.split not in environment.splits:
            raise ConfigurationError(
                f"{environment.name} has no split {config.split!r}; set collect.split to one of {', '.join(environment.splits)}"
            )
        levels = [None] if config.level is None else list(dict.fromkeys(map(str.strip, config.level.split(","))))
        known = all(level is None or level in environment.levels for level in levels)
        tasks = (task for level in levels for task in environment.tasks(config.split, 0, level=level))
        self.tasks = list(tasks) if known else []
        if not self.tasks:
            raise ConfigurationError(
                f"the split {config.split!r} of {environment.name} has no tasks of level {config.level}; its levels are "
                f"{', '.join(environment.levels)} (set collect.level)"
            )

    def group(self, place: int) -> list[PlannedAttempt]:
        """The attempts of the group at a place of the plan. Every task comes once before any comes twice."""
        config = self.config
        epoch, index = divmod(place, len(self.tasks))
        order = list(range(len(self.tasks)))
        random.Random(f"order/{config.seed}/{epoch}").shuffle(order)
        task = self.tasks[order[index]]
        folder, number = divmod(place, config.tasks_per_step)
        group = f"{folder:06d}/{number:03d}/{task.id}"
        return [
            PlannedAttempt(task=task, group=group, seed=attempt_seed(config.seed, group, attempt))
            for attempt in range(config.num_generations)
        ]

    def attempts(self, number: int) -> list[PlannedAttempt]:
        """The attempts of the groups that share folder `number`."""
        size = self.config.tasks_per_step
        return [plan for place in range(number * size, (number + 1) * size) for plan in self.group(place)]

    @asynccontextmanager
    async def flow(
        self,
        sandbox: str | Sandbox,
        *,
        staleness: int = 0,
        order: Order = "completed",
        first: int = 0,
        used: Collection[int] = (),
    ) -> AsyncIterator[Flow]:
        """The queue of the groups from place `first` on, without those in `used`; see `flowing`.

        `Flow.take` raises RolloutsFailed after `config.max_failures` failed attempts in a row, counted over all groups, and
        ModelError if the sampler or the judge fails every call. `sandbox` is open, and stays open; a `runner` has its own, and
        does not use it.
        """
        opened = flowing(
            _Rollouts(self, sandbox),
            size=self.config.tasks_per_step,
            limit=self.config.max_in_flight,
            staleness=staleness,
            order=order,
            first=first,
            used=used,
        )
        with rare_collections():
            async with opened as flow:
                yield flow

    async def batch(self, number: int, sandbox: Sandbox | None = None) -> TreeBatch:
        """The scored trees of the groups that share folder `number`. Those that it holds already are not rolled out again.

        `sandbox` is one that is open already; None: one is opened for this batch. Raises what `Flow.take` raises.
        """
        async with nullcontext(sandbox) if sandbox is not None else make_sandbox("process") as opened:
            async with self.flow(opened, first=number * self.config.tasks_per_step) as flow:
                return TreeBatch.of(number, await flow.take())


class _Rollouts:
    """The attempts of a collector in a sandbox, for the queue."""

    def __init__(self, collector: Collector, sandbox: str | Sandbox) -> None:
        self._collector = collector
        self._settings = replace(
            attempt_settings(collector.config, collector.environment),
            sandbox=sandbox,
            places=collector.places,
            judge=collector.judge,
            runner=collector.runner,
        )
        self._read: dict[Path, dict[tuple[str, int], ExecutionTree]] = {}
        """Of each folder, the trees that nobody has asked for yet."""

    def planned(self, place: int) -> list[PlannedAttempt]:
        return self._collector.group(place)

    def recorded(self, place: int, plan: PlannedAttempt) -> Outcome | None:
        folder = self._folder(place)
        if folder not in self._read:  # once: trees that are recorded from now on are those of this queue
            self._read[folder] = read_recorded(folder)
        tree = self._read[folder].pop(plan.key, None)
        return None if tree is None else self._outcome(place, plan, tree)

    async def attempt(self, place: int, plan: PlannedAttempt) -> Outcome:
        collector = self._collector
        settings = replace(self._settings, trace_dir=self._folder(place))
        tree = (await run_attempt(collector.environment, plan, collector.model, settings)).tree
        if launch_of(plan.group) is None:
            collector.failures.add(tree)
        return self._outcome(place, plan, tree)

    def _folder(self, place: int) -> Path:
        return self._collector.folder / f"{place // self._collector.config.tasks_per_step:06d}"

    def _outcome(self, place: int, plan: PlannedAttempt, tree: ExecutionTree) -> Outcome:
        further = launch_of(plan.group) is not None
        if not tree.complete:
            return Outcome(lost="incomplete")
        if not further and is_lost(tree) and not tree.root.status.external:
            return Outcome(lost="no_answer")
        config = self._collector.config
        return Outcome(
            tree=tree,
            tokens=tree.usage.completion_tokens,
            seconds=tree.duration,
            version=tree_version(tree),
            further=()
            if further or not config.counterfactual_children
            else further_attempts(
                self._collector.environment,
                [(plan, tree)],
                children=config.counterfactual_children,
                launches=config.counterfactual_launches,
                settings=replace(self._settings, trace_dir=self._folder(place)),
            ),
        )


def read_recorded(folder: Path) -> dict[tuple[str, int], ExecutionTree]:
    """The whole trees of a folder by group and seed. Those that were cut off, or that the endpoint failed, are left out: they
    are rolled out again."""
    return {key: tree for key, _, tree in recorded_attempts(folder)}
