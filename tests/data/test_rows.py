"""Rows of sampled tokens: exact, complete, and cut where a conversation did not go on where it had ended."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.credit.assign import CreditConfig, Size, assign
from rao_rl.data.rows import Row, Sample, TreeRows, node_rows, samples, with_credit
from rao_rl.envs import make
from rao_rl.errors import DataError
from rao_rl.rollouts.attempt import AttemptSettings, rollout
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.status import Status
from recursive_agent.trace.schema import Event, RunEnded, Scored
from recursive_agent.trace.store import TraceWriter
from recursive_agent.trace.tree import ExecutionTree, Node
from recursive_agent.usage import Usage
from tests.trace.events import model_called, node_ended, node_started, run_started


@dataclass(frozen=True)
class Turn:
    """One model call. `forks` says whether its prompt leaves the conversation before it."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    logprobs: tuple[float, ...]
    version: str | None = "1"
    forks: bool = False


def turn(prompt: Sequence[int], completion: Sequence[int], version: str | None = "1") -> Turn:
    return Turn(tuple(prompt), tuple(completion), tuple(-0.5 - i for i in range(len(completion))), version)


def tree(
    *conversations: Sequence[Turn], run: str = "r1", group: str | None = None, scores: Sequence[float] = ()
) -> ExecutionTree:
    """A finished run: the first conversation is the root's, the others are its children's."""
    return ExecutionTree.from_events(events(*conversations, run=run, group=group, scores=scores))


def events(
    *conversations: Sequence[Turn], run: str = "r1", group: str | None = None, scores: Sequence[float] = ()
) -> Iterator[Event]:
    names = ["0", *(f"0.{number}" for number in range(len(conversations) - 1))]
    yield run_started(run=run, group=group, interface="tokens")
    for name in names:
        yield node_started(name)
    for name, turns in zip(names, conversations, strict=True):
        for number, made in enumerate(turns, start=1):
            yield model_called(
                name,
                number,
                prompt_token_ids=made.prompt,
                token_ids=made.completion,
                logprobs=made.logprobs,
                version=made.version,
            )
    for name in reversed(names):
        yield node_ended(name)
    yield RunEnded(time=0.0, status=Status.FINISHED, usage=Usage())
    for name, score in zip(names, scores, strict=False):
        yield Scored(time=1.0, node=name, score=score)


def node(*turns: Turn) -> Node:
    return tree(turns).root


def as_lists(row: Row) -> tuple[list[int], list[bool], list[float]]:
    return row.input_ids.tolist(), row.completion_mask.tolist(), row.logprobs.tolist()


def test_turns_that_go_on_are_one_row() -> None:
    (row,) = node_rows(node(turn([1, 2], [3, 4]), turn([1, 2, 3, 4, 5], [6])))
    assert as_lists(row) == (
        [1, 2, 3, 4, 5, 6],
        [False, False, True, True, False, True],
        [0.0, 0.0, -0.5, -1.5, 0.0, -0.5],
    )
    assert (row.input_ids.dtype, row.completion_mask.dtype, row.logprobs.dtype) == (np.int32, np.bool_, np.float32)


def test_a_fork_begins_a_row_in_which_what_was_sampled_before_is_given() -> None:
    first, second = node_rows(node(turn([1, 2], [3, 4]), turn([1, 2, 3, 9], [6, 7])))
    assert as_lists(first) == ([1, 2, 3, 4], [False, False, True, True], [0.0, 0.0, -0.5, -1.5])
    assert as_lists(second) == ([1, 2, 3, 9, 6, 7], [False] * 4 + [True, True], [0.0] * 4 + [-0.5, -1.5])


@pytest.mark.parametrize("prompt", [[1, 2], [1, 2, 3], [1, 2, 3, 5], [9, 2, 3, 4]], ids=str)
def test_a_prompt_that_holds_less_than_the_conversation_forks(prompt: list[int]) -> None:
    assert len(node_rows(node(turn([1, 2], [3, 4]), turn(prompt, [6])))) == 2


def test_after_a_fork_turns_go_on_from_the_new_row() -> None:
    turns = [turn([1], [2]), turn([1, 5], [6]), turn([1, 5, 6, 7], [8]), turn([1, 2], [9])]
    assert [row.input_ids.tolist() for row in node_rows(node(*turns))] == [[1, 2], [1, 5, 6, 7, 8], [1, 2, 9]]


def test_answers_without_tokens_neither_fork_nor_make_rows() -> None:
    (row,) = node_rows(node(turn([1], [2]), turn([1, 2, 3], []), turn([1, 2, 3, 4], [5])))
    assert as_lists(row)[:2] == ([1, 2, 3, 4, 5], [False, True, False, False, True])
    assert node_rows(node(turn([1], []))) == []
    assert node_rows(node()) == []


@pytest.mark.parametrize(
    ("versions", "oldest"),
    [(["10", "9", "11"], "9"), (["b", "a"], "b"), (["3", None], "3"), ([None, "3"], None), (["x", "1"], "x")],
)
def test_a_row_has_its_oldest_version(versions: list[str | None], oldest: str | None) -> None:
    turns = [turn(range(1, 2 * i + 2), [2 * i + 2], version) for i, version in enumerate(versions)]
    (row,) = node_rows(node(*turns))
    assert row.version == oldest


@st.composite
def conversations(draw: Any) -> list[Turn]:
    """Append-only turns with forks at random places. A tiny vocabulary, so that prefixes agree by chance too."""
    ids = st.lists(st.integers(0, 2), max_size=4)
    seen: list[int] = []
    turns: list[Turn] = []
    for _ in range(draw(st.integers(0, 6))):
        kept = draw(st.just(len(seen)) | st.integers(0, len(seen)))
        prompt = [*seen[:kept], *draw(ids)] or [0]
        completion = draw(ids)
        logprobs = draw(st.lists(st.floats(-50, 0, width=32), min_size=len(completion), max_size=len(completion)))
        forks = prompt[: len(seen)] != seen
        turns.append(Turn(tuple(prompt), tuple(completion), tuple(logprobs), forks=forks))
        seen = [*prompt, *completion]
    return turns


@given(conversations())
def test_every_sampled_token_is_in_one_row_once_behind_what_it_was_sampled_after(turns: list[Turn]) -> None:
    rows = node_rows(node(*turns))
    sampled = [
        (tuple(ids[: place + 1]), logprob)
        for ids, mask, logprobs in map(as_lists, rows)
        for place, (made, logprob) in enumerate(zip(mask, logprobs, strict=True))
        if made
    ]
    assert sampled == [
        ((*made.prompt, *made.completion[: i + 1]), logprob)
        for made in turns
        for i, logprob in enumerate(made.logprobs)
    ]
    assert all(not row.logprobs[~row.completion_mask].any() for row in rows)
    assert TreeRows(tree([]), {"0": rows}).sizes["0"].completion_tokens == sum(len(made.completion) for made in turns)


@given(conversations())
def test_rows_are_cut_at_forks_and_nowhere_else(turns: list[Turn]) -> None:
    stretches: list[list[Turn]] = []
    for made in turns:
        if made.forks or not stretches:
            stretches.append([])
        stretches[-1].append(made)
    ends = [[*part[-1].prompt, *part[-1].completion] for part in stretches if any(made.completion for made in part)]
    rows = node_rows(node(*turns))
    assert [row.input_ids.tolist() for row in rows] == ends
    assert TreeRows(tree([]), {"0": rows, "0.0": []}).forks == max(0, len(ends) - 1)


@given(conversations())
def test_a_trace_gives_the_rows_of_the_live_tree(tmp_path_factory: pytest.TempPathFactory, turns: list[Turn]) -> None:
    path = tmp_path_factory.mktemp("traces") / "run.jsonl"
    with TraceWriter(path) as writer:
        for event in events(turns):
            writer.append(event)
    read = TreeRows.of(ExecutionTree.load(path)).rows["0"]
    assert list(map(as_lists, read)) == list(map(as_lists, node_rows(node(*turns))))


@pytest.mark.parametrize("missing", ["prompt_token_ids", "token_ids", "logprobs"])
def test_text_alone_is_refused_with_what_can_be_done(missing: str) -> None:
    exact: dict[str, Any] = {"prompt_token_ids": [1], "token_ids": [2], "logprobs": [-1.0]}
    made = ExecutionTree.from_events(
        [run_started(run="abc"), node_started(), model_called(step=4, **{**exact, missing: None})]
    )
    with pytest.raises(DataError, match=r"run abc, agent 0, step 4: .*interface='tokens'.*--objective imitation"):
        TreeRows.of(made)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (Turn((1,), (2,), (math.nan,)), "not a finite number"),
        (Turn((1,), (2, 3), (-1.0, -math.inf)), "not a finite number"),
        (Turn((1,), (2, 3), (-1.0, -9999.0)), "-9999 stands for minus infinity"),
        (Turn((1,), (2, 3), (-1.0, 0.5)), "a log-prob is above 0"),
        (Turn((1,), (2, 3), (-1.0,)), "1 log-probs for 2 sampled tokens"),
        (Turn((), (2,), (-1.0,)), "the prompt has no tokens"),
    ],
)
def test_what_cannot_be_trained_exactly_is_refused(made: Turn, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        node_rows(node(turn([1], [2]), made))


def test_sizes_are_those_of_the_rows() -> None:
    rows = TreeRows.of(tree([turn([1, 2], [3, 4]), turn([7], [8])], []))
    assert rows.sizes == {"0": Size(4, 3), "0.0": Size(0, 0)}


FORKED = [turn([1, 2], [3, 4], "5"), turn([7], [8], "6")]


def batch() -> list[Sample]:
    """Two attempts at one task: a root with a fork and a child; a root alone."""
    trees = [
        tree(FORKED, [turn([1], [2])], run="a", group="g", scores=[1.0, 0.0]),
        tree([turn([1], [2, 3])], run="b", group="g", scores=[0.0]),
    ]
    return with_credit(list(map(TreeRows.of, trees)), CreditConfig()).samples


def test_all_rows_of_a_node_have_its_credit() -> None:
    # R = 1, 0, 0; b_a = 0, b_b = 1; N_0 = 2, N_1 = 1, so w_0 = 3/4 and w_1 = 3/2.
    told = [(s.rollout, s.node, s.parent, s.depth, s.advantage, s.weight, s.coefficient, len(s)) for s in batch()]
    assert told == [
        ("a", "0", None, 0, 1.0, 0.75, 0.75, 4),
        ("a", "0", None, 0, 1.0, 0.75, 0.75, 2),
        ("a", "0.0", "0", 1, 0.0, 1.5, 0.0, 2),
        ("b", "0", None, 0, -1.0, 0.75, -0.75, 3),
    ]
    assert {s.group for s in batch()} == {"g"}


def test_sub_sampled_nodes_stand_for_the_others() -> None:
    trees = [
        tree([turn([1], [2])], [turn([1], [2])], [turn([1], [2])], run=run, group="g", scores=scores)
        for run, scores in (("a", [1.0, 1.0, 1.0]), ("b", [0.0, 0.0, 0.0]))
    ]
    credits = assign(trees, CreditConfig(max_nodes_per_depth=1), rng=random.Random(0))
    made = samples(list(map(TreeRows.of, trees)), credits)
    # N_0 = 2, N_1 = 4: w = 3/2 and 3/4, and the one node picked stands for 2 and for 4.
    assert [(each.depth, each.weight) for each in sorted(made, key=lambda each: each.depth)] == [(0, 3.0), (1, 3.0)]


def test_a_run_in_no_group_is_its_own() -> None:
    made = tree([turn([1], [2])], run="alone")
    credits = assign([tree([turn([1], [2])], group="g", scores=[score], run=str(score)) for score in (0.0, 1.0)])
    assert [each.group for each in samples([TreeRows.of(made)] * 2, credits)] == ["alone", "alone"]


def test_an_agents_run_is_one_row_a_node_with_every_token_it_sampled(tmp_path: Path) -> None:
    environment = make("textcraft")
    task = next(iter(environment.tasks("test", 0, level="easy", limit=1)))
    live = anyio.run(
        lambda: rollout(environment, task, EmbeddedModel(), AttemptSettings(trace_dir=tmp_path), seed=0)
    ).tree
    (path,) = tmp_path.iterdir()
    rows = TreeRows.of(live)
    assert len(rows.rows) > 1
    assert rows.forks == 0
    for name, size in rows.sizes.items():
        assert size.completion_tokens == live.nodes[name].usage.completion_tokens
    assert {name: list(map(as_lists, own)) for name, own in TreeRows.of(ExecutionTree.load(path)).rows.items()} == {
        name: list(map(as_lists, own)) for name, own in rows.rows.items()
    }


@pytest.mark.parametrize("train", [False, True])
def test_a_compaction_begins_a_new_row_and_its_summary_is_trained_by_the_switch(train: bool) -> None:
    def called(step: int, prompt: Sequence[int], completion: Sequence[int], **more: Any) -> Event:
        logprobs = tuple(-0.5 - i for i in range(len(completion)))
        tokens: dict[str, Any] = {"prompt_token_ids": prompt, "token_ids": completion, "logprobs": logprobs}
        return model_called("0", step, version="1", **tokens, **more)

    recorded = ExecutionTree.from_events(
        [
            run_started(interface="tokens"),
            node_started("0"),
            called(1, (1, 2), (3, 4)),
            called(2, (1, 2, 3, 4, 5), (6,)),
            called(3, (1, 2, 3, 4, 5, 6, 7), (8, 9), purpose="summary", train=train),
            called(3, (1, 2, 20, 8, 9, 6, 5), (10,), restart=True),
            called(4, (1, 2, 20, 8, 9, 6, 5, 10, 11), (12, 13)),
            node_ended("0"),
            RunEnded(time=0.0, status=Status.FINISHED, usage=Usage()),
            Scored(time=1.0, node="0", score=1.0),
        ]
    )
    first, second = node_rows(recorded.root)
    summary = [7, 8, 9] if train else []
    assert first.input_ids.tolist() == [1, 2, 3, 4, 5, 6, *summary]
    assert first.completion_mask.tolist() == [False, False, True, True, False, True, *([False, True, True] * train)]
    assert first.logprobs.tolist() == [0, 0, -0.5, -1.5, 0, -0.5, *([0, -0.5, -1.5] if train else [])]
    assert second.input_ids.tolist() == [1, 2, 20, 8, 9, 6, 5, 10, 11, 12, 13]
    assert second.completion_mask.tolist() == [False] * 7 + [True, False, True, True]
    whole = TreeRows.of(recorded)
    assert whole.forks == 1
    assert whole.sizes["0"].completion_tokens == 6 + 2 * train
    of_node = samples([whole], assign([recorded], CreditConfig(), sizes=[whole.sizes]))
    assert len({sample.coefficient for sample in of_node}) <= 1  # the summary has its agent's advantage
