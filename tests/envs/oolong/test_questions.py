"""The grammar of goals, and answers against a count by other means."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs.oolong.facts import SUBJECT, Fact, Filter, Kind
from rao_rl.envs.oolong.grading import grade, list_precision, official_score, strict_score
from rao_rl.envs.oolong.questions import Form, Question, parse_goal

KINDS: list[Kind] = ["casts", "rolls", "hits"]
NAMES = {"casts": ["Ember", "Frost", "Gale"], "rolls": ["Stealth", "Arcana"], "hits": ["wolf", "ogre"]}
WHO = ["Mara", "Edda", "Falk"]

FACTS = [
    Fact("casts", 1, 1, "Mara", "Ember", 0),
    Fact("casts", 1, 4, "Edda", "Frost", 0),
    Fact("rolls", 2, 1, "Mara", "Stealth", 20),
    Fact("casts", 3, 2, "Mara", "Ember", 0),
    Fact("hits", 3, 3, "Edda", "wolf", 7),
    Fact("hits", 5, 1, "Edda", "wolf", 4),
    Fact("rolls", 5, 2, "Falk", "Arcana", 20),
]


@pytest.mark.parametrize(
    ("goal", "value", "accepted"),
    [
        ("How many casts of Ember by Mara are there?", 2, ()),
        ("How many casts are there?", 3, ()),
        ("How many rolls of 20 are there?", 2, ()),
        ("How many rolls of 20 for Stealth by Mara are there?", 1, ()),
        ("How many hits on ogre are there?", 0, ()),
        ("What is the total damage of hits on wolf?", 11, ()),
        ("How many casts are there for each spell?", {"Ember": 2, "Frost": 1}, ()),
        ("How many casts of Ember are there for each character?", {"Mara": 2}, ()),
        ("How many hits are there for each episode?", {3: 1, 5: 1}, ()),
        ("Which spell has the most casts?", "Ember", ("Ember",)),
        ("Which spell has the fewest casts?", "Frost", ("Frost",)),
        ("Which character has the most rolls of 20?", "Falk", ("Falk", "Mara")),
        ("Which episode has the most casts?", 1, (1,)),
        ("Which skill has the most rolls of 7?", "none", ("none",)),
        (
            "Are casts of Ember more common than casts of Frost, less common, or of the same frequency?",
            "more common",
            (),
        ),
        ("Are casts by Edda more common than casts by Mara, less common, or of the same frequency?", "less common", ()),
        ("Are hits on ogre more common than hits on imp, less common, or of the same frequency?", "same frequency", ()),
        ("Which spells have casts by Mara?", ["Ember"], ()),
        ("Which characters have rolls?", ["Falk", "Mara"], ()),
        ("Which episodes have hits on wolf?", [3, 5], ()),
        ("How many episodes have casts of Ember?", 2, ()),
        ("What is the first episode with hits by Edda?", 3, ()),
        ("What is the last episode with rolls?", 5, ()),
        ("What is the first episode with hits by Mara?", 0, ()),
    ],
)
def test_answers_by_hand(goal: str, value: object, accepted: tuple[str | int, ...]) -> None:
    question = parse_goal(goal)
    assert question is not None
    assert str(question) == goal
    gold = question.answer(FACTS)
    assert gold.value == value
    assert gold.accepted == frozenset(accepted)
    for answer in accepted or (value,):
        assert strict_score(gold, answer) == official_score(gold, answer) == 1.0


@pytest.mark.parametrize(
    "goal",
    [
        "",
        "How many casts of Ember are there",
        "how many casts of Ember are there?",
        "How many casts of Ember are there? The answer is 2.",
        "How many casts of Ember are there?\n",
        "How many casts  of Ember are there?",
        "How many casts by Mara of Ember are there?",
        "How many casts on wolf are there?",
        "How many casts of ember are there?",
        "How many rolls of 0 are there?",
        "How many rolls of 100 are there?",
        "How many spells are there?",
        "How many casts of Ember are there for each spell?",
        "How many casts are there for each skill?",
        "How many casts are there for each sword?",
        "What is the total damage of casts?",
        "What is the second episode with casts?",
        "Which spell has the least casts?",
        "Which spells has the most casts?",
        "Which spell have casts?",
        "Which character has the most casts by Mara?",
        "Are casts of Ember more common than casts of Ember, less common, or of the same frequency?",
        "Are casts of Ember more common than hits on wolf, less common, or of the same frequency?",
        "Are casts of Ember by Mara more common than casts of Frost by Edda, less common, or of the same frequency?",
        "Are casts more common than casts of Frost, less common, or of the same frequency?",
        "How many casts of " + "E" + "m" * 400 + " are there?",
    ],
)
def test_goals_outside_the_grammar_are_none(goal: str) -> None:
    assert parse_goal(goal) is None


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    kind = draw(st.sampled_from(KINDS))
    value = draw(st.none() | st.integers(1, 20)) if kind == "rolls" else None
    return Filter(kind, draw(st.none() | st.sampled_from(NAMES[kind])), draw(st.none() | st.sampled_from(WHO)), value)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    about = draw(filters())
    forms: list[Form] = ["count", "tally", "most", "fewest", "names", "episodes", "first", "last"]
    form = draw(st.sampled_from([*forms, "damage"] if about.kind == "hits" else forms))
    if draw(st.booleans()) and about.what is not None:
        other = draw(st.sampled_from([name for name in NAMES[about.kind] if name != about.what]))
        return Question("compare", about, SUBJECT[about.kind], replace(about, what=other))
    by = draw(st.sampled_from(about.open)) if form in ("tally", "most", "fewest", "names") else None
    return Question(form, about, by)


@st.composite
def facts(draw: st.DrawFn) -> Fact:
    kind = draw(st.sampled_from(KINDS))
    value = 0 if kind == "casts" else draw(st.integers(1, 20))
    return Fact(kind, draw(st.integers(1, 5)), 1, draw(st.sampled_from(WHO)), draw(st.sampled_from(NAMES[kind])), value)


@given(questions())
def test_every_question_is_read_back(question: Question) -> None:
    assert parse_goal(str(question)) == question


@given(questions(), st.lists(facts(), max_size=12))
def test_answers_equal_a_count_by_other_means(question: Question, drawn: list[Fact]) -> None:
    about = question.about
    rows = [
        (fact.episode, fact.who, fact.what, fact.value)
        for fact in drawn
        if fact.kind == about.kind
        and fact.who == (about.who or fact.who)
        and fact.what == (about.what or fact.what)
        and fact.value == (about.value or fact.value)
    ]
    place = {"episode": 0, "character": 1}.get(question.by or "", 2)
    names = [row[place] for row in rows]
    gold = question.answer(drawn)
    expected: object
    match question.form:
        case "count":
            expected = len(rows)
        case "damage":
            expected = sum(row[3] for row in rows)
        case "tally":
            expected = {name: names.count(name) for name in names}
        case "names":
            expected = sorted(set(names), key=str)
        case "episodes":
            expected = len({row[0] for row in rows})
        case "first":
            expected = min([row[0] for row in rows], default=0)
        case "last":
            expected = max([row[0] for row in rows], default=0)
        case "compare":
            assert question.other is not None
            there = len(list(question.other.of(drawn)))
            expected = ["same frequency", "more common", "less common"][(len(rows) > there) - (len(rows) < there)]
        case _:
            counts = Counter(names).most_common()
            best = (counts[0] if question.form == "most" else counts[-1])[1] if counts else None
            assert gold.accepted == ({name for name, count in counts if count == best} or {"none"})
            expected = gold.value
            assert gold.value in gold.accepted
    assert gold.value == expected
    for scoring in ("strict", "official"):
        assert grade(gold, gold.value, "strict" if scoring == "strict" else "official") == 1.0


ANSWERS = st.none() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=9), max_size=3) | st.booleans()


@settings(max_examples=50)
@given(questions(), st.lists(facts(), max_size=6), ANSWERS)
def test_any_answer_has_a_score(question: Question, drawn: list[Fact], answer: object) -> None:
    gold = question.answer(drawn)
    assert 0 <= strict_score(gold, answer) <= 1
    assert 0 <= official_score(gold, answer) <= 1
    share = list_precision(gold, answer)
    assert share is None or 0 <= share <= 1


def test_where_the_two_scores_differ() -> None:
    (names, count) = (parse_goal("Which characters have rolls?"), parse_goal("How many casts are there?"))
    assert names is not None
    assert count is not None
    gold = names.answer(FACTS)
    everyone = ["Falk", "Mara", "Edda", "Jorun"]
    assert official_score(gold, everyone) == 1.0
    assert strict_score(gold, everyone) == pytest.approx(2 / 3)
    assert list_precision(gold, everyone) == 0.5
    assert (official_score(gold, ["falk", "mara"]), strict_score(gold, ["falk", "mara"])) == (0.0, 1.0)
    number = count.answer(FACTS)
    assert (
        official_score(number, "I have counted exactly 4 of them"),
        strict_score(number, "I counted 4 of them"),
    ) == (
        0.0,
        0.75,
    )
    assert list_precision(number, 3) is None
