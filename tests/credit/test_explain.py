"""How credit came about: the numbers are those of `assign`, and the sentences have the numbers worked out by hand."""

from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.credit import Baseline, CreditConfig, assign, rewards
from rao_rl.credit.baselines import BASELINES, baselines
from rao_rl.credit.compared import LISTED, compared_with
from rao_rl.credit.credits import Size
from rao_rl.credit.explain import explain
from recursive_agent.status import Status

from .credit_trees import Agent, agent, group, grow, unscored


def test_the_paper_s_credit_in_words() -> None:
    trees = group(agent(1.0, agent(0.0), agent(0.5)), agent(0.5), agent(0.5), agent(0.5))
    first, *others = explain(trees, CreditConfig(delegation_bonus=0.4))
    root = first["0"]
    assert (root.reward, root.baseline, root.advantage) == (1.1, 0.5, pytest.approx(0.6))
    assert (root.weight, root.coefficient) == (0.75, pytest.approx(0.45))
    assert root.left_out is None
    assert root.why == (
        "reward 1.1 = score 1 + 0.4 × 0.25 (delegation bonus × mean score of 2 sub-agents with a score: 0, 0.5)",
        "baseline 0.5 = mean reward of 3 other roots of the group: 0.5, 0.5, 0.5",
        "advantage 0.6 = reward 1.1 − baseline 0.5",
        "weight 0.75 = 6 agents of the batch / (2 depths × 4 agents at depth 0)",
        "coefficient 0.45 = weight 0.75 × advantage 0.6: the gradient of each token that the agent sampled is multiplied "
        "with it",
    )
    child = first["0.0"]
    assert child.why[0] == "reward 0 = score 0 (no delegation bonus: it launched no sub-agent)"
    assert child.why[3] == "weight 1.5 = 6 agents of the batch / (2 depths × 2 agents at depth 1)"
    assert (child.advantage, child.coefficient) == (-0.5, -0.75)
    assert others[0]["0"].why[1] == "baseline 0.7 = mean reward of 3 other roots of the group: 1.1, 0.5, 0.5"


@pytest.mark.parametrize(
    ("roots", "config", "node", "sentence"),
    [
        ([agent(1.0)], {}, "0", "There is no baseline: no other scored attempt at this task is here"),
        ([agent(1.0), agent(1.0)], {}, "0", "The group of 2 attempts teaches nothing: every advantage in it is 0."),
        (
            [agent(1.0), agent(0.0)],
            {"min_group": 3},
            "0",
            "The group has 2 scored attempts, and at least 3 are needed.",
        ),
        ([unscored(), agent(0.0)], {}, "0", "The run is left out: its root has no score (`rao score` gives one)."),
        ([agent(status=Status.CANCELLED), agent(0.0)], {}, "0", "its root was stopped from outside (cancelled)"),
        ([agent(1.0, unscored()), agent(0.0)], {}, "0.0", "It has no score: nothing is known of its reward."),
        ([agent(1.0, agent(judged="judge_error")), agent(0.0)], {}, "0.0", "the judge failed"),
        ([agent(1.0, agent(status=Status.TREE_BUDGET)), agent(0.0)], {}, "0.0", "reached a limit (tree budget)"),
    ],
)
def test_why_a_node_is_left_out(roots: list[Agent], config: dict[str, int], node: str, sentence: str) -> None:
    explained = explain(group(*roots), CreditConfig(**config))[0][node]  # type: ignore[arg-type]
    assert explained.left_out is not None
    assert sentence in explained.left_out
    assert explained.coefficient is None


def test_what_a_node_s_rows_say_is_a_reason_too() -> None:
    trees = group(agent(1.0, agent(1.0), agent(1.0)), agent(0.0))
    sizes = [{"0": Size(10, 5), "0.0": Size(10, 0), "0.1": Size(10, 5, of_policy=False)}, {"0": Size(99, 5)}]
    first, second = explain(trees, CreditConfig(max_length=50), sizes=sizes)
    assert first["0"].left_out is None
    assert first["0.0"].left_out == "It sampled no tokens."
    assert "of another model" in (first["0.1"].left_out or "")
    assert first["0.1"].advantage == 1.0  # it would have
    assert second["0"].left_out == "Its conversation is longer than 50 tokens (max_length)."


def test_schemes_of_other_forms_have_no_baseline() -> None:
    trees = group(agent(1.0, agent(0.0)), agent(0.0), agent(0.5), agent(0.5))
    by_max_rl = explain(trees, CreditConfig(baseline="max_rl"))[0]["0"]
    assert (by_max_rl.baseline, by_max_rl.advantage) == (None, 1.0)
    assert by_max_rl.why[1:3] == (
        "mean 0.5 = mean reward of all 4 roots of the group: 1, 0, 0.5, 0.5",
        "advantage 1 = (reward 1 − mean) / mean",
    )
    inherited = explain(trees, CreditConfig(baseline="inherit"))[0]["0.0"]
    assert inherited.why[0] == "reward 1 = reward of the root of its run (baseline=inherit)"
    assert inherited.why[1].startswith("advantage 0.6667 = advantage of the root")
    moving = explain(trees, CreditConfig(baseline="ema_depth"), averages={0: 0.25})[0]
    assert moving["0"].why[1] == "baseline 0.25 = moving average of the rewards at depth 0 before this step"
    assert moving["0.0"].why[1].endswith("at depth 1 before this step, which begins at 0")


def test_failures_and_shaping_are_named() -> None:
    failed = explain(group(agent(0.7, status=Status.STEP_LIMIT), agent(1.0)))[0]["0"]
    assert failed.why[0] == "reward 0 = score 0 (the agent failed: step limit)"
    shaped = CreditConfig(finish_bonus=0.5, shaping_updates=2)
    text = explain(group(agent(1.0, agent(1.0)), agent(0.0)), shaped, update=1)[0]["0"].why[0]
    assert text == "reward 1.25 = score 1 + 0.25 × 1 (share of its sub-agents that returned a result)"


def test_sub_sampling_is_named_as_what_it_is_a_draw() -> None:
    trees = group(agent(1.0, agent(1.0), agent(0.0)), agent(0.0))
    child = explain(trees, CreditConfig(max_nodes_per_depth=1))[0]["0.0"]
    assert child.weight == 2.0  # 4 / (2 · 2), twice as much because one of two is trained
    assert "× 2 / 1 because 1 of the 2 agents at this depth are picked at random" in child.why[3]


def test_further_children_are_the_baseline_where_there_are_some() -> None:
    trees = group(agent(1.0, agent(1.0), agent(1.0)), agent(0.0))
    further = [
        grow(agent(score), f"counterfactual:{trees[0].run}:0.0", run=f"f{n}") for n, score in enumerate((0, 0.5))
    ]
    first, _, baseline_only, _ = explain([*trees, *further], CreditConfig(baseline="counterfactual"))
    assert first["0.0"].baseline == 0.25
    assert first["0.0"].why[1].endswith("2 further sub-agents with the same goal and inputs: 0, 0.5")
    assert first["0.1"].why[1] == "baseline 0 = mean reward of 1 other root of the group: 0"
    assert "a baseline only" in (baseline_only["0"].left_out or "")


scores = st.sampled_from([0.0, 0.25, 0.5, 1.0])
agents = st.recursive(
    st.builds(agent, scores, goal=st.sampled_from(["a", "b", "add 1", "add 2"])),
    lambda inner: st.builds(
        lambda score, below: agent(score, *below), scores, st.lists(inner | st.builds(unscored), min_size=1, max_size=3)
    ),
    max_leaves=6,
)
configs = st.builds(
    CreditConfig,
    baseline=st.sampled_from(sorted(set(get_args(Baseline)) - {"counterfactual"})),
    delegation_bonus=st.sampled_from([0.0, 0.5]),
    depth_weighting=st.sampled_from(["inverse_frequency", "none", "discount"]),
)


@given(st.lists(agents, min_size=1, max_size=4), configs)
def test_the_numbers_are_those_that_training_uses(roots: list[Agent], config: CreditConfig) -> None:
    trees = group(*roots)
    explained = explain(trees, config)
    trained = {(credit.tree, credit.node): credit for credit in assign(trees, config).nodes}
    for index, tree in enumerate(trees):
        assert explained[index].keys() == tree.nodes.keys()
        for node, found in explained[index].items():
            credit = trained.get((index, node))
            assert (found.left_out is None) == (credit is not None)
            if credit is None:
                continue
            assert (found.reward, found.advantage) == (credit.reward, credit.advantage)
            assert (found.weight, found.coefficient) == (credit.weight, credit.coefficient)
            assert found.baseline is None or found.reward is not None
            if found.baseline is not None and found.reward is not None:
                assert found.reward - found.baseline == pytest.approx(credit.advantage)


@given(st.lists(agents, min_size=2, max_size=4), st.sampled_from(sorted(BASELINES)))
def test_what_is_listed_has_the_baseline_as_its_mean(roots: list[Agent], kind: Baseline) -> None:
    earned = [rewards(tree, bonus=0.5)[0] for tree in group(*roots)]
    for pools, own in zip(compared_with(earned, kind), baselines(earned, kind), strict=True):
        for pool, baseline in zip(pools, own, strict=True):
            assert pool.count == len(pool.values) or pool.count > LISTED
            if pool.count <= LISTED:
                assert sum(pool.values, Fraction(0)) / pool.count == baseline
