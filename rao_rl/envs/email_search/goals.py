"""The grammar of questions to a synthetic mailbox: a question and a period.

    What is the budget of project Blue Heron? Period: 2023-01-02 up to 2023-07-01

The emails of the first day count, those of the last do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from .phrases import ATTRIBUTES, PROJECT

Kind = Literal["value", "extension", "two-hop", "count", "when", "who"]
_PROJECT = r"project (?P<project>[A-Z][a-z]+ [A-Z][a-z]+)"
_ADDRESS = r"[a-z.]+@[a-z.]+"
_PERIOD = r" Period: (?P<start>\d{4}-\d\d-\d\d) up to (?P<end>\d{4}-\d\d-\d\d)"
_PATTERNS: tuple[tuple[Kind, str], ...] = (
    ("two-hop", rf"What is the extension of the lead of {_PROJECT}\?"),
    ("value", rf"What is the (?P<attribute>{'|'.join(each.name for each in PROJECT)}) of {_PROJECT}\?"),
    ("extension", r"What is the extension of (?P<person>[A-Z][a-z]+ [A-Z][a-z]+)\?"),
    ("count", rf"How many emails that mention {_PROJECT} did (?P<senders>{_ADDRESS}(?:, {_ADDRESS})*) send\?"),
    ("when", rf"On which day did (?P<senders>{_ADDRESS}) last mention {_PROJECT}\?"),
    ("who", rf"Who was the last to mention {_PROJECT}\?"),
)
_FORMS = {kind: re.compile(pattern + _PERIOD, re.ASCII) for kind, pattern in _PATTERNS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about the emails from the day `start` on and before the day `end`."""

    kind: Kind
    start: date
    end: date
    project: str | None = None
    attribute: str | None = None
    person: str | None = None
    senders: tuple[str, ...] = ()

    def text(self) -> str:
        """The question without its period."""
        project = f"project {self.project}"
        match self.kind:
            case "value":
                return f"What is the {self.attribute} of {project}?"
            case "extension":
                return f"What is the extension of {self.person}?"
            case "two-hop":
                return f"What is the extension of the lead of {project}?"
            case "count":
                return f"How many emails that mention {project} did {', '.join(self.senders)} send?"
            case "when":
                return f"On which day did {self.senders[0]} last mention {project}?"
            case "who":
                return f"Who was the last to mention {project}?"

    def goal(self) -> str:
        """The goal that asks it."""
        return f"{self.text()} Period: {self.start} up to {self.end}"

    def within(self, start: date, end: date) -> Question:
        """The same question about another period."""
        return replace(self, start=start, end=end)

    @property
    def subject(self) -> str:
        """Whom or what a value is asked of, as emails call it."""
        return str(self.person) if self.kind == "extension" else f"project {self.project}"

    @property
    def keyword(self) -> str:
        """The word that is in every email which states the value."""
        return ATTRIBUTES[self.attribute or "extension"].keyword


def parse_goal(goal: str) -> Question | None:
    """The question of a goal, None where it breaks the grammar: strict on purpose, as `Question.goal` writes it.

    A period has at least one day, and nobody is named twice. Whether project and people exist is another question.
    """
    for kind, form in _FORMS.items():
        if match := form.fullmatch(goal):
            parts = match.groupdict()
            try:
                start, end = (date.fromisoformat(parts[name]) for name in ("start", "end"))
            except ValueError:
                return None
            senders = tuple((parts.get("senders") or "").split(", ")) if parts.get("senders") else ()
            if start >= end or len(set(senders)) < len(senders):
                return None
            return Question(
                kind=kind,
                start=start,
                end=end,
                project=parts.get("project"),
                attribute=parts.get("attribute"),
                person=parts.get("person"),
                senders=senders,
            )
    return None
