"""The scores that the authors of Oolong compute, to the digit, with what their code does to answers in unexpected forms.

Use them for tables beside the authors'; `strict` scores what a question means.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from recursive_agent.errors import ConfigurationError

Answer: TypeAlias = int | str | list[str]
Dates: TypeAlias = Literal["read", "zero"]
"""`read`: an answer of the type DATE is read by `dateutil`, as the authors' code does with dateutil 2.9 or later, and wherever
something else has imported `dateutil.parser`. `zero`: it scores 0 unless it is spelled as `str` spells the reference, as their
code does with an older dateutil, where `import dateutil` alone does not bring the parser."""

_PHRASES = ("more common", "less common", "same frequency")
_SHORT = 20
"""Characters from which an answer, or what follows its last colon, is not taken as it is."""
_BOXES = (re.compile(r"\\boxed\{\\text\{([^}]*)\}\}"), re.compile(r"\\boxed\{+([^}]*)\}+"))


# -- oolong-synth -----------------------------------------------------------------------------------------------------


def synth_gold(answer: str) -> object:
    """The reference answer of a row: the first item of a written list. Raises ValueError if it is none.

    A date becomes a datetime, everything else stays what the list holds.
    """
    if "datetime" in answer:
        return datetime.strptime(answer, "[datetime.date(%Y, %m, %d)]")
    try:
        items = ast.literal_eval(answer)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(items, list) or not items:
        raise ValueError("it is not a list with one answer")
    return items[0]


def synth_candidate(output: str) -> str:
    """What of an output counts as its answer.

    Without a colon: all of it if it has fewer than 20 characters, else its last word. With one: what follows the last colon,
    without `*` and brackets; from 20 characters on, a phrase of comparison that stands in it takes its place.
    """
    if ":" not in output:
        if len(output) < _SHORT:
            return output
        words = output.split()
        return words[-1] if words else ""
    candidate = output.rpartition(":")[2].strip().translate({ord(mark): None for mark in "*[]"})
    if len(candidate) >= _SHORT:
        candidate = next((phrase for phrase in _PHRASES if phrase in candidate), candidate)
    return candidate


def score_synth(answer: str, answer_type: str, output: str, dates: Dates = "read") -> float:
    """Score of an output for a row of oolong-synth, from the row's `answer` and `answer_type` as they are written there.

    Raises ValueError if `answer` is not one of oolong-synth.
    """
    gold = synth_gold(answer)
    candidate = synth_candidate(output)
    if candidate == str(gold):
        return 1.0
    if candidate in _PHRASES:
        return float(candidate in str(gold))
    try:
        if answer_type == "ANSWER_TYPE.NUMERIC":
            return float(0.75 ** abs(int(gold if isinstance(gold, float) else str(gold)) - int(candidate)))
        if answer_type == "ANSWER_TYPE.DATE" and dates == "read":
            return float(read_date(candidate) == gold)
    except (ValueError, OverflowError):
        pass
    return 0.0


def read_date(text: str, **how: Any) -> datetime:
    """A date as `dateutil` reads it, with `how` as its arguments. Raises ValueError for a text that holds none."""
    try:
        from dateutil import parser
    except ImportError:
        raise ConfigurationError("reading dates needs python-dateutil: pip install 'rao[data]'") from None
    try:
        found: datetime = parser.parse(text, **how)
    except Exception as error:  # of many kinds, and whatever it is, the text is no date
        raise ValueError(f"{text!r:.80} is no date") from error
    return found


# -- oolong-real ------------------------------------------------------------------------------------------------------


def real_answer(text: str) -> Answer:
    """A written answer: a whole number if it reads as one, a list if it has a comma, else the text."""
    try:
        return int(text)
    except ValueError:
        pass
    if "," in text:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def real_prediction(output: str) -> Answer:
    """What stands in the first box of an output. Without a box, all of it, and as a text: a number then scores 0."""
    for box in _BOXES:
        if found := box.search(output):
            return real_answer(found[1])
    return output


def score_real(answer: str, output: str) -> float:
    """Score of an output for a row of oolong-real, from the row's `answer`."""
    return score_answers(real_answer(answer), real_prediction(output))


def score_answers(gold: Answer, found: Answer) -> float:
    """Two numbers: 0.75^|difference|. Two texts: equal ignoring case. Two lists: the share of the reference that is found."""
    if isinstance(gold, int) and isinstance(found, int):
        try:
            return float(0.75 ** abs(gold - found))
        except OverflowError:
            return 0.0
    if isinstance(gold, str) and isinstance(found, str):
        return float(gold.strip().lower() == found.strip().lower())
    if isinstance(gold, list) and isinstance(found, list) and gold:
        # Repeated items of the reference make it unreachable there as well: sets above, the length of the list below.
        return len(set(gold) & set(found)) / len(gold)
    return 0.0


def precision(gold: Sequence[object], found: Sequence[object]) -> float:
    """The share of the items of an answer that belong there; 1 for an empty answer. The official score leaves it out."""
    return len(set(found) & set(gold)) / len(set(found)) if found else 1.0
