"""Shaping rewards (PARL), by numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from rao_rl.credit import CreditConfig, assign, rewards
from rao_rl.credit.shaping import Shaping, annealed, r_finish, r_parallel
from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree

from .credit_trees import agent, group, grow


def delegated() -> ExecutionTree:
    """A root with four children: two ran together, then one alone, then one alone that ran out of steps; s̃ 1, 0, 1, 0."""
    tree = grow(agent(1, agent(1), agent(0), agent(1), agent(0, status=Status.STEP_LIMIT)))
    for child, (start, end) in zip(tree.root.children, [(0, 2), (1, 3), (3, 4), (4, 5)], strict=True):
        child.started, child.ended = float(start), float(end)
    return tree


def test_the_two_shares_by_hand() -> None:
    root = delegated().root
    assert [r_parallel(root), r_finish(root)] == [Fraction(1, 2), Fraction(3, 4)]
    assert [r_parallel(root.children[0]), r_finish(root.children[0])] == [0, 0]


def test_shaping_is_added_to_the_reward_of_those_that_delegate() -> None:
    # R of the root: 1 + 0.4·(1/2) of the delegation bonus + 0.5·1/2 + 0.2·3/4 = 1.6.
    earned, _ = rewards(delegated(), bonus=0.4, shaping=Shaping(Fraction(1, 2), Fraction(1, 5)))
    assert [float(one.reward) for one in earned] == pytest.approx([1.6, 1, 0, 1, 0])


def test_both_bonuses_fall_to_nothing_in_the_updates_that_were_set() -> None:
    assert annealed(0.5, 0.25, 0, 4) == Shaping(Fraction(1, 2), Fraction(1, 4))
    assert annealed(0.5, 0.25, 1, 4) == Shaping(Fraction(3, 8), Fraction(3, 16))
    assert annealed(0.5, 0.25, 4, 4) == annealed(0.5, 0.25, 1000, 4) == Shaping()


@pytest.mark.parametrize(("update", "advantage"), [(0, 1.5), (2, 1.25), (4, 1.0), (9, 1.0)])
def test_credit_is_shaped_less_at_each_update(update: int, advantage: float) -> None:
    config = CreditConfig(finish_bonus=0.5, shaping_updates=4)
    credits = assign(group(agent(1, agent(1)), agent(0)), config, update=update)
    assert [credit.advantage for credit in credits.nodes] == pytest.approx([advantage, 1.0, -advantage])


def test_the_sparse_reward_is_the_shaped_reward_of_the_root() -> None:
    config = CreditConfig(reward="root", finish_bonus=0.5)
    credits = assign(group(agent(1, agent(0, agent(1))), agent(0)), config)
    assert [credit.reward for credit in credits.nodes] == [1.5, 1.5, 1.5, 0]


@pytest.mark.parametrize("name", ["parallel_bonus", "finish_bonus"])
def test_a_bonus_is_no_fine(name: str) -> None:
    changed: dict[str, Any] = {name: -0.1}
    with pytest.raises(ConfigurationError, match=f"{name} must be a number from 0 on"):
        replace(CreditConfig(), **changed)
