"""The dialogue: what the counterpart says, and which agreements count for whom."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs.dialogue import Agenda, Dialogue, DialogueSession, make_agenda
from rao_rl.envs.dialogue.agenda import Wish, parse_plan, parse_topic
from recursive_agent import ConfigurationError, Status
from recursive_agent.tools import ToolContext

from .solving import Answered, solved

FRI = (("A", 80, 5), ("B", 40, 1), ("C", 50, 2), ("D", 70, 4), ("E", 60, 3), ("F", 75, 5))
SAT = (("A", 71, 5), ("B", 65, 3), ("C", 69, 4), ("D", 30, 1), ("E", 90, 5), ("F", 20, 2))
HAND = Agenda({"taxi": Wish(75, 2, 4)}, "fri", "sat", {("taxi", "fri"): FRI, ("taxi", "sat"): SAT})


def node(id: str) -> ToolContext:
    return ToolContext("t", id, id.rpartition(".")[0] or None, id.count("."), "g")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("wishes taxi", "at most 75, at least 2 stars"),
        ("taxi A fri", "too dear: at most 75"),
        ("taxi B fri", "at least 2 stars"),
        ("taxi C fri", "changed: now at least 4 stars"),
        ("taxi D fri", "agreed"),
        ("taxi F fri", "there is a cheaper one"),
        ("taxi C sat", "agreed"),
        ("confirm fri D", "changed: everything on sat"),
        ("confirm fri F", "no, that is not what we agreed on"),
        ("confirm sat C", "agreed"),
    ],
)
async def test_replies_worked_out_by_hand(said: str, reply: str) -> None:
    session = DialogueSession(HAND)
    assert [await session.say(said, ctx=node("0")) for _ in range(2)] == [reply, reply]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said", ["", "hello", "wishes bus", "taxi G fri", "taxi  fri", "taxi A mon", "confirm sat C C"]
)
async def test_what_is_not_understood_is_an_error_that_says_what_to_say(said: str) -> None:
    session = DialogueSession(HAND, window=1)
    with pytest.raises(ValueError, match="say 'wishes TOPIC'"):
        await session.say(said, ctx=node("0"))
    await session.say("wishes taxi", ctx=node("0"))  # an error costs nothing
    with pytest.raises(ValueError, match="you may not look at more replies"):
        await session.say("wishes taxi", ctx=node("0"))
    with pytest.raises(ValueError, match="nothing is on offer for 'bus' on 'fri'"):
        await session.options("bus", "fri")
    assert await session.options("taxi", "fri") == list(FRI)


@pytest.mark.anyio
async def test_an_agreement_counts_for_who_reached_it_and_who_asked_for_it_alone() -> None:
    session = DialogueSession(HAND)
    await session.say("taxi D fri", ctx=node("0.0"))
    await session.say("confirm sat C", ctx=node("0"))
    settle, plan = "Settle taxi on fri", {"day": "sat", "taxi": "C"}
    assert await session.score(Answered(goal=settle, result="D", id="0.0")) == 1.0
    assert await session.score(Answered(goal=settle, result="D", id="0")) == 1.0
    assert await session.score(Answered(goal=settle, result="D", id="0.1")) == 0.0
    assert await session.score(Answered(goal=settle, result="F", id="0.0")) == 0.0
    assert await session.score(Answered(goal=settle, result="D", id="0.0", status=Status.STEP_LIMIT)) == 0.0
    assert await session.score(Answered(goal="Settle taxi on sat", result="C", id="0.0")) == 0.0  # not agreed by it
    assert await session.score(Answered(goal="Plan taxi on fri", result=plan, id="0")) == 1.0
    assert await session.score(Answered(goal="Plan taxi on fri", result=plan, id="0.0")) == 0.0
    wrongs: list[object] = [{"day": "fri", "taxi": "C"}, {"taxi": "C"}, "C", None, {**plan, "bus": "A"}]
    for wrong in wrongs:
        assert await session.score(Answered(goal="Plan taxi on fri", result=wrong, id="0")) == 0.0
    assert session.unparsed == set()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "goal",
    ["Plan taxi on sat", "Plan taxi,hotel on fri", "Settle bus on fri", "Settle taxi on mon", "settle taxi on fri"],
)
async def test_goals_outside_the_grammar_or_the_plan_score_0(goal: str) -> None:
    session = DialogueSession(HAND)
    await session.say("taxi D fri", ctx=node("0.0"))
    assert await session.score(Answered(goal=goal, result="D", id="0.0")) == 0.0
    assert session.unparsed == {"0.0"}


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=40)
def test_exactly_one_offer_and_one_plan_are_agreed_on(seed: int, count: int) -> None:
    agenda = make_agenda(str(seed), count)
    assert agenda.day != agenda.later
    for (topic, day), options in agenda.options.items():
        replies = [agenda.reply(f"{topic} {letter} {day}") for letter in "ABCDEF"]
        wish = agenda.wishes[topic]
        fits = [price <= wish.price and stars >= wish.later for _, price, stars in options]
        cheapest = min(price for (_, price, _), fit in zip(options, fits, strict=True) if fit)
        agreed = [reply == "agreed" for reply in replies]
        assert agreed == [fit and price == cheapest for (_, price, _), fit in zip(options, fits, strict=True)]
        assert agreed.count(True) == 1
        assert agenda.choice(topic, day) == "ABCDEF"[agreed.index(True)]
        if day == agenda.day:  # who offers the best by the first wishes is told of the change
            first = min((p, letter) for letter, p, s in options if p <= wish.price and s >= wish.stars)[1]
            assert agenda.reply(f"{topic} {first} {day}") == f"changed: now at least {wish.later} stars"


@given(st.text(max_size=30))
def test_any_text_has_a_reply_or_is_refused(text: str) -> None:
    with suppress(ValueError):
        assert HAND.reply(text)


def test_goals_are_read() -> None:
    assert parse_plan("Plan hotel, taxi on fri") == (["hotel", "taxi"], "fri")
    assert parse_topic("Settle hotel on fri") == ("hotel", "fri")


def test_goals_from_outside() -> None:
    env = Dialogue()
    agenda = make_agenda("dialogue/own/3", 4)
    goal = f"Plan {', '.join(agenda.wishes)} on {agenda.day}"
    task = env.task(goal, 3)
    assert (task.data["topics"], task.level) == (4, None)
    topic = next(iter(agenda.wishes))
    assert env.task(f"Settle {topic} on {agenda.later}", 3).returns is str
    with pytest.raises(ConfigurationError, match=f"the plan of seed 3 is '{goal}'"):
        env.task("Settle boat on fri", 3)


def test_the_levels_are_named_for_the_turns_of_one_agent() -> None:
    env = Dialogue(mode="single")
    for level in env.levels:
        (tree,) = anyio.run(solved, env, "single", list(env.tasks("test", level=level, limit=1)))
        said = sum(call.name == "say" for step in tree.root.steps for call in step.calls)
        assert int(level.removesuffix("-turns")) - 4 <= said <= int(level.removesuffix("-turns"))
