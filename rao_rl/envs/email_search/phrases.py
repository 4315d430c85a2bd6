"""The sentences of synthetic emails: how a fact is stated, corrected, asked about and mentioned, and how it is read again."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
Kind = Literal["amount", "date", "name", "id"]
VALUES: Mapping[Kind, str] = {
    "amount": r"\$\d{1,3}(?:,\d{3})*",
    "date": rf"\d{{1,2}} (?:{'|'.join(MONTHS)}) \d{{4}}",
    "name": r"[A-Z][a-z]+ [A-Z][a-z]+",
    "id": r"C-\d{5}|\d{4}",
}
"""How the values of each kind read in an email."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A fact about a project or a person, and the sentences about it.

    `{s}` is the subject, `{new}` the value, `{old}` the one before. `first` states a value, `changed` corrects it; `open`
    names a value without stating it, and `noise` names none.
    """

    name: str
    keyword: str
    """A word of every one of these sentences."""
    kind: Kind
    first: tuple[str, ...]
    changed: tuple[str, ...]
    open: tuple[str, ...]
    noise: tuple[str, ...]

    def read(self, text: str, subject: str) -> str | None:
        """The value that `text` states for `subject` last; None if it states none."""
        found: list[tuple[int, str]] = []
        for template in (*self.first, *self.changed):
            pattern = re.escape(template).replace(r"\{s\}", re.escape(subject))
            for name in ("new", "old"):
                pattern = pattern.replace(rf"\{{{name}\}}", f"(?P<{name}>{VALUES[self.kind]})", 1)
            found += [(match.start(), match["new"]) for match in re.finditer(pattern, text)]
        return max(found)[1] if found else None


PROJECT: Sequence[Attribute] = (
    Attribute(
        name="budget",
        keyword="budget",
        kind="amount",
        first=("The budget of {s} is {new}.", "We agreed on {new} as the budget of {s}."),
        changed=(
            "Correction: the budget of {s} is {new}, not {old}.",
            "The budget of {s} changes from {old} to {new}.",
            "Forget {old}: {new} is the budget of {s} now.",
        ),
        open=(
            "Could we raise the budget of {s} to {new}?",
            "With {new} as a budget for {s} I could hire two more people.",
        ),
        noise=("Finance has asked again about the budget of {s}.", "Let us talk about the budget of {s} at lunch."),
    ),
    Attribute(
        name="review date",
        keyword="review",
        kind="date",
        first=("The review of {s} takes place on {new}.", "Please keep {new} free for the review of {s}."),
        changed=(
            "The review of {s} has moved to {new}.",
            "The review of {s} is not on {old} but on {new}.",
            "Not {old}, sorry: {new} is the day of the review of {s}.",
        ),
        open=("Would {new} suit you for the review of {s}?", "I cannot come if the review of {s} is on {new}."),
        noise=("I still have to write my part for the review of {s}.", "Who takes notes at the review of {s}?"),
    ),
    Attribute(
        name="lead",
        keyword="lead",
        kind="name",
        first=("The lead of {s} is {new}.", "From today on {new} is the lead of {s}."),
        changed=("{new} takes over from {old} as the lead of {s}.", "The lead of {s} is {new}, no longer {old}."),
        open=("Has anybody asked {new} to be the lead of {s}?", "I think that {new} would be a good lead for {s}."),
        noise=("Please ask the lead of {s} before you order anything.", "The lead of {s} wants a list of open points."),
    ),
    Attribute(
        name="contract number",
        keyword="contract",
        kind="id",
        first=("The contract for {s} has the number {new}.", "{new} is the number of the contract for {s}."),
        changed=(
            "The contract for {s} was signed again: its number is {new}, and {old} is void.",
            "Please write {new}, not {old}, as the number of the contract for {s}.",
        ),
        open=(
            "Is {new} the number of the contract for {s}?",
            "I found a draft {new} of a contract for {s}, but it is unsigned.",
        ),
        noise=("Legal wants to see the contract for {s} once more.", "Where do we keep the contract for {s}?"),
    ),
)
EXTENSION = Attribute(
    name="extension",
    keyword="extension",
    kind="id",
    first=("My extension is {new}.", "You reach me at extension {new}."),
    changed=("My extension is {new}, no longer {old}.", "My extension has changed from {old} to {new}."),
    open=("Does extension {new} still belong to the front desk?",),
    noise=("I lost the list with every extension.",),
)
"""Everybody states their own, so `{s}` is the sender."""
ATTRIBUTES: Mapping[str, Attribute] = {each.name: each for each in (*PROJECT, EXTENSION)}

FILLERS = (
    "I hope that you had a good weekend.",
    "The train was late again, so I missed the first half hour.",
    "The notes of our last call are on the shared drive.",
    "Could you have a look before I send it out?",
    "I will be out of the office from Thursday on.",
    "The customer was happy with the first draft.",
    "We are still waiting for two answers from the supplier.",
    "Please send me your list by tomorrow evening.",
    "The printer on the second floor works again.",
    "I have added three pages at the end.",
    "Thank you for the quick help yesterday.",
    "Let me know if anything is unclear.",
    "The numbers of last quarter look better than I thought.",
    "I have booked the small room for us.",
    "There is cake in the kitchen.",
    "We should write this down before we forget it.",
    "I am not sure who has the latest version.",
    "The test on Monday went well, apart from one cable.",
    "Can we talk on the phone for ten minutes?",
    "I have told the others already.",
    "This can wait until next week.",
    "My laptop is being repaired, so I answer slowly.",
)
ABOUT = (
    "I have read the plan for {s}.",
    "The next step for {s} is on the board.",
    "We have made good progress with {s}.",
    "Two people from the north office want to help with {s}.",
    "I have a question about {s}.",
    "There is nothing new about {s} from my side.",
)
REPLIES = ("Thank you.", "Noted.", "Good to know.", "I have passed it on.", "Fine with me.", "Understood.")
REFUSALS = ("No, it stays as it is.", "I would leave it as it is.", "No, please do not change anything.")


def day_words(day: date) -> str:
    """A day as emails write it: `5 March 2024`."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def draw_value(attribute: Attribute, rng: random.Random, sent: date, people: Sequence[str]) -> str:
    """A value for an attribute, in an email of the day `sent`."""
    if attribute.kind == "amount":
        return f"${rng.randint(20, 990) * 100:,}"
    if attribute.kind == "date":
        return day_words(sent + timedelta(rng.randint(3, 60)))
    if attribute.kind == "name":
        return rng.choice(people)
    return f"C-{rng.randint(10_000, 99_999)}" if attribute.keyword == "contract" else str(rng.randint(1_000, 9_999))
