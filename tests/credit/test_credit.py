"""Credit: numbers worked out by hand, on trees of several shapes."""

from __future__ import annotations

from typing import Any

import pytest

from rao_rl.credit.assign import CreditConfig, Credits, Size, assign
from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree

from .credit_trees import agent, group, grow, unscored


def advantages(credits: Credits) -> list[dict[str, float]]:
    """By tree, those of its nodes."""
    found: dict[int, dict[str, float]] = {}
    for credit in credits.nodes:
        found.setdefault(credit.tree, {})[credit.node] = credit.advantage
    return [found.get(tree, {}) for tree in range(credits.funnel.rollouts)]


def rewards(credits: Credits) -> dict[tuple[int, str], float]:
    return {(credit.tree, credit.node): credit.reward for credit in credits.nodes}


def approx(expected: Any) -> Any:
    return [pytest.approx(each) for each in expected]


def families() -> list[ExecutionTree]:
    """A root that did well with one good child and one bad one; a root that failed although its child did well."""
    return group(
        agent(1, agent(1, goal="x"), agent(0, goal="y")),
        agent(0, agent(1, goal="x")),
    )


def test_lone_roots_are_measured_against_the_mean_of_the_others() -> None:
    credits = assign(group(agent(1), agent(0), agent(0), agent(1)))
    assert advantages(credits) == approx([{"0": 2 / 3}, {"0": -2 / 3}, {"0": -2 / 3}, {"0": 2 / 3}])
    assert [credit.weight for credit in credits.nodes] == [1, 1, 1, 1]


def test_a_fractional_success_keeps_its_size() -> None:
    credits = assign(group(agent(0.5), agent(0.25), agent(0)))
    assert advantages(credits) == approx([{"0": 0.375}, {"0": 0.0}, {"0": -0.375}])


def test_every_node_of_a_rollout_has_the_baseline_of_the_other_roots() -> None:
    assert advantages(assign(families())) == [{"0": 1, "0.0": 1, "0.1": 0}, {"0": -1, "0.0": 0}]


def test_each_depth_gets_the_same_total_weight() -> None:
    credits = assign(families())
    assert {depth: (stats.nodes, stats.weight) for depth, stats in credits.depths.items()} == {
        0: (2, pytest.approx(5 / 4)),
        1: (3, pytest.approx(5 / 6)),
    }
    assert [credit.coefficient for credit in credits.nodes] == pytest.approx([5 / 4, 5 / 6, 0, -5 / 4, 0])


def test_without_depth_weighting_every_weight_is_one() -> None:
    credits = assign(families(), CreditConfig(depth_weighting="none"))
    assert {credit.weight for credit in credits.nodes} == {1}


def test_a_discount_weighs_deeper_nodes_less_and_keeps_the_scale() -> None:
    credits = assign(families(), CreditConfig(depth_weighting="discount", depth_discount=0.5))
    assert [credits.depths[depth].weight for depth in (0, 1)] == pytest.approx([10 / 7, 5 / 7])


def test_the_smallest_discount_does_not_vanish_where_the_roots_are_not_trained() -> None:
    trees = group(agent(1, agent(1, agent(1))), agent(0, status=Status.CANCELLED), agent(0, agent(0, agent(0))))
    sizes = [{"0.0.0": Size(5, 5)}, {}, {"0.0.0": Size(5, 5)}]
    credits = assign(trees, CreditConfig(depth_weighting="discount", depth_discount=1e-300), sizes=sizes)
    assert [(credit.node, credit.weight) for credit in credits.nodes] == [("0.0.0", 1), ("0.0.0", 1)]


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("root", [{"0": 0.8, "0.0": 0.6, "0.1": -0.4}, {"0": -0.8, "0.0": -0.2}]),
        ("root_success", [{"0": 1.2, "0.0": 1.0, "0.1": 0.0}, {"0": -0.6, "0.0": 0.0}]),
        ("depth", [{"0": 0.8, "0.0": 0.0, "0.1": -1.0}, {"0": -0.8, "0.0": 0.5}]),
        ("goal", [{"0": 0.8, "0.0": 0.0, "0.1": -1.0}, {"0": -0.8, "0.0": 0.0}]),
    ],
)
def test_the_delegation_bonus_with_each_baseline(baseline: Any, expected: list[dict[str, float]]) -> None:
    # R of the roots: 1 + 0.4·(1 + 0)/2 = 1.2 and 0 + 0.4·1 = 0.4.
    assert advantages(assign(families(), CreditConfig(delegation_bonus=0.4, baseline=baseline))) == approx(expected)


def test_bonuses_do_not_compound_along_a_chain() -> None:
    chain = agent(1, agent(0.5, agent(0)))
    credits = assign(group(chain, agent(1)), CreditConfig(delegation_bonus=1))
    assert rewards(credits) == {(0, "0"): 1.5, (0, "0.0"): 0.5, (0, "0.0.0"): 0, (1, "0"): 1}
    assert advantages(credits) == [{"0": 0.5, "0.0": -0.5, "0.0.0": -1}, {"0": -0.5}]


def test_a_depth_that_the_other_rollouts_do_not_reach_is_measured_against_their_roots() -> None:
    credits = assign(group(agent(1, agent(0.5, agent(0))), agent(0, agent(1))), CreditConfig(baseline="depth"))
    assert advantages(credits) == [{"0": 1, "0.0": -0.5, "0.0.0": 0}, {"0": -1, "0.0": 0.5}]


def test_a_goal_nobody_else_had_is_measured_against_its_depth_and_then_the_roots() -> None:
    trees = group(
        agent(1, agent(1, agent(1, goal="deep"), goal="x"), agent(0, goal="mine")),
        agent(0.5, agent(0, goal="x"), agent(0.5, goal="y")),
    )
    assert advantages(assign(trees, CreditConfig(baseline="goal"))) == [
        {"0": 0.5, "0.0": 1.0, "0.0.0": 0.5, "0.1": -0.25},
        {"0": -0.5, "0.0": -1.0, "0.1": 0.0},
    ]


def test_the_same_goal_counts_at_any_depth_and_as_often_as_it_was_met() -> None:
    trees = group(
        agent(1, agent(1, goal="x")),
        agent(0, agent(0, agent(1, goal="x"), goal="y"), agent(0, goal="x")),
    )
    assert advantages(assign(trees, CreditConfig(baseline="goal")))[0] == {"0": 1, "0.0": 0.5}


def test_the_same_goal_with_other_inputs_is_another_goal() -> None:
    trees = group(
        agent(1, agent(1, goal="x", context={"part": 1, "of": (2, {3})})),
        agent(0, agent(1, goal="x", context={"of": (2, {3}), "part": 1}), agent(0, goal="x", context={"part": 2})),
    )
    assert advantages(assign(trees, CreditConfig(baseline="goal")))[0] == {"0": 1, "0.0": 0}


def test_the_same_goal_is_compared_without_white_space_around_it_and_with_the_type_of_its_result() -> None:
    number, text = {"type": "integer"}, {"type": "string"}
    trees = group(
        agent(1, agent(1, goal=" x\n", returns=number)),
        agent(0, agent(0.5, goal="x", returns=number), agent(0, goal="x", returns=text)),
    )
    assert advantages(assign(trees, CreditConfig(baseline="goal")))[0] == {"0": 1, "0.0": 0.5}


def test_one_goal_in_two_groups_is_two_goals() -> None:
    trees = [
        *group(agent(1, agent(1, goal="x")), agent(0), name="a"),
        *group(agent(1, agent(0, goal="x")), agent(0), name="b"),
    ]
    assert [each.get("0.0") for each in advantages(assign(trees, CreditConfig(baseline="goal")))] == [1, None, 0, None]


def test_the_sparse_reward_is_that_of_the_root_everywhere() -> None:
    credits = assign(families(), CreditConfig(reward="root"))
    assert advantages(credits) == [{"0": 1, "0.0": 1, "0.1": 1}, {"0": -1, "0.0": -1}]
    assert [credit.success for credit in credits.nodes] == [1, 1, 0, 0, 1]


def test_the_sparse_reward_contains_the_bonus_of_the_root_and_of_no_other_node() -> None:
    trees = group(agent(1, agent(1, agent(0)), agent(0)), agent(0, agent(1)))
    credits = assign(trees, CreditConfig(reward="root", delegation_bonus=0.4))
    assert [credit.reward for credit in credits.nodes] == pytest.approx([1.2, 1.2, 1.2, 1.2, 0.4, 0.4])


def test_every_node_inherits_the_advantage_of_its_root_scored_or_not() -> None:
    # R of the roots: 1 + 0.4·(1 + 0)/2 = 1.2, 0 + 0.4·1 = 0.4, and 0; b: (0.4 + 0)/2, (1.2 + 0)/2, (1.2 + 0.4)/2.
    trees = group(
        agent(1, agent(1), agent(0, agent(1)), unscored(), agent(1, status=Status.INFRA_ERROR)),
        agent(0, agent(1)),
        agent(0),
    )
    credits = assign(trees, CreditConfig(baseline="inherit", delegation_bonus=0.4))
    assert advantages(credits) == approx(
        [{"0": 1.0, "0.0": 1.0, "0.1": 1.0, "0.1.0": 1.0, "0.2": 1.0}, {"0": -0.2, "0.0": -0.2}, {"0": -0.8}]
    )
    assert [credit.success for credit in credits.nodes] == [1, 1, 0, 1, None, 0, 1, 0]
    assert credits.funnel.dropped == {"infra_error": 1}


def test_inheriting_from_a_root_makes_a_reward_of_the_root_redundant() -> None:
    with pytest.raises(ConfigurationError, match="leave out reward=root"):
        CreditConfig(baseline="inherit", reward="root")


def test_children_without_a_score_are_left_out_of_the_bonus() -> None:
    trees = group(
        agent(1, agent(1), unscored(), agent(1, status=Status.INFRA_ERROR), agent(1, status=Status.STEP_LIMIT)),
        agent(0, unscored()),
    )
    credits = assign(trees, CreditConfig(delegation_bonus=0.4))
    assert rewards(credits) == {(0, "0"): 1.2, (0, "0.0"): 1, (0, "0.3"): 0, (1, "0"): 0}


def test_agents_that_must_not_be_trained_are_left_out_but_count_as_children() -> None:
    trees = group(agent(1, agent(1, agent(0)), agent(0)), agent(0))
    trees[0].nodes["0.0"].trainable = False
    credits = assign(trees, CreditConfig(delegation_bonus=0.4))
    # R(0) = 1 + 0.4·(1 + 0)/2; the agent below the untrainable one is trained.
    assert rewards(credits) == {(0, "0"): 1.2, (0, "0.1"): 0, (0, "0.0.0"): 0, (1, "0"): 0}
    assert credits.funnel.dropped["untrainable"] == 1
    assert {credit.depth: credit.weight for credit in credits.nodes} == pytest.approx({0: 2 / 3, 1: 4 / 3, 2: 4 / 3})


def test_a_child_handed_its_parents_own_goal_can_be_left_out_of_the_bonus() -> None:
    trees = group(agent(1, agent(1, goal=" task\n"), agent(0)), agent(0, agent(1, goal="task")))
    config = CreditConfig(delegation_bonus=0.5, bonus_for_forwarding=False)
    assert [credit.reward for credit in assign(trees, config).nodes if credit.node == "0"] == [1, 0]
    config = CreditConfig(delegation_bonus=0.5)
    assert [credit.reward for credit in assign(trees, config).nodes if credit.node == "0"] == [1.25, 0.5]


def test_groups_of_uneven_size_have_their_own_baselines() -> None:
    trees = [
        *group(agent(1), agent(0), agent(0), name="three"),
        *group(agent(1), agent(0.5), name="two"),
        *group(agent(1), name="one"),
        grow(agent(1), None),
        grow(agent(0), None),
    ]
    credits = assign(trees)
    assert advantages(credits) == [{"0": 1}, {"0": -0.5}, {"0": -0.5}, {"0": 0.5}, {"0": -0.5}, {}, {}, {}]
    assert credits.funnel.dropped_rollouts == {"group_too_small": 3}
    assert (credits.funnel.groups, credits.funnel.groups_kept) == (5, 2)


def test_groups_below_the_least_size_are_dropped() -> None:
    trees = [*group(agent(1), agent(0), name="two"), *group(agent(1), agent(0), agent(0), name="three")]
    credits = assign(trees, CreditConfig(min_group=3))
    assert {credit.tree for credit in credits.nodes} == {2, 3, 4}


def test_groups_without_anything_to_learn_do_not_count_towards_the_weights() -> None:
    same = [agent(0.1, agent(0.1)) for _ in range(7)]
    credits = assign([*group(*same, name="same"), *families(), grow(agent(1), None)])
    assert [(stats.nodes, stats.weight) for stats in credits.depths.values()] == approx([(2, 5 / 4), (3, 5 / 6)])
    assert credits.funnel.dropped == {"zero_advantage": 14, "group_too_small": 1}
    assert credits.frac_reward_zero_std == 0.5


def test_a_group_whose_roots_agree_is_kept_where_a_child_differs() -> None:
    credits = assign(group(agent(1, agent(0)), agent(1)))
    assert advantages(credits) == [{"0": 0, "0.0": -1}, {"0": 0}]
    assert (credits.count, credits.frac_reward_zero_std) == (3, 0)


def test_no_trees_give_no_credit() -> None:
    credits = assign([])
    assert (credits.nodes, credits.depths, credits.count, credits.frac_reward_zero_std) == ([], {}, 0, 0)


def test_statistics_are_means_over_a_depth() -> None:
    stats = assign(families()).depths
    assert (stats[0].reward, stats[0].success, stats[0].advantage, stats[0].launch_rate) == (0.5, 0.5, 0, 1)
    assert (stats[1].reward, stats[1].success, stats[1].advantage) == pytest.approx((2 / 3, 2 / 3, 1 / 3))
    assert stats[1].launch_rate == 0


def test_the_success_of_a_depth_is_a_mean_over_what_is_known() -> None:
    credits = assign(group(agent(1, unscored(), agent(0)), agent(0, unscored(agent(1)))), CreditConfig(reward="root"))
    assert [credits.depths[depth].success for depth in (0, 1, 2)] == [0.5, 0, 1]
    credits = assign(group(agent(1, unscored()), agent(0)), CreditConfig(reward="root"))
    assert credits.depths[1].success is None


def test_credit_stands_in_the_order_of_the_trees_whatever_their_groups() -> None:
    ones, others = group(agent(1), agent(0), name="a"), group(agent(1, agent(0)), agent(0), name="b")
    credits = assign([ones[0], others[0], ones[1], others[1]])
    assert [(credit.tree, credit.node) for credit in credits.nodes] == [
        (0, "0"),
        (1, "0"),
        (1, "0.0"),
        (2, "0"),
        (3, "0"),
    ]
