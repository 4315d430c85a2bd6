"""Moving averages by depth (`baseline="ema_depth"`), by numbers worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rao_rl.credit import CreditConfig, advantages, assign, rewards
from rao_rl.credit.averages import moved
from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status

from .credit_trees import agent, group, grow, unscored

HALF = CreditConfig(baseline="ema_depth", ema_decay=0.5)


def test_an_advantage_is_the_reward_minus_the_average_of_its_depth() -> None:
    tree = grow(agent(1, agent(0, agent(1)), agent(0.5)))
    found = advantages([rewards(tree)[0]], "ema_depth", averages={0: 0.25, 1: 0.75})
    # In launch order 0, 0.0, 0.1, 0.0.0 or 0, 0.0, 0.0.0, 0.1: a depth without an average has 0.
    by_node = {one.node.id: a for one, a in zip(rewards(tree)[0], found[0], strict=True)}
    assert by_node == {"0": Fraction(3, 4), "0.0": Fraction(-3, 4), "0.1": Fraction(-1, 4), "0.0.0": 1}


def test_rewards_move_an_average_as_often_as_there_are_of_them() -> None:
    # One reward of 1 at 0.95: 0.95·0.2 + 0.05·1 = 0.24. Two with mean 1/2 at 1/2: 1/4·0.2 + 3/4·1/2 = 0.425.
    assert moved({0: 0.2}, {0: [Fraction(1)]}, 0.95) == {0: pytest.approx(0.24)}
    assert moved({0: 0.2, 3: 1.0}, {0: [Fraction(1), Fraction(0)], 1: [Fraction(1)], 2: []}, 0.5) == {
        0: pytest.approx(0.425),
        1: 0.5,
        3: 1.0,
    }


def test_a_batch_is_measured_against_the_averages_before_it_and_moves_them_afterwards() -> None:
    trees = [grow(agent(1, agent(0)), None), grow(agent(0.5, unscored()), None)]
    first = assign(trees, HALF)
    assert [credit.advantage for credit in first.nodes] == [1, 0, 0.5]
    # Depth 0: two rewards with mean 3/4, so 1/4·0 + 3/4·3/4; depth 1: one reward of 0.
    assert first.averages == {0: 0.5625, 1: 0}
    second = assign(trees, HALF, averages=first.averages)
    assert [credit.advantage for credit in second.nodes] == [0.4375, 0, -0.0625]
    assert second.averages == {0: 0.5625 / 4 + 0.5625, 1: 0}


def test_no_second_attempt_is_needed_and_groups_do_not_matter() -> None:
    apart = [grow(agent(1), "a", run="1"), grow(agent(0), "b", run="2")]
    together = group(agent(1), agent(0))
    found = [assign(trees, HALF, averages={0: 0.25}) for trees in (apart, together)]
    assert [[credit.advantage for credit in credits.nodes] for credits in found] == [[0.75, -0.25]] * 2
    assert found[0].averages == found[1].averages
    assert assign(apart).nodes == []


def test_attempts_that_ended_by_nobodys_doing_do_not_move_an_average() -> None:
    trees = [grow(agent(1), None), grow(agent(0, status=Status.INFRA_ERROR), None)]
    assert assign(trees, HALF).averages == {0: 0.5}


def test_other_baselines_leave_the_averages_alone() -> None:
    assert assign(group(agent(1), agent(0))).averages == {}


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_is_below_one(decay: float) -> None:
    with pytest.raises(ConfigurationError, match="ema_decay must be from 0 to below 1"):
        CreditConfig(baseline="ema_depth", ema_decay=decay)
