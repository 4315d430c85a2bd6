"""Batches of rollouts for online training: groups of attempts at an environment's tasks, recorded, none of them twice.

The number of a batch determines its tasks and seeds. Each batch has its own folder of traces, so a run that was killed reads
the whole traces from there and rolls out only the others.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from recursive_agent import Result
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model
from recursive_agent.repl import Sandbox
from recursive_agent.trace.tree import ExecutionTree

from ..bounds import Count, Few, Positive, Seed, Whole, check
from ..envs.base import Environment, Mode
from ..scoring.attempts import AttemptJudge
from .attempt import ROLLOUT_LIMITS, AttemptSettings, attempt_seed
from .counterfactual import check_restarting, further_attempts
from .failures import FailuresInARow, is_lost
from .many import PlannedAttempt, run_attempts
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
    """Most trees at a time in the whole run: those of batches that are rolled out ahead, and of evaluations, included."""
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
    """The trees of a batch, in the order of the attempts; `lost` counts the attempts that gave no tree, by reason."""

    number: int
    trees: list[ExecutionTree]
    seconds: float
    recorded: int
    """Trees that were recorded already and so were not rolled out again."""
    lost: Counter[str] = field(default_factory=Counter)
    """Reasons: `incomplete` (no whole tree came of it), `no_answer` (its time passed without an answer of the model)."""


class Collector:
    """Rolls out batch after batch on one environment. `folder` holds a folder of traces for each batch.

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

    def attempts(self, number: int) -> list[PlannedAttempt]:
        """The attempts of batch `number`. Every task comes once before any comes twice."""
        config = self.config
        places = range(number * config.tasks_per_step, (number + 1) * config.tasks_per_step)
        planned = []
        for place in places:
            epoch, index = divmod(place, len(self.tasks))
            order = list(range(len(self.tasks)))
            random.Random(f"order/{config.seed}/{epoch}").shuffle(order)
            task = self.tasks[order[index]]
            group = f"{number:06d}/{place - places.start:03d}/{task.id}"
            planned += [
                PlannedAttempt(task=task, group=group, seed=attempt_seed(config.seed, group, attempt))
                for attempt in range(config.num_generations)
            ]
        return planned

    async def batch(self, number: int, sandbox: Sandbox | None = None) -> TreeBatch:
        """The trees of batch `number`, each scored. Those that `folder` holds already are not rolled out again.

        `sandbox` is one that is open already; None: one is opened for this batch. Raises RolloutsFailed after
        `config.max_failures` failed attempts in a row, counted over all batches, and ModelError if the judge fails every call.
        """
        begun = time.monotonic()
        folder = self.folder / f"{number:06d}"
        planned = self.attempts(number)
        recorded = read_recorded(folder)
        trees = {place: tree for place, plan in enumerate(planned) if (tree := recorded.get(plan.key))}
        batch = TreeBatch(number, [], 0.0, len(trees))
        missing = [place for place in range(len(planned)) if place not in trees]
        settings = replace(
            attempt_settings(self.config, self.environment),
            trace_dir=folder,
            sandbox=sandbox or "process",
            places=self.places,
            judge=self.judge,
        )
        rolled_out = await run_attempts(
            self.environment, [planned[place] for place in missing], self.model, settings, self._ended
        )
        for place, tree in zip(missing, rolled_out, strict=True):
            if not tree.complete:
                batch.lost["incomplete"] += 1
            elif is_lost(tree) and not tree.root.status.external:
                batch.lost["no_answer"] += 1
            else:
                trees[place] = tree
        batch.trees = [trees[place] for place in sorted(trees)]
        if self.config.counterfactual_children:
            batch.trees += await self._further(
                [(planned[place], trees[place]) for place in sorted(trees)], settings, batch
            )
        batch.seconds = time.monotonic() - begun
        return batch

    async def _further(
        self, attempts: Sequence[tuple[PlannedAttempt, ExecutionTree]], settings: AttemptSettings, batch: TreeBatch
    ) -> list[ExecutionTree]:
        """The trees of further children at launches of these attempts; those that `folder` holds are not rolled out again."""
        planned = further_attempts(
            self.environment,
            attempts,
            children=self.config.counterfactual_children,
            launches=self.config.counterfactual_launches,
            settings=settings,
        )
        recorded = read_recorded(self.folder / f"{batch.number:06d}")
        rolled_out = await run_attempts(
            self.environment,
            [plan for plan in planned if plan.key not in recorded],
            self.model,
            settings,
            lambda plan, result: (plan.key, result.tree),
        )
        batch.recorded += sum(plan.key in recorded for plan in planned)
        batch.lost["incomplete"] += sum(not tree.complete for _, tree in rolled_out)
        trees = {**recorded, **{key: tree for key, tree in rolled_out if tree.complete}}
        return [trees[plan.key] for plan in planned if plan.key in trees]

    def _ended(self, plan: PlannedAttempt, result: Result) -> ExecutionTree:
        self.failures.add(result.tree)
        return result.tree


def read_recorded(folder: Path) -> dict[tuple[str, int], ExecutionTree]:
    """The whole trees of a folder by group and seed. Those that were cut off, or that the endpoint failed, are left out: they
    are rolled out again."""
    return {key: tree for key, _, tree in recorded_attempts(folder)}
