"""What a question means: the answer wherever and however it is stated, and nothing for anything else."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.envs.oolong import strict


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (17, 17),
        (17.0, 17),
        (17.5, None),
        (True, None),
        (None, None),
        ([17], None),
        ("17", 17),
        ("17.", 17),
        ("17.0", 17),
        ("-3", -3),
        ("1,234", 1234),
        ("**17**", 17),
        ("seventeen", 17),
        ("Answer: 17", 17),
        ("The answer is 17.", 17),
        ("The answer is 17, not 18.", 17),
        ("Answer: 12 + 5 = 17", 17),
        (r"\boxed{17}", 17),
        (r"First \boxed{3}, finally \boxed{\text{17}}", 17),
        ("I count 12 there and 5 here, so there are 17", 17),
        ("I count 12.\n**Answer:** 17\nThank you", 17),
        ("10-12", 12),
        ("3, 5, 7", None),
        ("d20", None),
        ("2.5", None),
        ("none", None),
        ("", None),
        ("9" * 5_000, None),
    ],
)
def test_numbers(value: object, number: int | None) -> None:
    assert strict.number(value) == number


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_numbers_score_by_their_distance_in_every_wording(gold: int, found: int) -> None:
    score = 0.75 ** min(abs(gold - found), 1_000)
    for words in (found, str(found), f"Answer: {found}", rf"\boxed{{{found}}}", f"It is {found:,}.", f"**{found}**"):
        assert strict.score_number(gold, words) == score


@pytest.mark.parametrize(
    ("value", "score"),
    [
        ("Mara", 1.0),
        ("mara", 1.0),
        ("'Mara'.", 1.0),
        ("Label: Mara", 1.0),
        ("The answer is **Mara**", 1.0),
        (r"\boxed{\text{Mara}}", 1.0),
        ("Mara and Edda", 0.0),
        ("Amara", 0.0),
        (None, 0.0),
        (3, 0.0),
    ],
)
def test_names(value: object, score: float) -> None:
    assert strict.score_name(["Mara"], value) == score


@pytest.mark.parametrize(
    ("value", "phrase"),
    [
        ("more common", "more common"),
        ("Ham is more common than spam.", "more common"),
        ("Answer: less frequent", "less common"),
        ("They have the same frequency", "same frequency"),
        ("equally common", "same frequency"),
        ("more common or less common", None),
        ("ham", None),
        (1, None),
    ],
)
def test_phrases(value: object, phrase: str | None) -> None:
    assert strict.phrase(value) == phrase


@pytest.mark.parametrize(
    ("gold", "value", "score"),
    [
        (["Ember", "Frost"], ["frost", "EMBER"], 1.0),
        (["Ember", "Frost"], "Ember, Frost", 1.0),
        (["Ember", "Frost"], "Answer: Ember and Frost", 1.0),
        (["Ember", "Frost"], r"\boxed{Ember, Frost}", 1.0),
        (["Ember", "Frost"], ["Ember"], 2 / 3),
        (["Ember", "Frost"], ["Ember", "Frost", "Gale", "Veil"], 2 / 3),
        (["Ember"], [], 0.0),
        ([], [], 1.0),
        ([], "none", 1.0),
        ([], ["Ember"], 0.0),
        ([3, 5], [5, 3], 1.0),
        ([3, 5], [True, 3], 0.0),
        (["Ember"], [["Ember"]], 0.0),
        (["Ember"], None, 0.0),
    ],
)
def test_lists_are_scored_by_f1(gold: list[object], value: object, score: float) -> None:
    assert strict.score_list(gold, value) == pytest.approx(score)


@pytest.mark.parametrize(
    ("gold", "value", "score"),
    [
        ({"Ember": 2, "Frost": 1}, {"Ember": 2, "Frost": 1}, 1.0),
        ({"Ember": 2, "Frost": 1}, {"ember": 2, "Frost": 1, "Gale": 0}, 1.0),
        ({"Ember": 2, "Frost": 1}, {"Ember": 3, "Frost": 1}, 0.875),
        ({"Ember": 2, "Frost": 1}, {"Ember": 2}, 0.5),
        ({"Ember": 2}, {"Ember": 2, "Gale": 1}, 0.5),
        ({3: 2}, {"3": 2}, 1.0),
        ({}, {}, 1.0),
        ({"Ember": 2}, {}, 0.0),
        ({"Ember": 2}, {"Ember": "many"}, 0.0),
        ({"Ember": 2}, [2], 0.0),
    ],
)
def test_tallies(gold: dict[str | int, int], value: object, score: float) -> None:
    assert strict.score_tally(gold, value) == pytest.approx(score)


def test_dates_and_months_however_they_are_written() -> None:
    day = datetime(2023, 1, 5)
    for text in ("2023-01-05", "Date: January 5, 2023", "5 Jan 2023", r"\boxed{2023/01/05}", "[2023-01-05]"):
        assert strict.score_date(day, text) == 1.0
    for wrong in ("2023-01-06", "soon", "", None):
        assert strict.score_date(day, wrong) == 0.0
    for text in ("January 2023", "Date: Jan 2023", "2023-01"):
        assert strict.score_month("January 2023", text) == 1.0
    for wrong in ("January 2022", "February 2023", "soon", 1):
        assert strict.score_month("January 2023", wrong) == 0.0
    assert strict.score_month("never", "Never.") == 1.0
