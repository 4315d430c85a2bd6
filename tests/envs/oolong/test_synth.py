"""Tasks about our own transcripts, and the score of every agent from its own question and its own context."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from typing import Any

import pytest

from rao_rl.envs import Demonstrating, Task, UnknownGoal, make, open_session
from rao_rl.envs.oolong import OolongSynth
from rao_rl.envs.oolong.questions import parse_goal
from rao_rl.envs.oolong.tasks import FAMILIES, LEVELS
from rao_rl.envs.oolong.transcript import make_transcript
from recursive_agent import ConfigurationError, Status
from tests.envs.oolong.parts import node

GOAL = "How many casts are there?"


def gold(task: Task, goal: str, context: str) -> Any:
    """The answer to a goal from a context, by hand: of each line, what the transcript says that it reports."""
    made = make_transcript(task.data["transcript"], task.data["tokens"])
    facts = [fact for line, fact in zip(made.lines, made.facts, strict=True) if line in context and fact is not None]
    question = parse_goal(goal)
    assert question is not None
    return question.answer(facts).value


@pytest.fixture(scope="module")
def task() -> Task:
    return next(OolongSynth().tasks("test", 3, "8k", 1))


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_tasks_are_the_same_everywhere() -> None:
    tasks = [*OolongSynth().tasks("test", 0, "8k", 10), *OolongSynth().tasks("train", 1, "16k", 10)]
    said = "\n".join(f"{task.id} {task.goal} {sha256(task.context.encode()).hexdigest()}" for task in tasks)
    assert sha256(said.encode()).hexdigest()[:16] == "0769d11a6bf00116"


def test_tasks_ask_each_family_about_texts_of_the_level() -> None:
    tasks = list(OolongSynth().tasks("validation", 0, "8k", 2 * len(FAMILIES)))
    assert [task.data["family"] for task in tasks] == [*FAMILIES, *FAMILIES]
    assert len({task.id for task in tasks}) == len(tasks)
    assert len({task.context for task in tasks}) == 2
    for task in tasks:
        assert parse_goal(task.goal) is not None
        assert (task.level, 32_600 < len(task.context) <= 32_768) == ("8k", True)
        made = make_transcript(task.data["transcript"], task.data["tokens"])
        assert made.text == task.context
        assert task.goal not in made.text


def test_splits_and_seeds_share_no_text() -> None:
    environment = OolongSynth()
    texts = [next(environment.tasks(split, seed, "8k", 1)).context for split in environment.splits for seed in (0, 1)]
    assert len(set(texts)) == len(texts)


def test_all_levels_come_in_turn_and_one_level_as_often_as_asked() -> None:
    environment = OolongSynth()
    assert [task.level for task in environment.tasks("test", limit=3)] == ["8k", "16k", "32k"]
    assert list(environment.tasks("test", limit=0)) == []
    assert sum(1 for _ in environment.tasks("validation", 0, "8k")) == 30
    assert sum(1 for _ in environment.tasks("validation", 0, "8k", 33)) == 33
    assert tuple(environment.levels) == tuple(LEVELS) == ("8k", "16k", "32k", "64k", "128k", "256k", "512k", "1m")


def test_levels_may_be_of_any_length() -> None:
    environment = OolongSynth(lengths="16k, 512,2k,1024k")
    assert environment.levels == ("16k", "512", "2k", "1024k")
    assert environment.taught == ["512", "2k"]  # the shortest two
    assert [task.level for task in environment.tasks("test", limit=3)] == ["16k", "512", "2k"]
    for level, tokens in (("512", 512), ("2k", 2048)):
        for task in environment.tasks("train", 0, level, 7):
            assert (task.level, tokens * 4 - 120 < len(task.context) <= tokens * 4) == (level, True)
            assert (task.id.split("/")[3], task.data["tokens"]) == (level, tokens)
    # What a level is called by default, and what it contains, does not depend on the others.
    assert next(environment.tasks("test", 0, "16k", 1)) == next(OolongSynth().tasks("test", 0, "16k", 1))
    assert sum(1 for _ in make("oolong-synth", lengths=64).tasks("validation")) == 30  # --env-set gives a number


def test_answers_are_rarely_what_one_would_say_without_reading() -> None:
    said = [task for task in OolongSynth().tasks("train", 5, "8k", 100) if "episode with" in task.goal]
    values = [gold(task, task.goal, task.context) for task in said]
    assert len(said) > 5
    assert sum(value in (0, 1) for value in values) <= len(values) // 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scoring": "lenient"}, "scoring must be one of official, strict"),
        ({"reading": "tool"}, "reading must be one of code, print"),
        ({"mode": "alone"}, "mode must be one of single, recursive"),
        ({"rules": "yes"}, "rules must be one of True, False"),
        ({"taught": "8k,9k"}, "level must be one of .*not '9k'"),
        ({"taught": ""}, "level must be one of .*not ''"),
        (
            {"lengths": "8k,16k", "taught": "32k"},
            "level must be one of .*8k.*16k.*not '32k'",
        ),
        ({"lengths": "8k,"}, "a length reads 512, 2k or 1m and is from 64 tokens to 1m, not ''"),
        ({"lengths": "63"}, "not '63'"),
        ({"lengths": "1025k"}, "not '1025k'"),
        ({"lengths": "2m"}, "not '2m'"),
        ({"lengths": "08k"}, "not '08k'"),
        ({"lengths": "1.5k"}, "not '1.5k'"),
        ({"lengths": "easy"}, "not 'easy'"),
        ({"leaf": 0}, "leaf must be a whole number"),
        ({"leaf": 2.5}, "leaf must be a whole number"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make("oolong-synth", **arguments)


def test_unknown_splits_levels_goals_and_tasks_are_refused() -> None:
    environment = OolongSynth()
    with pytest.raises(ConfigurationError, match=r"split must be one of train, .*, not 'dev'"):
        environment.tasks("dev")
    with pytest.raises(ConfigurationError, match=r"level must be one of 8k, .*, not '2m'"):
        environment.tasks("test", 0, "2m")
    with pytest.raises(ConfigurationError, match="limit must not be negative"):
        environment.tasks("test", limit=-1)
    with pytest.raises(UnknownGoal, match="a goal reads like"):
        environment.task("How many spells?")
    with pytest.raises(ConfigurationError, match="is not a task of this environment"):
        environment.session(Task(id="else", goal=GOAL, data={"transcript": 3}))


def test_any_question_is_a_task_of_its_own() -> None:
    environment = OolongSynth()
    task = environment.task(GOAL, seed=4)
    assert task.returns is int
    assert open_session(environment, task).tools
    assert environment.task(GOAL, seed=5).context != task.context


def test_demonstrations_are_of_the_levels_taught() -> None:
    environment = OolongSynth(taught="8k, 16k")
    assert isinstance(environment, Demonstrating)
    assert [shown.task.level for shown in islice(environment.demonstrations(), 4)] == ["8k", "16k", "8k", "16k"]
    assert (OolongSynth(mode="single").max_depth, environment.max_depth > 0) == (0, True)


def test_the_rules_reach_every_agent_through_a_tool() -> None:
    environment = OolongSynth()
    (rules,) = environment.session(environment.task(GOAL)).tools
    assert "Do not count" in (rules.__doc__ or "")
    for line in (rules.__doc__ or "").splitlines():
        if " -> " in line:
            assert parse_goal(line.partition(" -> ")[0]) is not None, line
    assert OolongSynth(rules=False).session(environment.task(GOAL)).tools == ()


# -- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_root_and_children_are_scored_from_their_own_context(task: Task) -> None:
    session = OolongSynth().session(task)
    made = session.transcript
    whole, half = gold(task, GOAL, task.context), task.context[: len(task.context) // 2]
    part = gold(task, GOAL, half)
    assert 1 < part < whole
    assert await session.score(node(GOAL, task.context, whole)) == 1.0
    assert await session.score(node(GOAL, task.context, whole + 2)) == 0.5625
    assert await session.score(node(GOAL, task.context, part)) == 0.75 ** (whole - part)
    assert await session.score(node(GOAL, half, part, id="0.0")) == 1.0
    assert await session.score(node(GOAL, half, whole, id="0.1")) == 0.75 ** (whole - part)
    assert await session.score(node(GOAL, made.lines[4:9], gold(task, GOAL, "\n".join(made.lines[4:9])), id="0.2")) == 1
    tally = "How many casts are there for each spell?"
    assert await session.score(node(tally, half, gold(task, tally, half), id="0.3")) == 1.0
    assert await session.score(node(tally, half, {}, id="0.4")) == 0.0
    assert (session.unparsed, session.unverified) == (set(), set())


@pytest.mark.anyio
async def test_wrong_goals_forged_contexts_and_unfinished_agents_score_nothing(task: Task) -> None:
    session = OolongSynth().session(task)
    text = task.context
    whole = gold(task, GOAL, text)
    forged = "[1:1] Mara casts Ember."
    for number, (goal, context, result, status) in enumerate(
        [
            ("Count the casts.", text, whole, Status.FINISHED),
            (f"{GOAL} The answer is {whole}", text, whole, Status.FINISHED),
            (GOAL, forged, 1, Status.FINISHED),
            (GOAL, text + forged, whole + 1, Status.FINISHED),
            (GOAL, text.replace("casts", "wants"), 0, Status.FINISHED),
            (GOAL, "", 0, Status.FINISHED),
            (GOAL, None, 0, Status.FINISHED),
            (GOAL, {"text": text}, whole, Status.FINISHED),
            (GOAL, text, None, Status.STEP_LIMIT),
            (GOAL, text, whole, Status.TOKEN_LIMIT),
            ("How many rolls are there?", text, whole + 400, Status.FINISHED),
            (GOAL, text, str(whole) * 30, Status.FINISHED),
        ]
    ):
        score = await session.score(node(goal, context, result, id=f"0.{number}", status=status))
        assert score == pytest.approx(0.0, abs=1e-9), (goal, result)
    assert session.unparsed == {"0.0", "0.1"}
    assert session.unverified == {f"0.{number}" for number in range(2, 8)}


@pytest.mark.anyio
async def test_the_two_scorings_and_the_metrics(task: Task) -> None:
    goal = "Which spells have casts?"
    spells = gold(task, goal, task.context)
    more = [*spells, "Nothing", "Nowhere"]
    answer = node(goal, task.context, more)
    strict, official = OolongSynth().session(task), OolongSynth(scoring="official").session(task)
    f1 = 2 * len(spells) / (2 * len(spells) + 2)
    assert (await strict.score(answer), await official.score(answer)) == (pytest.approx(f1), 1.0)
    for session in (strict, official):
        assert session.metrics(answer) == pytest.approx(
            {"official": 1.0, "strict": f1, "precision": len(spells) / len(more), "read": 0.0}
        )
    assert strict.metrics(node(goal, task.context, more, status=Status.STEP_LIMIT)) == {
        "official": 0.0,
        "strict": 0.0,
        "read": 0.0,
    }
    assert strict.metrics(node("Count.", task.context, 1)) == {}


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_with_reading_print_an_answer_counts_once_every_line_was_read(task: Task) -> None:
    session = OolongSynth(reading="print").session(task)
    lines = list(session.transcript.lines[:60])
    text = "\n".join(lines)
    right = gold(task, GOAL, text)
    first, second, third = ("\n".join(lines[at : at + 20]) for at in (0, 20, 40))

    def agent(id: str, *shown: str, children: Any = ()) -> Any:
        return node(GOAL, text, right, id=id, shown=("goal", *shown), children=tuple(children))

    def child(id: str, context: str, shown: str, status: Status = Status.FINISHED) -> Any:
        return node(GOAL, context, 0, id=id, shown=("goal", shown), status=status)

    assert await session.score(agent("0", text)) == 1.0
    assert await session.score(agent("1", first, second, third)) == 1.0
    assert await session.score(agent("2", repr(text))) == 1.0  # the value of an expression, as Python writes it
    assert await session.score(agent("3", first, third)) == 0.0
    assert await session.score(agent("4", str(right))) == 0.0  # counted by code, never looked at
    assert await session.score(agent("5", text[:-1])) == 0.0  # the last line was cut where it was shown
    delegated = agent("6", first, children=[child("6.0", second, second), child("6.1", third, third)])
    assert await session.score(delegated) == 1.0
    # A sub-agent that has the lines but does not look at them, or does not finish, has read nothing.
    unread = [child("7.0", second, second), child("7.1", third, "3")]
    assert await session.score(agent("7", first, children=unread)) == 0.0
    assert session.share_read(agent("8", first, children=unread[:1])) == pytest.approx(2 / 3)
    lost = [child("9.0", second, second, Status.STEP_LIMIT), child("9.1", third, third)]
    assert await session.score(agent("9", first, children=lost)) == 0.0
    assert session.metrics(agent("9", first, children=lost))["read"] == pytest.approx(2 / 3)
    assert await OolongSynth().session(task).score(agent("4", str(right))) == 1.0
