"""The gradient that credit stands for, on a policy small enough to know it exactly.

A root does its task alone, launches an agent for `a`, or one each for `a` and `b`; an agent for `b` guesses or launches
another one for `a`. So the same goal is met at two depths, and the number of nodes depends on what is done. What Eq. 5
estimates is a semi-gradient: each state's own policy moves, the distribution of states and what descendants do stay frozen.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest

from rao_rl.credit.assign import CreditConfig, assign
from recursive_agent.trace.tree import ExecutionTree

from .credit_trees import Agent, agent, grow

LOGITS = {"task": (0.2, -0.1, 0.4), "a": (-0.3, 0.5), "b": (0.6, 0.1)}
POLICY = {
    state: tuple(math.exp(logit) / sum(map(math.exp, logits)) for logit in logits) for state, logits in LOGITS.items()
}
ALONE = 0.3
"""Chance that a root which does its task alone succeeds."""
WAYS_TO_DO_A = (0.2, 0.9)
GUESS = 0.5
GROUPS, SIZE = 1500, 3

Gradient = dict[tuple[str, int], float]
"""By logit: state and action."""


def forest(rng: random.Random) -> list[ExecutionTree]:
    """Groups of rollouts of the policy; the `result` of a node is the action it took."""

    def act(state: str) -> int:
        return rng.choices(range(len(POLICY[state])), POLICY[state])[0]

    def coin(chance: float) -> float:
        return float(rng.random() < chance)

    def do_a() -> Agent:
        action = act("a")
        return agent(coin(WAYS_TO_DO_A[action]), goal="a", result=action)

    def do_b() -> Agent:
        action = act("b")
        children = (do_a(),) if action == 1 else ()
        return agent(children[0].score if children else coin(GUESS), *children, goal="b", result=action)

    def root() -> Agent:
        action = act("task")
        children = ((), (do_a,), (do_a, do_b))[action]
        made = [do() for do in children]
        score = sum(child.score or 0.0 for child in made) / len(made) if made else coin(ALONE)
        return agent(score, *made, goal="task", result=action)

    return [grow(root(), f"group {number}") for number in range(GROUPS) for _ in range(SIZE)]


@pytest.fixture(scope="module")
def trees() -> list[ExecutionTree]:
    return forest(random.Random("credit"))


def slope(state: str, values: tuple[float, ...]) -> Gradient:
    """∇ of Σ_a π(a) Q(a) by the logits of one state, Q held fixed."""
    policy = POLICY[state]
    mean = sum(chance * value for chance, value in zip(policy, values, strict=True))
    return {
        (state, action): chance * (value - mean)
        for action, (chance, value) in enumerate(zip(policy, values, strict=True))
    }


def combined(*parts: tuple[float, Gradient]) -> Gradient:
    total: Gradient = {}
    for factor, gradient in parts:
        for logit, value in gradient.items():
            total[logit] = total.get(logit, 0.0) + factor * value
    return total


def exact(*, bonus: float, sparse: bool) -> Gradient:
    """The semi-gradient of one rollout: over states, how often each is met times the slope of what it then earns."""
    (_, one, two), (_, delegate) = POLICY["task"], POLICY["b"]
    do_a = sum(chance * value for chance, value in zip(POLICY["a"], WAYS_TO_DO_A, strict=True))
    do_b = (1 - delegate) * GUESS + delegate * do_a
    if sparse:  # the root's mean of its children passes on half of what one of two did, all of what an only one did
        return combined(
            (1, slope("task", (ALONE, do_a, (do_a + do_b) / 2))),
            (one + two / 2 + two * delegate / 2, slope("a", WAYS_TO_DO_A)),
            (two / 2, slope("b", (GUESS, do_a))),
        )
    return combined(
        (1, slope("task", (ALONE, (1 + bonus) * do_a, (1 + bonus) * (do_a + do_b) / 2))),
        (one + two * (1 + delegate), slope("a", WAYS_TO_DO_A)),
        (two, slope("b", (GUESS, (1 + bonus) * do_a))),
    )


def estimated(trees: list[ExecutionTree], config: CreditConfig, **more: Any) -> tuple[Gradient, Gradient]:
    """Σ coefficient · ∇ log π of a group over its constant D = SIZE: mean over groups, and the standard error of it."""
    logits = [(state, action) for state, policy in POLICY.items() for action in range(len(policy))]
    groups: list[Gradient] = [dict.fromkeys(logits, 0.0) for _ in range(GROUPS)]
    for credit in assign(trees, config, **more).nodes:
        node = trees[credit.tree].nodes[credit.node]
        gradient = groups[credit.tree // SIZE]
        for action, chance in enumerate(POLICY[node.goal]):
            gradient[node.goal, action] += credit.coefficient * ((action == node.result) - chance) / SIZE
    mean = {logit: sum(gradient[logit] for gradient in groups) / GROUPS for logit in logits}
    error = {
        logit: math.sqrt(sum((gradient[logit] - mean[logit]) ** 2 for gradient in groups) / (GROUPS - 1) / GROUPS)
        for logit in logits
    }
    return mean, error


def distance(found: tuple[Gradient, Gradient], expected: Mapping[tuple[str, int], float]) -> float:
    """The largest deviation of any component, in standard errors."""
    mean, error = found
    assert mean.keys() == expected.keys()
    return max(abs(mean[logit] - expected[logit]) / error[logit] for logit in expected)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"baseline": "depth"},
        {"baseline": "goal"},
        {"delegation_bonus": 0.4},
        {"delegation_bonus": 0.4, "baseline": "root_success"},
        {"delegation_bonus": 0.4, "baseline": "goal"},
        {"reward": "root"},
    ],
)
def test_the_estimate_is_the_semi_gradient_on_average(trees: list[ExecutionTree], config: dict[str, Any]) -> None:
    expected = exact(bonus=config.get("delegation_bonus", 0.0), sparse="reward" in config)
    found = estimated(trees, CreditConfig(depth_weighting="none", **config))
    # Seven components: by chance, one is off by more than 3.5 errors in 300 such tests.
    assert distance(found, expected) < 3.5
    # A mean that included its own rollout would shrink this by a third, which must be far out of bounds.
    assert distance(found, {logit: 2 / 3 * value for logit, value in expected.items()}) > 7


def test_sub_sampling_leaves_the_gradient_as_it_is_on_average(trees: list[ExecutionTree]) -> None:
    config = CreditConfig(depth_weighting="none", max_nodes_per_depth=800)
    found = estimated(trees, config, rng=random.Random("nodes"))
    assert distance(found, exact(bonus=0.0, sparse=False)) < 3.5
