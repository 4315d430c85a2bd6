"""Runs of several models: the agents of one are trained, the others stay in the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rao_rl.credit.assign import assign, tree_version
from rao_rl.credit.config import CreditConfig
from rao_rl.data.folder import check_one_policy, read_groups, temperature_of
from rao_rl.data.policy import choose_policy, focus
from rao_rl.data.rows import TreeRows, with_credit
from rao_rl.errors import DataError
from rao_rl.imitation.recorded import read_successful
from recursive_agent.trace.schema import Event, ModelCalled, NodeStarted
from recursive_agent.trace.tree import ExecutionTree

from .token_trees import token_events, turn
from .trees import write

SETTINGS = {
    "temperature": 1.0,
    "models": {
        "large": {"model": "org/large", "interface": "tokens", "temperature": 1.0, "trainable": True},
        "fast": {"model": "org/small", "interface": "tokens", "temperature": 0.7, "trainable": True},
    },
}


def events(
    models: Sequence[str | None] = ("large", "fast", "large"), frozen: Sequence[str] = (), text: str = "", **run: Any
) -> list[Event]:
    """A root with two children; the calls of the model `text` have no tokens, and no version."""
    run = {"scores": (1.0, 0.5, 0.0), "settings": SETTINGS, **run}
    happened = token_events([turn([1, 2], [3])], [turn([1, 5], [6])], [turn([1, 7], [8])], **run)
    by_node = dict(zip(("0", "0.0", "0.1"), models, strict=True))
    found: list[Event] = []
    for event in happened:
        if isinstance(event, NodeStarted):
            model = by_node[event.node]
            event = replace(event, model=model, trainable=model not in frozen)
        elif isinstance(event, ModelCalled) and by_node[event.node] == text:
            event = replace(event, prompt_token_ids=None, token_ids=None, logprobs=None, version=None)
        found.append(event)
    return found


def tree(*args: Any, **more: Any) -> ExecutionTree:
    return ExecutionTree.from_events(events(*args, **more))


def two_runs(place: Path, **more: Any) -> Path:
    for name, scores in (("a", (1.0, 0.5, 0.0)), ("b", (0.0, 0.5, 1.0))):
        write(place / f"{name}.jsonl", events(run=name, scores=scores, **more))
    return place


def test_a_frozen_agent_needs_no_tokens_and_stays_a_child() -> None:
    run = tree(frozen=["fast"], text="fast")
    rows = TreeRows.of(run)
    assert {node: len(own) for node, own in rows.rows.items()} == {"0": 1, "0.0": 0, "0.1": 1}
    assert tree_version(run) == 0
    two = [rows, TreeRows.of(tree(frozen=["fast"], text="fast", run="other", scores=(0.0, 0.5, 1.0)))]
    batch = with_credit(two, CreditConfig(delegation_bonus=1.0))
    assert {(sample.rollout, sample.node) for sample in batch.samples} == {
        ("r", "0"), ("r", "0.1"), ("other", "0"), ("other", "0.1"),
    }  # fmt: skip
    assert batch.credits.funnel.dropped["untrainable"] == 2
    roots = [credit.reward for credit in batch.credits.nodes if credit.node == "0"]
    assert roots == [1.0 + (0.5 + 0.0) / 2, 0.0 + (0.5 + 1.0) / 2]  # the frozen child's score counts


def test_agents_of_another_model_are_counted_as_such() -> None:
    runs = [tree(text="fast", run=name, scores=scores) for name, scores in (("a", (1, 0.5, 0)), ("b", (0, 0.5, 1)))]
    rows = [TreeRows.of(run, others=focus(run, "org/large")) for run in runs]
    credits = assign(runs, sizes=[each.sizes for each in rows])
    assert credits.funnel.dropped == {"other_model": 2}
    assert {credit.node for credit in credits.nodes} == {"0", "0.1"}


@pytest.mark.parametrize("name", ["fast", "org/small"])
def test_the_policy_gives_the_runs_its_name_and_settings(tmp_path: Path, name: str) -> None:
    recorded = read_groups(two_runs(tmp_path, text="large"), policy=name)
    check_one_policy(recorded)
    assert {each.model for each in recorded.trees} == {"org/small"}
    assert temperature_of(recorded.trees) == 0.7
    assert [[node for node, own in each.rows.items() if own] for each in recorded.rows] == [["0.0"], ["0.0"]]


def test_which_model_is_trained_must_be_clear(tmp_path: Path) -> None:
    place = two_runs(tmp_path)
    with pytest.raises(
        DataError, match=r"several models: org/large \(4 agents\), org/small \(2 agents\); name the one"
    ):
        read_groups(place)
    with pytest.raises(DataError, match="no agent of the model 'medium' can be trained on"):
        read_groups(place, policy="medium")
    for start in ("models/large", "org/large"):
        assert {each.model for each in read_groups(place, start=start).trees} == {"org/large"}


def test_one_trainable_model_needs_no_name(tmp_path: Path) -> None:
    recorded = read_groups(two_runs(tmp_path, frozen=["fast"], text="fast"))
    assert {each.model for each in recorded.trees} == {"org/large"}
    with pytest.raises(DataError, match="all have frozen models"):
        choose_policy([tree(frozen=["fast", "large"])])


def test_runs_of_one_model_are_as_they_were() -> None:
    run = tree((None, None, None), settings={"temperature": 0.3})
    assert choose_policy([run], start="anything") is None
    assert TreeRows.of(run).others == frozenset()


def test_one_model_with_two_settings_is_named_by_one_of_them() -> None:
    models = {name: {"model": "org/large", "temperature": heat} for name, heat in (("large", 1.0), ("fast", 0.5))}
    run = tree(settings={"models": models})
    with pytest.raises(DataError, match="sampled with different settings; name one of fast, large"):
        focus(run, "org/large")
    assert focus(run, "fast") == {"0", "0.1"}
    assert run.settings["temperature"] == 0.5


def test_imitation_leaves_frozen_agents_out_and_reads_each_agents_own_style(tmp_path: Path) -> None:
    place = two_runs(tmp_path, frozen=["fast"])
    assert len(read_successful(place, threshold=0.0).conversations) == 4
    styles = {"large": {"model": "l", "prompt_style": "rich"}, "fast": {"model": "f", "prompt_style": "minimal"}}
    other = two_runs(tmp_path / "mixed", settings={"models": styles})
    with pytest.raises(DataError, match="mix prompt styles"):
        read_successful(other, threshold=0.0)
