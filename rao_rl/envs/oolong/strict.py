"""Scores of what a question means: numbers wherever they are stated as the answer, lists by F1, dates however written."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from .official import read_date

_BOX = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_STATED = re.compile(r"(?:\b(?:answer|label|user|date|result|total)s?\b\**\s*(?:is|are|:|=)\**:?)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d{1,3}(?:,\d{3})+(?![\w,])(?:\.0+)?|(?<![\w.])[-+]?\d+(?:\.0+)?(?![\w]|\.\d)")
_NUMBER_LIST = re.compile(r"\s*[-+]?\d+(?:\s*,\s*[-+]?\d+)+\s*")
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_VALUES = {word: value for value, word in enumerate(_WORDS.split())}
_PHRASES = {
    "more common": re.compile(r"\bmore (?:common|frequent|often)", re.IGNORECASE),
    "less common": re.compile(r"\bless (?:common|frequent|often)", re.IGNORECASE),
    "same frequency": re.compile(r"\b(?:same frequency|equally (?:common|frequent|often))", re.IGNORECASE),
}
_MOST_DIGITS = 30


def stated(output: str) -> str:
    """The part of an output that states its answer: the last box, else what follows the last `answer:`, else all of it."""
    if boxes := _BOX.findall(output):
        return _plain(boxes[-1])
    output = _plain(output)
    marks = list(_STATED.finditer(output))
    if marks:
        rest = output[marks[-1].end() :].strip()
        if rest:
            return rest.splitlines()[0].strip()
    return output.strip()


def number(value: object) -> int | None:
    """The whole number that an answer states; None if it states none.

    Of several, the first that stands where the answer is stated (after `answer:`, in a box), or behind an equals sign there;
    where nothing says which is the answer, the last.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if not isinstance(value, str):
        return None
    text = stated(value)
    word = _VALUES.get(text.strip(" .!*").lower())
    if word is not None:
        return word
    found = _NUMBER.findall(text.rpartition("=")[2])
    if not found or (len(found) > 1 and _NUMBER_LIST.fullmatch(text)):
        return None
    chosen = found[-1 if text == _plain(value).strip() else 0].replace(",", "").partition(".")[0]
    return int(chosen) if len(chosen) <= _MOST_DIGITS else None


def score_number(gold: int, value: object) -> float:
    """0.75^|difference|; 0 without a number."""
    found = number(value)
    if found is None:
        return 0.0
    return 0.75 ** min(abs(gold - found), 1_000)


def score_name(accepted: Collection[str], value: object) -> float:
    """1 if the answer is one of the accepted texts, ignoring case, quotes and marks around it."""
    if not isinstance(value, str):
        return float(value is None and "none" in accepted)
    return float(name(stated(value)) in {name(each) for each in accepted})


def phrase(value: object) -> str | None:
    """The one comparison that an answer states; None if it states none, or more than one."""
    if not isinstance(value, str):
        return None
    text = stated(value)
    found = [words for words, pattern in _PHRASES.items() if pattern.search(text)]
    return found[0] if len(found) == 1 else None


def score_list(gold: Sequence[object], value: object) -> float:
    """F1 of the items, ignoring case and order; two empty lists are equal."""
    found = items(value)
    if found is None:
        return 0.0
    wanted = {name(str(item)) for item in gold}
    both = len(wanted & found)
    return 2 * both / (len(wanted) + len(found)) if wanted or found else 1.0


def list_precision(gold: Sequence[object], value: object) -> float | None:
    """The share of the items of an answer that belong there; None if it is not a list, or empty."""
    found = items(value)
    return len(found & {name(str(item)) for item in gold}) / len(found) if found else None


def items(value: object) -> set[str] | None:
    """The items of an answer: of a list, or of a text with commas, semicolons or lines between them. None for anything else."""
    if isinstance(value, list | tuple):
        if not all(isinstance(item, str | int) and not isinstance(item, bool) for item in value):
            return None
        return {found for item in value if (found := name(str(item)))}
    if not isinstance(value, str):
        return None
    text = stated(value).strip().strip("[]{}()")
    parts = re.split(r"[,;\n]|\band\b", text)
    return {found for part in parts if (found := name(part)) and found != "none"}


def score_tally(gold: Mapping[str | int, int], value: object) -> float:
    """The mean of 0.75^|difference| over all names that stand in either; a name that is missing counts as 0 there.

    A name with the count 0 is as good as none. Two empty tallies are equal.
    """
    if not isinstance(value, Mapping):
        return 0.0
    wanted = {name(str(key)): count for key, count in gold.items() if count}
    found: dict[str, Any] = {name(str(key)): count for key, count in value.items() if count != 0}
    names = wanted.keys() | found.keys()
    if not names:
        return 1.0
    parts = [score_number(wanted[key], found[key]) for key in wanted.keys() & found.keys()]
    return sum(parts) / len(names)


def score_date(gold: datetime, value: object) -> float:
    """1 for the same day, however it is written."""
    if not isinstance(value, str):
        return 0.0
    try:
        return float(_date(stated(value)).date() == gold.date())
    except ValueError:
        return 0.0


def score_month(gold: str, value: object) -> float:
    """1 for the same month of the same year, however it is written; for a text that is no month, 1 if it is equal."""
    if not isinstance(value, str):
        return 0.0
    try:
        wanted = _date(gold)
    except ValueError:
        return score_name([gold], value)
    try:
        found = _date(stated(value))
    except ValueError:
        return 0.0
    return float((wanted.year, wanted.month) == (found.year, found.month))


def _date(text: str) -> datetime:
    # Words around it do not matter; what is missing must not be taken from today's date.
    return read_date(text.strip(" .*[]"), fuzzy=True, default=datetime(1, 1, 1))


def name(text: str) -> str:
    """A name as names are compared: without case, quotes, and marks around it."""
    return " ".join(text.split()).strip(" .,;:!*_`'\"[](){}").casefold()


def _plain(text: str) -> str:
    return _COMMAND.sub(r"\1", text)
