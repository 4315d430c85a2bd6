"""Rolling out batches for training: groups of trees on an environment's tasks, recorded, and never twice.

A batch is a function of its number: which tasks, and with which seeds. Its traces lie in a folder of its own, so a run that
was killed takes from there what had been recorded whole, and rolls out the rest.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from recursive_agent.errors import ConfigurationError, RaoError, TraceError
from recursive_agent.groups import the_cause
from recursive_agent.limits import Limits
from recursive_agent.model.base import Model
from recursive_agent.repl import Sandbox, make_sandbox
from recursive_agent.trace.store import trace_files
from recursive_agent.trace.tree import ExecutionTree

from .bounds import Count, Positive, Seed, Whole, check
from .envs.base import Environment, Task
from .rollout import ROLLOUT_LIMITS, Mode, attempt_seed, kept, rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """What is rolled out for each optimizer step: `num_generations` attempts at each of `tasks_per_step` tasks.

    At most `max_in_flight` trees run at a time, each for at most `timeout` seconds and `max_agents` agents; `timeout`
    ends a tree as `tree_timeout`, a failure of its root.
    """

    tasks_per_step: Count = 8
    num_generations: int = 8
    split: str = "train"
    difficulty: str | None = "medium"
    mode: Mode = "recursive"
    seed: Seed = 0
    max_in_flight: Count = 32
    timeout: Positive = 300.0
    max_agents: Count = 512
    max_steps: Count = 25
    max_depth: Whole | None = None
    """Deepest level of a tree; None: the environment's."""
    context_limit: Count | None = None
    max_completion_length: Count | None = None
    """Most tokens of one answer, where the policy's own setting is not to be used."""
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check(self)
        if self.num_generations < 2:
            raise ConfigurationError(
                "num_generations must be at least 2: an attempt is judged against the others at the same task"
            )
        if not 0 < self.temperature < math.inf:
            raise ConfigurationError(
                f"temperature must be more than 0 to have something to choose from, and finite, not {self.temperature}"
            )

    @property
    def sampling(self) -> dict[str, Any]:
        """How answers are drawn. Never truncated, which would bias ρ."""
        most = {} if self.max_completion_length is None else {"max_tokens": self.max_completion_length}
        return {"temperature": self.temperature, "top_p": 1.0, **most}

    @property
    def limits(self) -> Limits:
        """The limits of each tree."""
        return replace(ROLLOUT_LIMITS, max_agents=self.max_agents, max_steps=self.max_steps, timeout=self.timeout)

    def depth(self, environment: Environment) -> int:
        """Deepest level of its trees."""
        return environment.max_depth if self.max_depth is None else min(self.max_depth, environment.max_depth)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One attempt: the group it belongs to and its own seed."""

    task: Task
    group: str
    seed: int


@dataclass(slots=True)
class TreeBatch:
    """The trees of a batch, in the order of the attempts; `lost` counts attempts without one, by reason."""

    number: int
    trees: list[ExecutionTree]
    seconds: float
    recorded: int
    """Trees that had been recorded before, and were not rolled out again."""
    lost: Counter[str] = field(default_factory=Counter)


class Collector:
    """Rolls out batch after batch on one environment. `folder` holds a folder of traces for each batch.

    Raises ConfigurationError where the environment has no tasks of that kind.
    """

    def __init__(self, environment: Environment, model: Model, config: CollectConfig, folder: Path) -> None:
        self.environment = environment
        self.model = model
        self.config = config
        self.folder = folder
        self.tasks = list(environment.tasks(config.split, 0, difficulty=config.difficulty))
        if not self.tasks:
            raise ConfigurationError(
                f"the split {config.split!r} of {environment.name} has no tasks of difficulty {config.difficulty}"
            )

    def attempts(self, number: int) -> list[Wanted]:
        """The attempts of batch `number`. Every task comes once before any comes twice."""
        config = self.config
        places = range(number * config.tasks_per_step, (number + 1) * config.tasks_per_step)
        wanted = []
        for place in places:
            epoch, index = divmod(place, len(self.tasks))
            order = list(range(len(self.tasks)))
            random.Random(f"order/{config.seed}/{epoch}").shuffle(order)
            task = self.tasks[order[index]]
            group = f"{number:06d}/{place - places.start:03d}/{task.id}"
            wanted += [
                Wanted(task, group, attempt_seed(config.seed, group, member))
                for member in range(config.num_generations)
            ]
        return wanted

    async def batch(self, number: int, sandbox: Sandbox | None = None) -> TreeBatch:
        """The trees of batch `number`, each scored; what `folder` holds of it already is taken from there."""
        begun = time.monotonic()
        folder = self.folder / f"{number:06d}"
        wanted = self.attempts(number)
        recorded = read_recorded(folder)
        trees = {place: tree for place, item in enumerate(wanted) if (tree := recorded.get((item.group, item.seed)))}
        batch = TreeBatch(number, [], 0.0, len(trees))
        todo = [(place, item) for place, item in enumerate(wanted) if place not in trees]
        if todo:
            if sandbox is None:
                async with make_sandbox("process") as own:
                    await self._roll(todo, folder, own, trees, batch.lost)
            else:
                await self._roll(todo, folder, sandbox, trees, batch.lost)
        batch.trees = [trees[place] for place in sorted(trees)]
        batch.seconds = time.monotonic() - begun
        return batch

    async def _roll(
        self,
        todo: Sequence[tuple[int, Wanted]],
        folder: Path,
        sandbox: Sandbox,
        trees: dict[int, ExecutionTree],
        lost: Counter[str],
    ) -> None:
        limiter = anyio.CapacityLimiter(self.config.max_in_flight)
        settings: dict[str, Any] = {
            "mode": self.config.mode,
            "limits": self.config.limits,
            "max_depth": self.config.depth(self.environment),
            "context_limit": self.config.context_limit,
            "sampling": self.config.sampling,
            "sandbox": sandbox,
            "trace_dir": folder,
        }

        async def one(place: int, item: Wanted) -> None:
            async with limiter:
                tree = await self._attempt(item, settings, lost)
                if tree is not None:
                    trees[place] = tree

        try:
            async with anyio.create_task_group() as group:
                for place, item in todo:
                    group.start_soon(one, place, item)
        except BaseExceptionGroup as wrapped:
            raise the_cause(wrapped) from None

    async def _attempt(self, item: Wanted, settings: Mapping[str, Any], lost: Counter[str]) -> ExecutionTree | None:
        try:
            result = await rollout(
                self.environment, item.task, self.model, seed=item.seed, group=item.group, **settings
            )
        except RaoError as error:
            result = kept(error)
        if not result.tree.complete:
            lost["incomplete"] += 1
            return None
        return result.tree


def read_recorded(folder: Path) -> dict[tuple[str, int], ExecutionTree]:
    """The whole trees of a folder by group and seed. Those that were cut off are left out: they are rolled out again."""
    found: dict[tuple[str, int], ExecutionTree] = {}
    for path in trace_files(folder) if folder.is_dir() else []:
        try:
            tree = ExecutionTree.load(path)
        except TraceError:  # the file of a process that died before its first event was whole
            continue
        if tree.complete and tree.group is not None and tree.seed is not None and tree.root.score_status is not None:
            found[tree.group, tree.seed] = tree
    return found
