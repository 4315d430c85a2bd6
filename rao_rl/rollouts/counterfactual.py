"""Which launches of finished trees get further children, and the attempts that these are (see `credit.counterfactual`)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.tree import ExecutionTree, Node

from ..credit.counterfactual import group_at
from ..envs.base import Environment, Restarting, Task
from .attempt import AttemptSettings, attempt_seed
from .many import PlannedAttempt


def check_restarting(environment: Environment) -> None:
    """Raises ConfigurationError for an environment whose sub-tasks cannot be attempted again."""
    if not isinstance(environment, Restarting):
        raise ConfigurationError(
            f"collect.counterfactual_children needs an environment with a method `subtask`, which {environment.name} does not "
            "have; see docs/extending.md"
        )


def further_attempts(
    environment: Environment,
    attempts: Sequence[tuple[PlannedAttempt, ExecutionTree]],
    *,
    children: int,
    launches: int,
    settings: AttemptSettings,
) -> list[PlannedAttempt]:
    """`children` further attempts at the sub-task of each of `launches` launches of every tree, or of all where it has fewer.

    Launches are chosen at random, from the seed of the attempt alone.
    """
    planned: list[PlannedAttempt] = []
    for plan, tree in attempts:
        for node, task in _chosen(environment, plan, tree, launches, settings):
            group = group_at(tree.run, node.id)
            planned += [
                PlannedAttempt(
                    task=task,
                    group=group,
                    seed=attempt_seed(plan.seed, f"{plan.group}/{node.id}", number),
                    model=plan.model,
                    max_depth=settings.depth(environment) - node.depth,
                )
                for number in range(children)
            ]
    return planned


def _chosen(
    environment: Environment, plan: PlannedAttempt, tree: ExecutionTree, most: int, settings: AttemptSettings
) -> Iterator[tuple[Node, Task]]:
    deepest = settings.depth(environment)
    nodes = sorted(
        (node for node in tree.nodes.values() if _is_open(node, deepest, settings)), key=lambda node: node.id
    )
    random.Random(f"counterfactual/{plan.seed}").shuffle(nodes)
    found = 0
    for node in nodes:
        if found == most or not isinstance(environment, Restarting):
            return
        if (task := environment.subtask(plan.task, tree, node)) is not None:
            # What the node was asked is what a further child is asked, whatever the environment makes of it.
            yield node, replace(task, goal=node.goal, context=node.context, returns=node.returns)
            found += 1


def _is_open(node: Node, deepest: int, settings: AttemptSettings) -> bool:
    """Whether a root would be in the node's situation: its limits are the run's, and it may launch agents itself.

    At the deepest level an agent is told that it cannot delegate any more, which a root is not.
    """
    own_limits = node.max_tokens is not None or node.max_steps not in (None, settings.limits.max_steps)
    return node.parent is not None and node.score is not None and node.depth < deepest and not own_limits
