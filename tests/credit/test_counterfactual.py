"""Further children at a launch as a baseline (`baseline="counterfactual"`), by numbers worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rao_rl.credit import CreditConfig, advantages, assign, rewards
from rao_rl.credit.counterfactual import group_at, launch_of
from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree

from .credit_trees import Agent, agent, group, grow, unscored

CONFIG = CreditConfig(baseline="counterfactual")


def again(run: str, node: str, *roots: Agent) -> list[ExecutionTree]:
    return [grow(root, group_at(run, node), run=f"{run}/{node}/{number}") for number, root in enumerate(roots)]


def families() -> list[ExecutionTree]:
    """`g/0`: root s̃ 1, children s̃ 1 and 0. `g/1`: root s̃ 0, child s̃ 1."""
    return group(agent(1, agent(1), agent(0)), agent(0, agent(1)))


def test_a_launched_child_is_compared_with_the_mean_of_the_further_ones() -> None:
    pair = [rewards(tree)[0] for tree in families()]
    further = [{"0.1": [Fraction(1), Fraction(1, 2)]}, {}]
    # b of 0.1 is (1 + 1/2)/2; that of all others the other root: 0 in the first rollout, 1 in the second.
    assert advantages(pair, "counterfactual", further=further) == [[1, 1, Fraction(-3, 4)], [-1, 0]]


def test_further_children_come_from_their_trees_wherever_those_stand() -> None:
    first, second = families()
    extra = again("g/0", "0.1", agent(1, agent(0)), agent(0.5))
    other = again("g/1", "0.0", agent(1))
    credits = assign([extra[0], first, *other, second, extra[1]], CONFIG)
    # Of g/1, the child did as well as the further one: 1 − 1.
    assert [(credit.tree, credit.node, credit.advantage) for credit in credits.nodes] == [
        (1, "0", 1),
        (1, "0.0", 1),
        (1, "0.1", -0.75),
        (3, "0", -1),
        (3, "0.0", 0),
    ]
    assert credits.funnel.dropped == {"baseline_only": 4}
    assert credits.funnel.dropped_rollouts == {"baseline_only": 3}
    assert (credits.funnel.groups, credits.count, credits.rollouts) == (1, 5, 2)


def test_further_children_without_a_score_or_that_are_stale_do_not_count() -> None:
    trees = group(agent(1, agent(1, versions=("3",)), versions=("3",)), agent(0, versions=("3",)))
    trees += again("g/0", "0.0", agent(0, status=Status.INFRA_ERROR), unscored(), agent(0, versions=("1",)))
    config = CreditConfig(baseline="counterfactual", max_staleness=0)
    assert [credit.advantage for credit in assign(trees, config, version=3).nodes] == [1, 1, -1]
    trees += again("g/0", "0.0", agent(0.5, versions=("3",)))
    assert [credit.advantage for credit in assign(trees, config, version=3).nodes] == [1, 0.5, -1]


def test_the_reward_of_a_further_child_contains_its_own_bonus() -> None:
    config = CreditConfig(baseline="counterfactual", delegation_bonus=0.5)
    trees = group(agent(1, agent(1)), agent(0)) + again("g/0", "0.0", agent(0, agent(1)))
    # R of the child 1, of the further one 0 + 0.5·1.
    assert [credit.advantage for credit in assign(trees, config).nodes] == [1.5, 0.5, -1.5]


def test_other_baselines_leave_further_children_out() -> None:
    trees = families()
    both = assign([*trees, *again("g/0", "0.1", agent(1), agent(0))])
    assert both.nodes == assign(trees).nodes
    assert both.funnel.dropped == {"baseline_only": 2}


def test_the_name_of_a_group_says_which_launch_it_belongs_to() -> None:
    assert launch_of(group_at("run:7/a", "0.1.2")) == ("run:7/a", "0.1.2")
    assert launch_of("task 7") is launch_of(None) is None


def test_a_sparse_reward_cannot_be_compared_with_that_of_a_child() -> None:
    with pytest.raises(ConfigurationError, match="baseline=counterfactual compares children by their own reward"):
        CreditConfig(baseline="counterfactual", reward="root")
