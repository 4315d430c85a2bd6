"""The authors' scorers to the digit: answers in every form that their code treats in its own way."""

from __future__ import annotations

from datetime import datetime

import pytest

from rao_rl.envs.oolong.official import (
    Dates,
    precision,
    real_answer,
    real_prediction,
    score_real,
    score_synth,
    synth_candidate,
    synth_gold,
)

NUMERIC, LABEL, USER = "ANSWER_TYPE.NUMERIC", "ANSWER_TYPE.LABEL", "ANSWER_TYPE.USER"
COMPARISON, DATE, MONTH = "ANSWER_TYPE.COMPARISON", "ANSWER_TYPE.DATE", "ANSWER_TYPE.MONTH_YEAR"


@pytest.mark.parametrize(
    ("answer", "kind", "output", "score"),
    [
        # numbers: 0.75^|difference|, of the whole output if it is short, of its last word if it is long
        ("[3]", NUMERIC, "3", 1.0),
        ("[3]", NUMERIC, "5", 0.5625),
        ("[3]", NUMERIC, "0", 0.421875),
        ("[3]", NUMERIC, " 4 ", 0.75),
        ("['3']", NUMERIC, "3", 1.0),
        ("[3]", NUMERIC, "The number of them is 4", 0.75),
        ("[3]", NUMERIC, "The number of them is 4.", 0.0),
        ("[3]", NUMERIC, "there are 3", 0.0),  # 11 characters: all of it is the candidate
        ("[3]", NUMERIC, "three", 0.0),
        ("[3]", NUMERIC, "3.0", 0.0),
        ("[3]", NUMERIC, "", 0.0),
        ("[3.7]", NUMERIC, "4", 0.75),  # 3.7 is taken for 3
        ("[3]", NUMERIC, " " * 30, 0.0),
        ("[3]", NUMERIC, "9" * 5_000, 0.0),
        # without the prefix there are no numbers, only texts
        ("[3]", "NUMERIC", "4", 0.0),
        ("[3]", "NUMERIC", "3", 1.0),
        # what follows the last colon, without stars and brackets
        ("[3]", NUMERIC, "Answer: 3", 1.0),
        ("[3]", NUMERIC, "Answer: **4**", 0.75),
        ("[3]", NUMERIC, "Answer: [3]", 1.0),
        ("[3]", NUMERIC, "Answer: ** 3 **", 1.0),
        ("[3]", NUMERIC, "Label: 3, so the answer is: 5", 0.5625),
        ("['spam']", LABEL, "Label: spam", 1.0),
        ("['spam']", LABEL, "Label: **spam**", 1.0),
        ("['spam']", LABEL, "Label: ** spam **", 0.0),  # blanks inside the stars stay
        ("['spam']", LABEL, "Label: Spam", 0.0),
        ("['spam']", LABEL, "Label: spam.", 0.0),
        ("['spam']", LABEL, "I believe that the label is spam", 1.0),
        ("['numeric value']", LABEL, "I believe that it is numeric value", 0.0),  # the last word only
        ("['numeric value']", LABEL, "numeric value", 1.0),
        ("[48291]", USER, "User: 48291", 1.0),
        ("[48291]", USER, "User: 48290", 0.0),
        # comparisons: from 20 characters on a phrase takes the place of the candidate, and may be a part of the answer
        ("['more common than']", COMPARISON, "Answer: ham is more common than spam", 1.0),
        ("['more common than']", COMPARISON, "Answer: more common", 1.0),
        ("['more common than']", COMPARISON, "more common", 1.0),
        ("['more common than']", COMPARISON, "Answer: less common than spam, not more common", 1.0),  # the first phrase
        ("['less common than']", COMPARISON, "Answer: ham is more common than spam", 0.0),
        ("['same frequency as']", COMPARISON, "Answer: ham has the same frequency as spam", 1.0),
        ("['more common than']", COMPARISON, "ham is more common than spam", 0.0),  # no colon: the last word
        ("['more common than']", COMPARISON, "Answer: more common here", 0.0),  # 16 characters: as it is
        ("['more common than']", COMPARISON, "Answer: more common than ham", 1.0),  # 20 characters: the phrase
        # months as they are written
        ("['January 2023']", MONTH, "Date: January 2023", 1.0),
        ("['January 2023']", MONTH, "Date: Jan 2023", 0.0),
    ],
)
def test_synth(answer: str, kind: str, output: str, score: float) -> None:
    assert score_synth(answer, kind, output) == score


@pytest.mark.parametrize(
    ("output", "dates", "score"),
    [
        ("Date: 2023-01-05", "read", 1.0),
        ("Date: January 5, 2023", "read", 1.0),
        ("Date: [05 Jan 2023]", "read", 1.0),
        ("2023-01-05", "read", 1.0),
        ("Date: 2023-01-06", "read", 0.0),
        ("Date: 2023-01-05 10h", "read", 0.0),  # another time of the day
        ("Date: none of them", "read", 0.0),
        ("Date: 2023-01-05 UTC", "read", 0.0),  # a time with a zone equals none without
        ("Date: 9999999999999999999999", "read", 0.0),
        ("Date: 2023-01-05", "zero", 0.0),
        ("Date: January 5, 2023", "zero", 0.0),
        ("Date: 2023-01-05 00:00:00", "zero", 0.0),  # its last colon leaves 00
    ],
)
def test_synth_dates_by_the_version_of_dateutil(output: str, dates: Dates, score: float) -> None:
    assert score_synth("[datetime.date(2023, 1, 5)]", DATE, output, dates) == score


def test_synth_reference_answers() -> None:
    assert synth_gold("['ham']") == "ham"
    assert synth_gold("[3]") == 3
    assert synth_gold("[datetime.date(2023, 1, 5)]") == datetime(2023, 1, 5)
    for wrong in ("ham", "[]", "3", "[", "[datetime.date(2023, 13, 5)]", "(1,)", "[open('x')]"):
        with pytest.raises(ValueError):  # noqa: PT011
            synth_gold(wrong)


def test_synth_candidates_at_the_border_of_twenty_characters() -> None:
    assert synth_candidate("a" * 9 + " " + "b" * 9) == "a" * 9 + " " + "b" * 9
    assert synth_candidate("a" * 10 + " " + "b" * 9) == "b" * 9
    assert synth_candidate("x: more common " + "y" * 7) == "more common " + "y" * 7
    assert synth_candidate("x: more common " + "y" * 8) == "more common"


@pytest.mark.parametrize(
    ("answer", "output", "score"),
    [
        ("84", r"\boxed{84}", 1.0),
        ("84", r"So it is \boxed{\text{84}}.", 1.0),
        ("84", r"\boxed{82}", 0.5625),
        ("84", "84", 0.0),  # without a box a number stays a text
        ("84", "The answer is 84", 0.0),
        ("84", r"\boxed{eighty-four}", 0.0),
        ("84", r"\boxed{84, 85}", 0.0),
        ("84", r"\boxed{1} or \boxed{84}", 0.75**83),  # the first box
        ("84", r"\boxed{{84}}", 1.0),
        ("84", rf"\boxed{{{'9' * 400}}}", 0.0),
        ("Fireball", "fireball", 1.0),  # a text needs no box
        ("Fireball", r"\boxed{ FIREBALL }", 1.0),
        ("Fireball", r"\boxed{\text{Fireball}}", 1.0),
        ("Fireball", "It is Fireball", 0.0),
        ("Fireball", r"\boxed{Fireball, Shield}", 0.0),  # a list is no text
        ("Fireball, Shield", r"\boxed{Shield, Fireball}", 1.0),
        ("Fireball, Shield", r"\boxed{Shield, Bless}", 0.5),
        ("Fireball, Shield", r"\boxed{Shield,Fireball,Bless,Aid,Light}", 1.0),  # recall: more costs nothing
        ("Fireball, Shield", r"\boxed{shield, fireball}", 0.0),  # lists heed case
        ("Fireball, Shield", r"\boxed{Shield}", 0.0),  # one item is a text
        ("Fireball, Shield", "Shield, Fireball", 0.0),
        ("Fireball, Shield, Shield", r"\boxed{Shield, Fireball}", 2 / 3),
    ],
)
def test_real(answer: str, output: str, score: float) -> None:
    assert score_real(answer, output) == pytest.approx(score, abs=1e-12)


def test_real_answers_and_predictions() -> None:
    assert real_answer("-3") == -3
    assert real_answer(" a , b,, ") == ["a", "b"]
    assert real_answer("a b") == "a b"
    assert real_prediction("7") == "7"
    assert real_prediction(r"\boxed{7}") == 7


def test_precision_is_what_the_official_score_of_lists_leaves_out() -> None:
    assert precision(["a", "b"], ["a", "b", "c", "d"]) == 0.5
    assert precision(["a", "b"], ["a", "a"]) == 1.0
    assert precision(["a"], []) == 1.0
