"""The exact answers to questions about a synthetic mailbox, and whether an agent's answer is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from .answers import normalised
from .goals import Question
from .messages import Email
from .phrases import ATTRIBUTES
from .world import Statement, World

NONE = "none"
"""The answer where the emails of the period do not say."""
_DATES = ("%Y-%m-%d", "%d %B %Y", "%B %d %Y")
_WEEKDAY = re.compile(r"^(?:mon|tues|wednes|thurs|fri|satur|sun)day,? ")


@dataclass(frozen=True, slots=True)
class Gold:
    """The right answers (all of them in the same sense; the first is the plain one), and the emails that they come from."""

    kind: str
    """`amount`, `date`, `name`, `id`, `count`."""
    answers: tuple[str, ...]
    sources: tuple[str, ...]


def gold_of(world: World, question: Question) -> Gold | None:
    """What the emails of the period say; None if the world has no such project, person or sender."""
    if question.project is not None and question.project not in world.projects:
        return None
    if question.person is not None and question.person not in world.people.values():
        return None
    if any(sender not in world.people for sender in question.senders):
        return None
    match question.kind:
        case "value":
            return _value(world, question, question.attribute or "", question.subject)
        case "extension":
            return _value(world, question, "extension", question.subject)
        case "two-hop":
            lead = latest(world, question, "lead", question.subject)
            if lead is None:
                return Gold("id", (NONE,), ())
            return _value(world, question, "extension", lead.value, (lead.message_id,))
        case "count":
            found = list(mentioning(world, question))
            return Gold("count", (str(len(found)),), tuple(email.message_id for email in found))
        case "when" | "who":
            found = list(mentioning(world, question))
            kind = "date" if question.kind == "when" else "name"
            if not found:
                return Gold(kind, (NONE,), ())
            last = found[-1]
            answers = (last.date[:10],) if kind == "date" else (last.sender, world.people[last.sender])
            return Gold(kind, answers, (last.message_id,))


def latest(world: World, question: Question, attribute: str, subject: str) -> Statement | None:
    """The last statement of a value in the period."""
    found = None
    for each in world.statements:
        if each.attribute == attribute and each.subject == subject and _within(each.date, question):
            found = each
    return found


def mentioning(world: World, question: Question) -> Iterator[Email]:
    """The emails of the inbox and the period that mention the project, by one of the senders if there are any."""
    project = str(question.project).casefold()
    for email, projects in world.mentions:
        asked = not question.senders or email.sender in question.senders
        if asked and project in projects and _within(email.date, question):
            yield email


def is_right(answer: str, gold: Gold) -> bool:
    """Whether an answer is the gold one, in the words of its kind: `$12,400` and `12400`, `2023-03-05` and `5 March 2023`."""
    return any(_plain(answer, gold.kind) == _plain(right, gold.kind) for right in gold.answers)


def _plain(answer: str, kind: str) -> str | int | date:
    text = normalised(answer)
    if kind == "amount" and (
        match := re.fullmatch(r"\$? ?(\d{1,3}(?:,\d{3})+|\d+)(?:\.00?)?(?: (?:us )?dollars| usd)?", text)
    ):
        return int(match[1].replace(",", ""))
    if kind == "count" and re.fullmatch(r"\d{1,9}", text):
        return int(text)
    if kind == "date":
        words = _WEEKDAY.sub("", text).replace(",", "")
        for form in _DATES:
            try:
                return datetime.strptime(words, form).date()
            except ValueError:
                continue
    return text


def _value(world: World, question: Question, attribute: str, subject: str, sources: tuple[str, ...] = ()) -> Gold:
    found = latest(world, question, attribute, subject)
    kind = ATTRIBUTES[attribute].kind
    if found is None:
        return Gold(kind, (NONE,), ())
    return Gold(kind, (found.value,), (*sources, found.message_id))


def _within(moment: str, question: Question) -> bool:
    return str(question.start) <= moment[:10] < str(question.end)
