"""Credit: what holds for every batch."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rao_rl.credit.assign import Baseline, CreditConfig, Credits, DepthWeighting, NodeCredit, Reward, assign
from rao_rl.errors import DataError
from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree

from .credit_trees import Agent, agent, grow

Batch = list[tuple[str | None, Agent]]
"""The group and the root of every rollout."""

FATES: list[dict[str, Any]] = [
    *({"score": score} for score in (0.0, 0.1, 0.5, 1.0)),
    *({"score": None, "judged": judged} for judged in ("judge_error", "unknown", None)),
    *({"score": 1.0, "status": status} for status in Status if not status.finished and status is not Status.RUNNING),
]
# Most agents finish and are scored, so that most groups have something to learn.
KINDS = [
    Agent(**fate, goal=goal, context=context, tokens=1 + number % 4)
    for number, fate in enumerate(FATES[:4] * 8 + FATES[4:])
    for goal, context in (("x", None), ("x", {"part": 1}), ("y", None))
]
kinds = st.sampled_from(KINDS)
agents = st.builds(
    lambda root, middle, leaves: replace(
        root,
        children=tuple(
            replace(made, children=tuple(leaf for place, leaf in leaves if place == number))
            for number, made in enumerate(middle)
        ),
    ),
    kinds,
    st.lists(kinds, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), kinds), max_size=3),
)
"""Trees of up to seven agents in three generations."""
batches: st.SearchStrategy[Batch] = st.lists(st.tuples(st.sampled_from(["a", "b", None]), agents), max_size=6)
SCHEMES = [
    (reward, baseline)
    for reward in get_args(Reward)
    for baseline in get_args(Baseline)
    if reward == "local" or baseline not in ("inherit", "counterfactual")  # which are refused
]
configs = st.builds(
    lambda scheme, **more: CreditConfig(reward=scheme[0], baseline=scheme[1], **more),
    scheme=st.sampled_from(SCHEMES),
    delegation_bonus=st.sampled_from([0.0, 0.4]),
    bonus_for_forwarding=st.booleans(),
    depth_weighting=st.sampled_from(get_args(DepthWeighting)),
    depth_discount=st.floats(0.01, 1),
    min_group=st.integers(2, 3),
)
quick = settings(max_examples=40, deadline=None)
sub_sampled = st.builds(replace, configs, max_nodes_per_depth=st.integers(1, 3))


def grown(batch: Batch, **more: Any) -> list[ExecutionTree]:
    return [grow(root, group, run=f"run {number}", **more) for number, (group, root) in enumerate(batch)]


def by_name(credits: Credits, trees: Sequence[ExecutionTree]) -> dict[tuple[str, str], NodeCredit]:
    """The credit of each node by its run, which does not depend on an order."""
    return {(trees[credit.tree].run, credit.node): replace(credit, tree=0) for credit in credits.nodes}


@quick
@given(batches, configs)
def test_weights_keep_the_scale_of_the_update(batch: Batch, config: CreditConfig) -> None:
    credits = assign(grown(batch), config)
    assert sum(stats.nodes for stats in credits.depths.values()) == credits.count
    assert sum(stats.nodes * stats.weight for stats in credits.depths.values()) == pytest.approx(credits.count)
    assert sum(credit.weight for credit in credits.nodes) == pytest.approx(credits.count)


@quick
@given(batches, configs)
def test_each_depth_weighs_the_same_by_default(batch: Batch, config: CreditConfig) -> None:
    depths = assign(grown(batch), replace(config, depth_weighting="inverse_frequency")).depths.values()
    shares = [stats.nodes * stats.weight for stats in depths]
    assert shares == pytest.approx(shares[:1] * len(shares))


@quick
@given(batches, configs, st.randoms(use_true_random=False))
def test_no_order_matters(batch: Batch, config: CreditConfig, rng: random.Random) -> None:
    trees = grown(batch)
    credits = assign(trees, config)
    shuffled = grown(batch, mirrored=True)
    rng.shuffle(shuffled)
    again = assign(shuffled, config)
    assert by_name(again, shuffled) == by_name(credits, trees)
    assert (again.funnel, again.depths, again.tokens) == (credits.funnel, credits.depths, credits.tokens)
    assert again.averages == credits.averages


@quick
@given(batches, sub_sampled)
def test_credit_stands_in_the_order_of_trees_and_launches(batch: Batch, config: CreditConfig) -> None:
    trees = grown(batch, mirrored=True)
    order = [(tree, node) for tree in range(len(trees)) for node in trees[tree].nodes]
    credits = assign(trees, config, rng=random.Random(0))
    places = [order.index((credit.tree, credit.node)) for credit in credits.nodes]
    assert places == sorted(set(places))


@quick
@given(st.lists(agents, min_size=1, max_size=4), configs, st.data())
def test_an_incomplete_tree_is_refused_wherever_it_stands(
    roots: list[Agent], config: CreditConfig, data: st.DataObject
) -> None:
    trees = [grow(root) for root in roots]
    place = data.draw(st.integers(0, len(trees) - 1))
    if data.draw(st.booleans()):
        trees[place] = grow(roots[place], complete=False)
    else:
        data.draw(st.sampled_from(list(trees[place].walk()))).status = Status.RUNNING
    with pytest.raises(DataError, match="has not ended"):
        assign(trees, config)


@quick
@given(st.lists(agents, min_size=2, max_size=5), configs, st.data())
def test_the_baseline_of_a_rollout_does_not_depend_on_its_own_rewards(
    roots: list[Agent], config: CreditConfig, data: st.DataObject
) -> None:
    def inverted(made: Agent) -> Agent:
        return replace(
            made,
            score=None if made.score is None else 1 - made.score,
            children=tuple(inverted(child) for child in made.children),
        )

    assume(config.baseline not in ("siblings", "max_rl"))  # which compare with the rollout's own rewards too
    own = data.draw(st.integers(0, len(roots) - 1))
    changed = [inverted(root) if number == own else root for number, root in enumerate(roots)]
    before, after = (
        {credit.node: credit.reward - credit.advantage for credit in assign(trees, config).nodes if credit.tree == own}
        for trees in ([grow(root) for root in roots], [grow(root) for root in changed])
    )
    assume(before and after)
    assert after == pytest.approx(before)


@quick
@given(batches, configs)
def test_the_advantages_of_roots_cancel_out_in_each_group(batch: Batch, config: CreditConfig) -> None:
    trees = grown(batch)
    sums: defaultdict[str | None, float] = defaultdict(float)
    for credit in assign(trees, replace(config, baseline="root")).nodes:
        if credit.depth == 0:
            sums[trees[credit.tree].group] += credit.advantage
    assert list(sums.values()) == pytest.approx([0] * len(sums))


@quick
@given(batches, sub_sampled)
def test_sub_sampling_takes_k_of_each_depth_and_changes_nothing_else(batch: Batch, config: CreditConfig) -> None:
    trees = grown(batch)
    full = assign(trees, replace(config, max_nodes_per_depth=None))
    credits = assign(trees, config, rng=random.Random(1))
    most = config.max_nodes_per_depth
    assert most is not None
    assert Counter(credit.depth for credit in credits.nodes) == {
        depth: min(most, stats.nodes) for depth, stats in full.depths.items()
    }
    unscaled = by_name(full, trees)
    for name, credit in by_name(credits, trees).items():
        assert credit.scale == pytest.approx(max(1, full.depths[credit.depth].nodes / most))
        assert replace(credit, scale=1.0) == unscaled[name]
    assert sum(credit.weight * credit.scale for credit in credits.nodes) == pytest.approx(full.count)
    assert (credits.depths, credits.tokens, credits.count, credits.rollouts) == (
        full.depths,
        full.tokens,
        full.count,
        full.rollouts,
    )


def test_sub_sampling_is_unbiased() -> None:
    children = [agent(score, agent(1 - score)) for score in (0.0, 0.1, 0.5, 0.8, 1.0)]
    trees = [grow(agent(1, *children)), grow(agent(0, *children[1:4])), grow(agent(0.5, children[0]))]
    expected = [credit.coefficient for credit in assign(trees).nodes]
    draws = 1500
    config = CreditConfig(max_nodes_per_depth=2)
    sums = [
        sum(credit.coefficient for credit in assign(trees, config, rng=random.Random(seed)).nodes)
        for seed in range(draws)
    ]
    mean = sum(sums) / draws
    error = (sum((value - mean) ** 2 for value in sums) / draws**2) ** 0.5
    assert mean == pytest.approx(sum(expected), abs=4 * error)
    assert 0 < 4 * error < 0.1 * sum(map(abs, expected))


@quick
@given(batches, configs)
def test_without_a_bonus_the_success_of_the_roots_is_their_reward(batch: Batch, config: CreditConfig) -> None:
    config = replace(config, delegation_bonus=0.0)
    trees = grown(batch)
    assert assign(trees, replace(config, baseline="root_success")) == assign(trees, replace(config, baseline="root"))


@quick
@given(st.lists(agents, max_size=4), configs)
def test_a_group_of_one_is_never_trained(roots: list[Agent], config: CreditConfig) -> None:
    assume(config.baseline != "ema_depth")  # which compares no attempts
    trees = [grow(root, None if number % 2 else f"group {number}") for number, root in enumerate(roots)]
    credits = assign(trees, config)
    assert credits.nodes == []
    assert sum(credits.funnel.dropped_rollouts.values()) == len(trees)


@quick
@given(batches, sub_sampled)
def test_every_loss_is_counted_once(batch: Batch, config: CreditConfig) -> None:
    credits = assign(grown(batch), config, rng=random.Random(2))
    funnel = credits.funnel
    assert funnel.nodes - sum(funnel.dropped.values()) == funnel.nodes_trained == len(credits.nodes)
    assert funnel.rollouts - sum(funnel.dropped_rollouts.values()) == funnel.rollouts_trained
    assert funnel.rollouts >= funnel.rollouts_scored >= funnel.rollouts_kept >= funnel.rollouts_trained
    assert funnel.nodes >= funnel.nodes_scored >= funnel.nodes_kept >= funnel.nodes_trained
    assert (funnel.rollouts_kept, funnel.nodes_kept) == (credits.rollouts, credits.count)


@quick
@given(batches, configs)
def test_a_group_is_kept_only_where_something_can_be_learnt(batch: Batch, config: CreditConfig) -> None:
    assume(config.baseline != "ema_depth")  # which does not look at groups
    trees = grown(batch)
    learnt: defaultdict[str | None, bool] = defaultdict(bool)
    for credit in assign(trees, config).nodes:
        learnt[trees[credit.tree].group] |= credit.advantage != 0
    assert all(learnt.values())
