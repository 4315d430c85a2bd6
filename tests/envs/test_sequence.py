"""The sequence: questions, answers and the window."""

from __future__ import annotations

from collections.abc import Sequence as Pages
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs import make
from rao_rl.envs.sequence import KINDS, Entry, Question, Sequence, SequenceSession, gold, make_pages, parse_goal
from recursive_agent import ConfigurationError, Status
from recursive_agent.tools import ToolContext

from .solving import Answered, solved

PAGES = [[("amy", 5), ("ben", -2), ("amy", -9)], [("ben", 4), ("ben", 3)], [("amy", 6), ("amy", 1), ("ben", -8)]]


def brute_force(pages: Pages[Pages[Entry]], question: Question) -> Any:
    """Entry by entry, with every number that is ever asked for."""
    total = count = peak = 0
    last = None
    for number, page in enumerate(pages):
        for name, amount in page:
            if question.first <= number < question.end and name == question.name:
                total, count, last = total + amount, count + 1, amount
                if total > peak:
                    peak = total
    return {"balance": total, "count": count, "last": last, "peak": [total, peak]}[question.kind]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("goal", "answer"),
    [
        ("balance of amy on pages 0:1", -4),
        ("balance of amy on pages 0:3", 3),
        ("count of ben on pages 1:3", 3),
        ("last of amy on pages 0:2", -9),
        ("last of amy on pages 1:2", None),
        ("peak of amy on pages 0:3", [3, 5]),
        ("peak of ben on pages 0:3", [-3, 5]),
        ("peak of ben on pages 2:3", [-8, 0]),
    ],
)
async def test_answers_worked_out_by_hand(goal: str, answer: Any) -> None:
    session = SequenceSession(PAGES)
    assert await session.score(Answered(goal=goal, result=answer)) == 1.0
    for wrong in (99, [3, 4], "3", True, 0.0, [-4]):
        assert await session.score(Answered(goal=goal, result=wrong)) == 0.0
    assert await session.score(Answered(goal=goal, result=answer, status=Status.CANCELLED)) == 0.0


@pytest.mark.anyio
async def test_the_answer_to_another_goal_is_wrong() -> None:
    session = SequenceSession(PAGES)
    assert await session.score(Answered(goal="balance of amy on pages 0:1", result=3)) == 0.0
    assert session.unparsed == set()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "goal",
    [
        "balance of amy on pages 0:4",
        "balance of amy on pages 1:1",
        "balance of amy on pages 2:1",
        "balance of amy on pages 00:1",
        "balance of amy on pages -1:1",
        "balance of amy on pages 0:1 ",
        "balance of Amy on pages 0:1",
        "balance of zoe on pages 0:1",
        "sum of amy on pages 0:1",
        "balance of amy on pages ٠:1",
    ],
)
async def test_goals_outside_the_grammar_or_the_sequence_score_0(goal: str) -> None:
    session = SequenceSession(PAGES)
    assert await session.score(Answered(goal=goal, result=0, id="0.3")) == 0.0
    assert session.unparsed == {"0.3"}


@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.data())
@settings(max_examples=40)
def test_gold_equals_brute_force_on_every_stretch(seed: int, kind: Any, data: st.DataObject) -> None:
    pages = make_pages(str(seed), 6)
    first = data.draw(st.integers(0, 5))
    question = Question(kind, data.draw(st.sampled_from(pages[0]))[0], first, data.draw(st.integers(first + 1, 6)))
    assert gold(pages, question) == brute_force(pages, question)
    assert parse_goal(str(question)) == question


def test_a_goal_from_outside_asks_about_the_longest_sequence() -> None:
    env = Sequence()
    name = make_pages("sequence/own/2", 1)[0][0][0]
    task = env.task(f"count of {name} on pages 3:7", seed=2)
    assert (task.data["pages"], task.level, task.returns) == (100, None, int)
    assert len(env.session(task).pages) == 100
    with pytest.raises(ConfigurationError, match="there are 100 pages"):
        env.task(f"count of {name} on pages 3:101", seed=2)
    with pytest.raises(ConfigurationError, match="zzz is not in the sequence of seed 2; it has "):
        env.task("count of zzz on pages 3:7", seed=2)


@pytest.mark.anyio
async def test_a_window_limits_what_one_agent_reads_but_not_its_siblings() -> None:
    session = SequenceSession(PAGES, window=2)
    one, other = (ToolContext("t", node, "0", 1, "g") for node in ("0.0", "0.1"))
    assert await session.read(0, ctx=one) == PAGES[0]
    assert await session.read(0, ctx=one) == PAGES[0]
    with pytest.raises(ValueError, match="you may not look at more pages: the limit for one agent is 2"):
        await session.read(1, ctx=one)
    assert await session.read(1, ctx=other) == PAGES[1]
    for page in (-1, 3):
        with pytest.raises(ValueError, match=f"there is no page {page}: the pages are 0 to 2"):
            await session.read(page, ctx=other)


@pytest.mark.anyio
async def test_with_a_window_only_delegation_reaches_the_longer_levels() -> None:
    env = Sequence(window=5)
    (task,) = env.tasks("test", level="10k", limit=1)
    (tree,) = await solved(env, "recursive", [task])
    assert tree.root.score == 1.0
    shown = Sequence(mode="single", window=5).demonstrations()
    assert {next(shown).task.level for _ in range(5)} == {"2k"}
    for window in (0, -1, True, "5"):
        with pytest.raises(ConfigurationError, match="window must be a whole number of at least 1"):
            make("sequence", window=window)
