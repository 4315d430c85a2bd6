"""Each baseline and scheme by numbers worked out by hand, on one group; and the one place where they are registered."""

from fractions import Fraction

import pytest

from rao_rl.credit import Baseline, advantages, baselines, rewards
from rao_rl.credit.baselines import BASELINES, form
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


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("root", [["1/2", "1/4", "-3/4"], ["-5/8", "-1/8"], ["1/8"]]),
        # μ = (5/4 + 1/2 + 1)/3 = 11/12; (5/4 − 11/12)/(11/12) = 4/11.
        ("max_rl", [["4/11", "1/11", "-1"], ["-5/11", "1/11"], ["1/11"]]),
        # A of the roots: 5/4 − 3/4, 1/2 − 9/8, 1 − 7/8.
        ("inherit", [["1/2"] * 3, ["-5/8"] * 2, ["1/8"]]),
    ],
)
def test_each_scheme_by_hand(kind: Baseline, expected: list[list[str]]) -> None:
    assert advantages(earned(), kind) == [[Fraction(value) for value in rollout] for rollout in expected]


def test_siblings_with_goals_of_the_same_form_are_compared_by_hand() -> None:
    # Of a, three children craft: they earn 0, 1/2 and 1. The others have no like: the mean of the other roots, 0 (b: 1).
    trees = group(
        agent(
            1,
            agent(1, goal="Craft the following items: 2x oak_plank", returns={"type": "string"}),
            agent(0, agent(1, goal="Craft the following items: 1x stick"), goal="craft the following items: 7x gear"),
            agent(0.5, goal=" Craft  the following items: 7x gear, 1x stick"),
            agent(0, goal="Find the count of lines 3 to 9"),
            agent(1, goal="Craft the following items: 1x gear"),
        ),
        agent(0, agent(1, goal="Craft the following items: 1x gear")),
    )
    pair = [rewards(tree)[0] for tree in trees]
    by_node = [
        {one.node.id: b for one, b in zip(rollout, own, strict=True)}
        for rollout, own in zip(pair, baselines(pair, "siblings"), strict=True)
    ]
    assert by_node == [
        {
            "0": 0,
            "0.0": 0,  # the only one that returns a string
            "0.1": Fraction(3, 4),  # (1/2 + 1)/2
            "0.1.0": 0,
            "0.2": Fraction(1, 2),  # (0 + 1)/2
            "0.3": 0,
            "0.4": Fraction(1, 4),  # (0 + 1/2)/2
        },
        {"0": 1, "0.0": 1},
    ]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Craft the following items: 2x oak_plank", "craft the following items: 1x stick, 3x gear", True),
        ("Sum lines 3 to 9", "Sum  lines 10 to 12\n", True),
        ("Count 'red' in part_1", 'Count "green leaves" in part_22', True),
        ("Don't stop, it's fine", "Don't wait, it's fine", False),
        ("Sum lines 3 to 9", "Count lines 3 to 9", False),
        ("Read http://a.b/1", "Read http://a.b/2", True),
        ("Answer: who?", "Answer: when?", True),
        ("", "x", False),
    ],
)
def test_goals_have_the_same_form_where_only_what_they_are_about_differs(one: str, other: str, alike: bool) -> None:
    assert (form(one) == form(other)) is alike


def test_a_group_of_which_no_root_succeeds_teaches_nothing_by_maximum_likelihood() -> None:
    trees = group(agent(0, agent(1)), agent(0))
    assert advantages([rewards(tree)[0] for tree in trees], "max_rl") == [[0, 0], [0]]


@pytest.mark.parametrize("kind", BASELINES)
def test_a_depth_that_no_other_rollout_has_falls_back_and_one_rollout_is_refused(kind: Baseline) -> None:
    trees = group(agent(1, agent(1, agent(0))), agent(0))
    pair = [rewards(tree)[0] for tree in trees]
    assert baselines(pair, kind) == [[0, 0, 0], [1]]
    with pytest.raises(ValueError, match="two rollouts"):
        baselines(pair[:1], kind)
