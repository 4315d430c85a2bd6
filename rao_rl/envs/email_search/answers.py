"""Answers of agents: their form, and when two of them are the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN = "I don't know"
"""The answer of an agent that found nothing; it scores 0."""
_ENDS = " \t\n.,;:!?\"'`“”‘’«»()[]*"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent found: the answer to the question, and the message ids of the emails that it comes from."""

    answer: str | int
    sources: list[str]


def answer_of(result: object) -> str | None:
    """The answer in what an agent finished with: {"answer": …, "sources": […]}, or the bare answer. None if there is none."""
    if isinstance(result, Mapping):
        result = result.get("answer")
    if isinstance(result, str):
        return result
    if isinstance(result, int | float) and not isinstance(result, bool):
        return f"{result:g}" if isinstance(result, float) else str(result)
    return None


def sources_of(result: object) -> list[str]:
    """The message ids that an agent names as sources."""
    sources: Any = result.get("sources") if isinstance(result, Mapping) else None
    return [each for each in sources if isinstance(each, str)] if isinstance(sources, list | tuple) else []


def normalised(answer: str) -> str:
    """`answer` without what does not matter: capitals, blanks, the forms of quotes, and marks at its ends."""
    text = unicodedata.normalize("NFKC", answer).casefold().replace("’", "'")
    return re.sub(r"\s+", " ", text).strip(_ENDS)


def same(answer: str, gold: str) -> bool:
    """Whether two answers are equal after normalisation."""
    return normalised(answer) == normalised(gold)


def overlap(named: Collection[str], gold: Collection[str]) -> dict[str, float]:
    """How the named sources fit the gold ones: `sources_precision` and `sources_recall`; with nothing to find, recall is 1."""
    hits = len(set(named) & set(gold))
    return {
        "sources_precision": hits / len(set(named)) if named else 0.0,
        "sources_recall": hits / len(set(gold)) if gold else 1.0,
    }
