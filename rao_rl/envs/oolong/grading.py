"""Scores of answers to the questions of our own transcripts: official and strict."""

from __future__ import annotations

from typing import Literal, TypeAlias

from . import strict
from .official import precision, real_prediction, score_answers, score_synth
from .questions import NONE, Gold

Scoring: TypeAlias = Literal["official", "strict"]
"""`official`: as the authors of Oolong score (lists by recall, names with their case). `strict`: what a question means."""


def grade(gold: Gold, answer: object, scoring: Scoring) -> float:
    """Score of the value that an agent finished with."""
    return official_score(gold, answer) if scoring == "official" else strict_score(gold, answer)


def strict_score(gold: Gold, answer: object) -> float:
    """Numbers 0.75^|difference|, names and phrases equal, lists by F1, tallies by the mean over their names."""
    value = gold.value
    if gold.form == "compare":
        return float(strict.phrase(answer) == value)
    if isinstance(value, dict):
        return strict.score_tally(value, answer)
    if isinstance(value, list):
        return strict.score_list(value, answer)
    if gold.accepted:
        return _best_name(gold, answer)
    assert isinstance(value, int)
    return strict.score_number(value, answer)


def official_score(gold: Gold, answer: object) -> float:
    """Numbers, names and phrases as oolong-synth scores them, lists as oolong-real does; tallies have no official score."""
    value = gold.value
    if isinstance(value, dict):
        return strict.score_tally(value, answer)
    if isinstance(value, list):
        found = _items(answer)
        if found is None:
            return 0.0
        return score_answers(list(map(str, value)), found) if value else float(not found)
    if gold.form == "compare":
        return score_synth(repr([value]), "ANSWER_TYPE.COMPARISON", str(answer))
    if gold.accepted:
        return max(score_synth(repr([name]), _type(name), str(answer)) for name in gold.accepted)
    return score_synth(repr([value]), "ANSWER_TYPE.NUMERIC", str(answer))


def list_precision(gold: Gold, answer: object) -> float | None:
    """The share of the items of an answer that belong there; None if it is not an answer with items."""
    if not isinstance(gold.value, list):
        return None
    found = _items(answer)
    return None if found is None else precision(list(map(str, gold.value)), found)


def _best_name(gold: Gold, answer: object) -> float:
    names = [name for name in gold.accepted if isinstance(name, str)]
    numbers = [number for number in gold.accepted if isinstance(number, int)]
    score = strict.score_name(names, answer) if names else 0.0
    # An episode is a name here: the next one is not almost right.
    return max(score, float(strict.number(answer) in numbers if numbers else False))


def _type(name: str | int) -> str:
    return "ANSWER_TYPE.LABEL" if isinstance(name, str) else "ANSWER_TYPE.NUMERIC"


def _items(answer: object) -> list[str] | None:
    if isinstance(answer, list | tuple):
        return [str(item) for item in answer]
    if isinstance(answer, str):
        found = real_prediction(answer)
        if isinstance(found, list):
            return found
        return [] if not answer.strip() or answer.strip() == NONE else [item.strip() for item in str(found).split(",")]
    return None
