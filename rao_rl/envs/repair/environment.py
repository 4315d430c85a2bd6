"""Repairing repositories as an `Environment`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Literal, get_args

from recursive_agent.errors import ConfigurationError

from ...errors import UnknownGoal
from ..base import About, Demonstration, Mode, Task
from ..generated import check_selection, one_of
from .experts import expert_for
from .families import SPLITS, Split
from .goals import Goal, parse_goal
from .repository import LEVELS, Repository, make_repository
from .sandboxed import Workshop
from .session import RepairSession

_SIZES = {"train": 256, "validation": 32, "test": 64}
"""Tasks of one level; more where `limit` asks for more."""
_OWN_LEVEL = "medium"
"""Size of the repository that goals from outside are about."""


class Repair:
    """Mend a repository of small Python functions: sub-agents find, explain, mend and test, each with a verifier of its own.

    `mode`: `single` withholds `launch_subagent` (`max_depth` 0). `sandbox` and `require` say where agents' functions are run
    by the tools and the verifiers, as for agents' own code. Raises ConfigurationError for any other value.
    """

    name = "repair"
    about = About(
        summary="find, explain, mend and test broken functions of a small Python repository",
        sizes=dict.fromkeys(SPLITS),
    )
    splits = SPLITS
    levels = tuple(LEVELS)

    def __init__(
        self,
        *,
        mode: Mode = "recursive",
        sandbox: str = "process",
        require: Literal["kernel", "none"] | None = None,
    ) -> None:
        one_of(self.name, "mode", mode, get_args(Mode))
        self.mode = mode
        self.max_depth = 2 if mode == "recursive" else 0
        self._workshop = Workshop(sandbox, require)

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The tasks of a split: of one level in order, or of all of them shuffled together.

        One level gives as many as `limit` asks for; every task has a repository of its own.
        """
        checked = check_selection(self.name, split, self.splits, level, self.levels, limit)
        if level is not None:
            order = [(level, index) for index in range(_SIZES[split] if limit is None else limit)]
        else:
            order = [(name, index) for name in LEVELS for index in range(_SIZES[split])]
            random.Random(f"order/{split}/{seed}").shuffle(order)
        return (self._task(checked, seed, name, index) for name, index in islice(order, limit))

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of any goal, in the test repository of `seed`.

        Raises UnknownGoal for a goal that breaks the grammar, and ConfigurationError for a function that is not there.
        """
        parsed = parse_goal(goal)
        if parsed is None:
            examples = f"{str(Goal('repair'))!r}, {str(Goal('mend', 'fold_clay'))!r}"
            raise UnknownGoal(f"a goal reads like {examples} (docs/environments/repair.md has all), not {goal!r}")
        place = f"own/{seed}"
        functions = make_repository("test", place, _OWN_LEVEL).functions
        for name in (parsed.name, parsed.test):
            if name is not None and name not in functions:
                raise ConfigurationError(
                    f"there is no function {name} in this repository; it has {', '.join(sorted(functions))}"
                )
        return Task(
            id=f"repair/own/{seed}/{goal}", goal=goal, data={"split": "test", "place": place, "level": _OWN_LEVEL}
        )

    def session(self, task: Task) -> RepairSession:
        """A fresh state for one attempt at `task`."""
        return RepairSession(self.repository(task), self._workshop)

    def repository(self, task: Task) -> Repository:
        """The repository of a task, reference and all."""
        return make_repository(task.data["split"], task.data["place"], task.data["level"])

    def demonstrations(self, seed: int = 0) -> Iterator[Demonstration]:
        """Training tasks of all levels, and the reference solver, which delegates where the mode allows it."""
        expert = expert_for(self.mode)
        return (Demonstration(task=task, expert=expert) for task in self.tasks("train", seed))

    def _task(self, split: Split, seed: int, level: str, index: int) -> Task:
        place = f"{seed}/{level}/{index}"
        repository = make_repository(split, place, level)
        return Task(
            id=f"repair/{split}/{place}",
            goal=str(Goal("repair", repository.tested)),
            level=level,
            data={"split": split, "place": place, "level": level},
        )
