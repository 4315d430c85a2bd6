"""Each baseline by numbers worked out by hand, on one group; and the one place where they are registered."""

from fractions import Fraction
from typing import get_args

import pytest

from rao_rl.credit import Baseline, baselines, rewards
from rao_rl.credit.rewards import Earned

from .credit_trees import agent, group


def earned() -> list[list[Earned]]:
    """Three rollouts at λ = 1/2; R in brackets.

    a: root s̃ 1 [1 + 1/2·(1 + 0)/2 = 5/4], children s̃ 1 [1] and s̃ 0 [0]
    b: root s̃ 0 [0 + 1/2·1 = 1/2], child s̃ 1 [1]
    c: root s̃ 1 [1], alone
    """
    trees = group(agent(1, agent(1, goal="x"), agent(0, goal="y")), agent(0, agent(1, goal="x")), agent(1))
    return [rewards(tree, bonus=0.5)[0] for tree in trees]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Means of the other roots' rewards: (1/2 + 1)/2, (5/4 + 1)/2, (5/4 + 1/2)/2.
        ("root", [["3/4"] * 3, ["9/8"] * 2, ["7/8"]]),
        # Of the other roots' successes: (0 + 1)/2, (1 + 1)/2, (1 + 0)/2.
        ("root_success", [["1/2"] * 3, ["1"] * 2, ["1/2"]]),
        # Children: the one of b for those of a; the mean of a's two for b's.
        ("depth", [["3/4", "1", "1"], ["9/8", "1/2"], ["7/8"]]),
        # x of a against x of b, and the other way round; y has no like in another rollout: its depth.
        ("goal", [["3/4", "1", "1"], ["9/8", "1"], ["7/8"]]),
    ],
)
def test_each_baseline_by_hand(kind: Baseline, expected: list[list[str]]) -> None:
    assert baselines(earned(), kind) == [[Fraction(value) for value in rollout] for rollout in expected]


@pytest.mark.parametrize("kind", get_args(Baseline))
def test_a_depth_that_no_other_rollout_has_falls_back_and_one_rollout_is_refused(kind: Baseline) -> None:
    trees = group(agent(1, agent(1, agent(0))), agent(0))
    pair = [rewards(tree)[0] for tree in trees]
    assert baselines(pair, kind) == [[0, 0, 0], [1]]
    with pytest.raises(ValueError, match="two rollouts"):
        baselines(pair[:1], kind)
