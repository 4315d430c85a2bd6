"""What credit leaves out, and that it says so: failures of every kind, stale trees, long rows, sub-sampling, bad input."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from rao_rl.credit.assign import CreditConfig, Size, Success, assign, success, tree_version
from rao_rl.errors import DataError
from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.trace.schema import RunEnded
from recursive_agent.trace.tree import ExecutionTree, Node
from recursive_agent.usage import Usage
from tests.trace.events import run_started

from .credit_trees import agent, group, grow, unscored

OWN_DOING = (Status.STEP_LIMIT, Status.TOKEN_LIMIT, Status.CONTEXT_OVERFLOW, Status.MALFORMED)
TREE_S_DOING = (Status.TREE_BUDGET, Status.TREE_TIMEOUT, Status.COST_LIMIT)
NOBODY_S_DOING = (Status.CANCELLED, Status.INFRA_ERROR)


def node(**more: Any) -> Node:
    return grow(agent(**more)).root


def test_every_way_to_end_has_its_policy() -> None:
    assert {*OWN_DOING, *TREE_S_DOING, *NOBODY_S_DOING} == set(Status) - {Status.FINISHED, Status.RUNNING}


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("status", OWN_DOING)
@pytest.mark.parametrize("judged", ["scored", "judge_error", None])
def test_a_node_that_gave_up_by_itself_failed_whatever_was_recorded(status: Status, root: bool, judged: str) -> None:
    assert success(node(score=1, status=status, judged=judged), root) == Success(0, None)


@pytest.mark.parametrize("status", TREE_S_DOING)
def test_what_the_tree_used_up_is_the_roots_failure_alone(status: Status) -> None:
    assert success(node(score=1, status=status), root=True) == Success(0, None)
    assert success(node(score=1, status=status), root=False) == Success(None, str(status))


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("status", NOBODY_S_DOING)
def test_nobodys_doing_is_no_failure(status: Status, root: bool) -> None:
    assert success(node(score=0, status=status), root) == Success(None, str(status))


@pytest.mark.parametrize("root", [True, False])
def test_a_finished_node_has_the_score_it_was_given(root: bool) -> None:
    assert success(node(score=0.25), root) == Success(0.25, None)
    assert success(node(score=0), root) == Success(0, None)
    assert success(node(score=None, judged="judge_error"), root) == Success(None, "judge_error")
    assert success(node(score=1, judged="judge_error"), root) == Success(None, "judge_error")
    assert success(node(score=None, judged="unknown"), root) == Success(None, "unscored")
    assert success(node(judged=None), root) == Success(None, "unscored")


@pytest.mark.parametrize("score", [-0.1, 1.5, float("nan"), float("inf")])
def test_an_impossible_score_is_refused(score: float) -> None:
    with pytest.raises(DataError, match=r"node 0\.0 .* between 0 and 1"):
        assign(group(agent(1, agent(score)), agent(0)))


@pytest.mark.parametrize("status", OWN_DOING)
def test_a_failed_node_is_trained_as_one(status: Status) -> None:
    credits = assign(group(agent(1, agent(1, status=status)), agent(1, status=status)))
    assert [(credit.node, credit.success, credit.advantage) for credit in credits.nodes] == [
        ("0", 1, 1),
        ("0.0", 0, 0),
        ("0", 0, -1),
    ]
    assert not credits.funnel.dropped


@pytest.mark.parametrize("status", TREE_S_DOING)
def test_of_a_tree_that_ran_out_the_root_and_what_was_done_are_trained(status: Status) -> None:
    ran_out = agent(None, agent(1), agent(0), agent(1, agent(1), status=status), status=status, judged=None)
    credits = assign(group(ran_out, agent(1)), CreditConfig(delegation_bonus=0.5))
    assert [(credit.tree, credit.node, credit.reward) for credit in credits.nodes] == [
        (0, "0", 0.25),
        (0, "0.0", 1),
        (0, "0.1", 0),
        (0, "0.2.0", 1),
        (1, "0", 1),
    ]
    assert credits.funnel.dropped == {str(status): 1}


@pytest.mark.parametrize("reward", ["local", "root"])
@pytest.mark.parametrize("status", NOBODY_S_DOING)
def test_a_rollout_whose_root_ended_by_nobodys_doing_is_left_out_as_a_whole(status: Status, reward: Any) -> None:
    lost = agent(0, agent(1), agent(0, status=status), status=status)
    credits = assign(group(lost, agent(1), agent(0)), CreditConfig(reward=reward))
    assert [(credit.tree, credit.advantage) for credit in credits.nodes] == [(1, 1), (2, -1)]
    assert credits.funnel.dropped == {f"root_{status}": 3}
    assert credits.funnel.dropped_rollouts == {f"root_{status}": 1}


@pytest.mark.parametrize("reward", ["local", "root"])
@pytest.mark.parametrize(
    ("made", "reason"),
    [(agent(None, judged="judge_error"), "judge_error"), *[(agent(0, status=s), str(s)) for s in NOBODY_S_DOING]],
)
def test_a_child_that_ended_by_nobodys_doing_is_left_out_alone(made: Any, reason: str, reward: Any) -> None:
    credits = assign(group(agent(1, made, agent(1)), agent(0)), CreditConfig(reward=reward))
    assert [(credit.tree, credit.node) for credit in credits.nodes] == [(0, "0"), (0, "0.1"), (1, "0")]
    assert credits.funnel.dropped == {reason: 1}
    assert not credits.funnel.dropped_rollouts


@pytest.mark.parametrize("reward", ["local", "root"])
@pytest.mark.parametrize("judged", ["judge_error", "unknown", None])
def test_a_rollout_without_a_scored_root_is_left_out(judged: str | None, reward: Any) -> None:
    credits = assign(group(agent(None, judged=judged), agent(1), agent(0)), CreditConfig(reward=reward))
    assert {credit.tree for credit in credits.nodes} == {1, 2}
    assert credits.funnel.dropped_rollouts == {"root_judge_error" if judged == "judge_error" else "root_unscored": 1}


def test_lost_rollouts_can_make_a_group_too_small() -> None:
    credits = assign(group(agent(1, agent(0)), agent(0, status=Status.INFRA_ERROR)))
    assert credits.nodes == []
    assert credits.funnel.dropped == {"root_infra_error": 1, "group_too_small": 2}
    assert credits.frac_reward_zero_std == 0


def test_an_unknown_success_is_left_out_unless_the_root_stands_for_it() -> None:
    trees = group(agent(1, unscored()), agent(0, agent(1, judged=None)))
    credits = assign(trees)
    assert [(credit.tree, credit.node) for credit in credits.nodes] == [(0, "0"), (1, "0")]
    assert credits.funnel.dropped == {"unscored": 2}
    credits = assign(trees, CreditConfig(reward="root"))
    assert [(credit.node, credit.success, credit.reward) for credit in credits.nodes] == [
        ("0", 1, 1),
        ("0.0", None, 1),
        ("0", 0, 0),
        ("0.0", None, 0),
    ]


def test_trees_sampled_too_many_versions_ago_are_left_out() -> None:
    trees = group(
        agent(1, agent(1, versions=("9", "7"))),
        agent(0, versions=("7", "9")),
        agent(1, versions=("6",)),
        agent(1, versions=("10",)),
    )
    credits = assign(trees, CreditConfig(max_staleness=3), version=10)
    assert {credit.tree for credit in credits.nodes} == {0, 1, 3}
    assert credits.nodes[0].advantage == 0.5
    assert credits.funnel.dropped_rollouts == {"stale": 1}
    assert {credit.tree for credit in assign(trees, CreditConfig(max_staleness=3)).nodes} == {0, 1, 2, 3}
    assert {credit.tree for credit in assign(trees, version=10).nodes} == {0, 1, 2, 3}


def test_a_tree_is_as_old_as_its_oldest_call() -> None:
    assert tree_version(grow(agent(1, agent(1, versions=("11", "9")), versions=("10",)))) == 9
    assert tree_version(grow(agent(1))) is None
    assert tree_version(grow(agent(1, agent(1, versions=(None,)), versions=("3",)))) is None
    assert tree_version(grow(agent(1, versions=("gpt-9",)))) is None


def test_trees_of_unknown_version_cannot_pass_for_fresh() -> None:
    trees = group(agent(1, versions=("v1",)), agent(1, versions=("4",)), agent(0, versions=("4",)))
    credits = assign(trees, CreditConfig(max_staleness=0), version=4)
    assert {credit.tree for credit in credits.nodes} == {1, 2}
    assert credits.funnel.dropped_rollouts == {"version_unknown": 1}


def test_a_tree_without_a_call_is_not_stale_and_counts_as_the_failure_it_is() -> None:
    """A root whose first prompt does not fit its context has sampled nothing."""
    trees = group(agent(1, versions=("4",)), agent(0, status=Status.CONTEXT_OVERFLOW))
    credits = assign(trees, CreditConfig(max_staleness=0), version=4, sizes=[{"0": Size(9, 5)}, {}])
    assert [(credit.tree, credit.advantage) for credit in credits.nodes] == [(0, 1)]
    assert not credits.funnel.dropped_rollouts.get("version_unknown")


def test_what_is_too_long_to_train_still_counts_for_bonus_and_baselines() -> None:
    trees = group(agent(1, agent(0, goal="x")), agent(0, agent(1, goal="x")))
    sizes = [{"0": Size(101, 40), "0.0": Size(100, 30)}, {"0": Size(80, 20), "0.0": Size(300, 10)}]
    config = CreditConfig(max_length=100, delegation_bonus=0.5, baseline="goal")
    credits = assign(trees, config, sizes=sizes)
    assert [(each.tree, each.node, each.reward, each.advantage) for each in credits.nodes] == [
        (0, "0.0", 0, -1),
        (1, "0", 0.5, -0.5),
    ]
    assert (credits.tokens, credits.count, credits.rollouts) == (50, 2, 2)
    assert credits.funnel.dropped == {"too_long": 2}


def test_nodes_that_sampled_nothing_are_not_counted() -> None:
    trees = group(agent(1, agent(1)), agent(0, status=Status.CONTEXT_OVERFLOW))
    credits = assign(trees, sizes=[{"0": Size(9, 5), "0.0": Size(9, 0)}, {}])
    assert [(credit.node, credit.advantage, credit.tokens) for credit in credits.nodes] == [("0", 1, 5)]
    assert credits.funnel.dropped == {"no_tokens": 2}
    assert credits.funnel.dropped_rollouts == {"nothing_left": 1}


def test_a_group_of_which_nothing_can_be_trained_is_dropped() -> None:
    credits = assign(group(agent(1), agent(0)), sizes=[{}, {}])
    assert credits.nodes == []
    assert credits.funnel.dropped_rollouts == {"nothing_left": 2}
    assert credits.frac_reward_zero_std == 0


def test_the_divisors_are_taken_before_sub_sampling() -> None:
    trees = group(agent(1, *[agent(0, tokens=7)] * 6), agent(0, *[agent(1, tokens=1)] * 2))
    full = assign(trees)
    credits = assign(trees, CreditConfig(max_nodes_per_depth=2), rng=random.Random(0))
    assert (credits.tokens, credits.count, credits.rollouts) == (64, 10, 2)
    assert credits.depths == full.depths
    assert Counter((credit.depth, credit.scale) for credit in credits.nodes) == {(0, 1): 2, (1, 4): 2}
    assert credits.funnel.dropped == {"not_sampled": 6}
    found = {(credit.tree, credit.node): credit.advantage for credit in full.nodes}
    assert all(found[credit.tree, credit.node] == credit.advantage for credit in credits.nodes)


def test_rollouts_of_which_nothing_was_picked_are_counted() -> None:
    credits = assign(group(agent(1), agent(0)), CreditConfig(max_nodes_per_depth=1), rng=random.Random(0))
    (credit,) = credits.nodes
    assert (credit.scale, credit.coefficient) == (2, 2 * credit.advantage)
    assert credits.funnel.dropped_rollouts == {"not_sampled": 1}
    assert (credits.funnel.rollouts_kept, credits.funnel.rollouts_trained) == (2, 1)


def test_sub_sampling_without_a_generator_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rng"):
        assign(group(agent(1), agent(0)), CreditConfig(max_nodes_per_depth=1))


def test_sizes_of_other_trees_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="1 trees, but there are 2"):
        assign(group(agent(1), agent(0)), sizes=[{}])


@pytest.mark.parametrize(
    "tree",
    [
        grow(agent(1), complete=False, run="torn"),
        grow(agent(1, agent(1, status=Status.RUNNING)), run="torn"),
        grow(agent(1, status=Status.RUNNING), run="torn"),
        ExecutionTree.from_events(
            [run_started(run="torn"), RunEnded(time=1.0, status=Status.INFRA_ERROR, usage=Usage())]
        ),
    ],
)
def test_trees_that_have_not_ended_are_refused(tree: Any) -> None:
    with pytest.raises(DataError, match="run torn has not ended"):
        assign([grow(agent(1)), tree])


@pytest.mark.parametrize(
    "wrong",
    [
        {"reward": "both"},
        {"baseline": "mean"},
        {"depth_weighting": "depth"},
        {"delegation_bonus": -0.1},
        {"delegation_bonus": float("nan")},
        {"delegation_bonus": float("inf")},
        {"depth_discount": 0},
        {"depth_discount": 1.1},
        {"min_group": 1},
        {"max_nodes_per_depth": 0},
        {"max_staleness": -1},
        {"max_length": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        CreditConfig(**wrong)
