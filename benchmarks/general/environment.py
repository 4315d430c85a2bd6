"""The suite as an environment, so that everything which runs environments runs it: evaluation, recording, training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice, zip_longest
from typing import Any

from rao_rl.envs.base import Task
from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.tree import Node

from . import dev, held_out
from .case import KINDS, Case


class GeneralSession:
    """One attempt: fresh tools, and the check of what the root gave."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.tools: Sequence[Callable[..., Any]] = tuple(case.tools())

    async def score(self, node: Node) -> float | None:
        """1 or 0 for the root; what a sub-agent was asked is its parent's own idea, so it is not known."""
        if node.parent is not None:
            return None
        return float(node.finished and self._case.passes(node.result, len(node.children)))


class General:
    """The tasks, in turns of all kinds: the first nine are one of each. Nothing depends on the seed but the sampling."""

    name = "general"
    max_depth = 1
    splits = ("dev", "test")
    levels = KINDS

    def __init__(self) -> None:
        self._cases = {"dev": _in_turns(dev.cases()), "test": _in_turns(held_out.cases())}

    def cases(self, split: str) -> list[Case]:
        return self._cases[split]

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterable[Task]:
        chosen = (case for case in self._cases[split] if level in (None, case.kind))
        return [task_of(case, seed) for case in islice(chosen, limit)]

    def task(self, goal: str, seed: int = 0) -> Task:
        for case in (*self._cases["dev"], *self._cases["test"]):
            if case.goal == goal:
                return task_of(case, seed)
        raise ConfigurationError("this goal is not one of the general tasks")

    def session(self, task: Task) -> GeneralSession:
        return GeneralSession(task.data["case"])


def task_of(case: Case, seed: int) -> Task:
    """A case as the task of one attempt; the seed is part of its id."""
    return Task(
        id=f"{case.id}@{seed}",
        goal=case.goal,
        context=case.context,
        returns=case.returns,
        level=case.kind,
        data={"case": case},
    )


def _in_turns(cases: Sequence[Case]) -> list[Case]:
    by_kind = [[case for case in cases if case.kind == kind] for kind in KINDS]
    return [case for turn in zip_longest(*by_kind) for case in turn if case is not None]
