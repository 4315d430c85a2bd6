"""What the tests of generated environments share: their experts run by real agents in a real sandbox, and nodes to score."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

from rao_rl.envs import Environment, Mode, Task
from rao_rl.envs.generated import Generated
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import AttemptSettings, rollout
from recursive_agent import Status
from recursive_agent.repl import ProcessSandbox
from recursive_agent.trace.tree import ExecutionTree

SETTINGS = AttemptSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An agent that finished with `result`, as sessions score it."""

    goal: str
    result: Any
    id: str = "0"
    status: Status = Status.FINISHED


async def solved(environment: Generated, mode: Mode, tasks: list[Task]) -> list[ExecutionTree]:
    """The trees of the reference solver for these tasks."""
    model = ExpertModel(environment.expert, MINIMAL)
    trees = []
    async with ProcessSandbox() as sandbox:
        settings = AttemptSettings(mode=mode, sandbox=sandbox)
        for task in tasks:
            result = await rollout(environment, task, model, settings)
            assert result.status is Status.FINISHED, (task.id, result.reason)
            trees.append(result.tree)
    return trees


def longest(trees: list[ExecutionTree]) -> int:
    """Characters of the longest conversation of one agent."""
    return max(sum(len(message.content) for message in node.conversation()) for tree in trees for node in tree.walk())


def digest(environment: Environment) -> str:
    """A fingerprint of some tasks of every split: whatever changes in them changes it."""
    tasks = [task for split in environment.splits for task in islice(environment.tasks(split, seed=3), 6)]
    text = "\n".join(f"{task.id} {task.goal} {task.level} {dict(task.data)}" for task in tasks)
    return sha256(text.encode()).hexdigest()[:16]
