"""A synthetic mailbox: the emails of an office, thread by thread, and what they state."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType

from .database import Database
from .mailbox import Mailbox
from .messages import Email, kept
from .phrases import (
    ABOUT,
    EXTENSION,
    FILLERS,
    PROJECT,
    REFUSALS,
    REPLIES,
    Attribute,
    draw_value,
)

FIRST_DAY = date(2023, 1, 2)
DOMAIN = "fernhill.example"
FIRST_NAMES = (
    *("Ada", "Bruno", "Clara", "Dario", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kaya", "Lena"),
    *("Malik", "Nora", "Oskar", "Paula", "Quinn", "Rosa", "Sami", "Tessa", "Umar", "Vera", "Wanda", "Yusuf"),
)
LAST_NAMES = (
    *("Adler", "Brandt", "Castro", "Dorn", "Eklund", "Fischer", "Garcia", "Holm", "Ivers", "Jansen", "Keller", "Lindt"),
    *("Moreau", "Novak", "Okafor", "Petrov", "Quist", "Rossi", "Santos", "Thorne", "Urban", "Vogel", "Winter", "Young"),
)
COLOURS = ("Blue", "Red", "Green", "Silver", "Golden", "White", "Amber", "Copper")
BIRDS = ("Heron", "Falcon", "Wren", "Raven", "Finch", "Plover", "Swift", "Osprey")
_MENTION = re.compile(r"\bproject ([a-z]+ [a-z]+)\b")


@dataclass(frozen=True, slots=True)
class Level:
    """Emails in the inbox (less a few duplicates), the days that they are spread over, projects and people."""

    emails: int
    days: int
    projects: int
    people: int


LEVELS: Mapping[str, Level] = MappingProxyType({"small": Level(2_100, 180, 12, 12), "large": Level(6_100, 540, 24, 20)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A value of an attribute of a subject (a project or a person's name), as an email of the inbox states it."""

    message_id: str
    date: str
    subject: str
    attribute: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The mailbox of an office, seen by the owner of `inbox`. Emails and statements are in the order of their dates."""

    inbox: str
    people: Mapping[str, str]
    """Name of each person by address."""
    projects: Sequence[str]
    end: date
    """The day after the last email."""
    emails: Sequence[Email]
    statements: Sequence[Statement]
    mentions: Sequence[tuple[Email, frozenset[str]]]
    """The emails of the inbox, with the projects that they mention in subject or body, quotes included."""
    mailbox: Mailbox


_building = threading.Lock()


def make_world(seed: int, level: str) -> World:
    """The world of a seed and level, kept for the next time. Safe to call from threads."""
    with _building:
        return _kept(seed, level)


@lru_cache(maxsize=16)
def _kept(seed: int, level: str) -> World:
    return build_world(seed, LEVELS[level])


def build_world(seed: int, level: Level) -> World:
    """The world of a seed: the same on every machine."""
    office = _Office(random.Random(f"email/{seed}"), level)
    office.write()
    written = sorted(office.emails, key=lambda email: email.date)
    emails = list(kept(written))
    ids = {email.message_id for email in emails if email.concerns(office.inbox)}
    order = {email.message_id: number for number, email in enumerate(emails)}
    statements = sorted(
        (each for each in office.statements if each.message_id in ids), key=lambda each: order[each.message_id]
    )
    return World(
        inbox=office.inbox,
        people=MappingProxyType(office.people),
        projects=tuple(sorted(office.projects)),
        end=FIRST_DAY + timedelta(level.days),
        emails=emails,
        statements=statements,
        mentions=[(email, mentioned(email)) for email in emails if email.message_id in ids],
        mailbox=Mailbox(Database.of(lambda: emails)),
    )


def mentioned(email: Email) -> frozenset[str]:
    """The projects that an email mentions, in small letters."""
    words = re.sub(r"[^a-z0-9]+", " ", f"{email.subject} | {email.body}".casefold())
    return frozenset(_MENTION.findall(words))


@dataclass(slots=True)
class _Sent:
    """An email of a thread, with what a reply quotes of it."""

    email: Email
    own: list[str]
    """Its own lines."""


class _Office:
    """Writes the emails of an office, in the order of threads."""

    def __init__(self, rng: random.Random, level: Level) -> None:
        self.emails: list[Email] = []
        self.statements: list[Statement] = []
        self._rng, self._level = rng, level
        names = [f"{first} {last}" for first, last in zip(_some(rng, FIRST_NAMES), _some(rng, LAST_NAMES), strict=True)]
        names = names[: level.people]
        self.people = {f"{name.replace(' ', '.').casefold()}@{DOMAIN}": name for name in names}
        self.inbox = next(iter(self.people))
        pairs = [f"{colour} {bird}" for colour in COLOURS for bird in BIRDS]
        self.projects = rng.sample(pairs, level.projects)
        self._current: dict[tuple[str, str], str] = {}
        self._inbox_size = 0
        self._numbers = rng.sample(range(36**4), level.emails * 2)

    def write(self) -> None:
        """First the facts, in the order of time, so that a correction knows what it corrects; then all the rest."""
        for day, subject, attribute in self._plan():
            self._thread(day, subject, attribute, states=True)
        while self._inbox_size < self._level.emails:
            day = self._rng.randrange(self._level.days)
            project = f"project {self._rng.choice(self.projects)}" if self._rng.random() < 0.8 else None
            topic = self._rng.choice(PROJECT) if project and self._rng.random() < 0.3 else None
            if project is None and self._rng.random() < 0.05:
                topic = EXTENSION
            self._thread(day, project, topic, states=False)

    def _plan(self) -> list[tuple[int, str, Attribute]]:
        """When which fact is stated: each one to four times."""
        rng, days = self._rng, self._level.days
        subjects = [(f"project {name}", attribute) for name in self.projects for attribute in PROJECT]
        subjects += [(name, EXTENSION) for name in self.people.values()]
        plan: list[tuple[int, str, Attribute]] = []
        for subject, attribute in subjects:
            times = rng.choice((1, 2, 2, 3, 4))
            plan += [(day, subject, attribute) for day in rng.sample(range(1, days - 8), times)]
        return sorted(plan, key=lambda each: each[0])

    def _thread(self, day: int, subject: str | None, attribute: Attribute | None, *, states: bool) -> None:
        rng = self._rng
        members = rng.sample(list(self.people), rng.randint(2, 4))
        if self.inbox not in members and rng.random() < 0.85:
            members[rng.randrange(len(members))] = self.inbox
        if states and attribute is EXTENSION and subject is not None:
            sender = next(address for address, name in self.people.items() if name == subject)
            members = [sender, *[each for each in members if each != sender]]
        title = self._title(subject, attribute)
        moment = self._moment(day)
        sent = self._send(
            title, members[0], members[1:], moment, self._opening(moment, members[0], subject, attribute, states)
        )
        asked = not states and attribute is not None and sent.own[-1].endswith("?")
        for number in range(rng.choice((0, 1, 1, 2, 3, 5))):
            day += rng.randint(1, 3)
            if day >= self._level.days:
                break
            moment = self._moment(day)
            members = rng.sample(members, len(members))
            if members[0] == sent.email.sender:  # nobody answers themselves
                members.reverse()
            lines = [rng.choice(REFUSALS if asked and not number else REPLIES), rng.choice(FILLERS)]
            quoted = [
                f"On {sent.email.date} {self.people[sent.email.sender]} wrote:",
                *(f"> {line}" for line in sent.own),
            ]
            sent = self._send(f"Re: {title}", members[0], members[1:], moment, lines, quoted)

    def _moment(self, day: int) -> datetime:
        """A second of the working hours of a day."""
        seconds = self._rng.randint(8 * 3600, 18 * 3600)
        return datetime.combine(FIRST_DAY, datetime.min.time()) + timedelta(day, seconds)

    def _title(self, subject: str | None, attribute: Attribute | None) -> str:
        rng = self._rng
        if subject is None or not subject.startswith("project "):
            return rng.choice(("Hello", "Question", "This week", "For your information", "Short note"))
        title = subject[0].upper() + subject[1:]
        if attribute is not None and rng.random() < 0.5:
            return f"{title}: {attribute.keyword}"
        return rng.choice((title, f"{title}, next steps", f"{title}: news"))

    def _opening(
        self, moment: datetime, sender: str, subject: str | None, attribute: Attribute | None, states: bool
    ) -> list[str]:
        """The lines of the first email of a thread."""
        rng = self._rng
        lines = rng.sample(FILLERS, rng.randint(1, 3))
        if subject is not None and subject.startswith("project "):
            lines.append(rng.choice(ABOUT).format(s=subject))
            if rng.random() < 0.1:
                lines.append(rng.choice(ABOUT).format(s=f"project {rng.choice(self.projects)}"))
        rng.shuffle(lines)
        if attribute is None:
            return lines
        value = draw_value(attribute, rng, moment.date(), list(self.people.values()))
        if not states:
            # Questions stand last, so that a reply answers them.
            return [*lines, rng.choice((*attribute.open, *attribute.noise)).format(s=subject, new=value)]
        assert subject is not None
        old = self._current.get((subject, attribute.name))
        while value == old:
            value = draw_value(attribute, rng, moment.date(), list(self.people.values()))
        template = rng.choice(attribute.first if old is None else attribute.changed)
        lines.insert(rng.randint(0, len(lines)), template.format(s=subject, new=value, old=old))
        self._current[subject, attribute.name] = value
        self.statements.append(
            Statement(
                message_id=self._next_id(),
                date=str(moment),
                subject=subject,
                attribute=attribute.name,
                value=value,
            )
        )
        return lines

    def _next_id(self) -> str:
        """The id of the next email to be sent."""
        number, text = self._numbers[len(self.emails)], ""
        for _ in range(4):
            number, digit = divmod(number, 36)
            text += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
        return f"m{text}"

    def _send(
        self,
        title: str,
        sender: str,
        receivers: Sequence[str],
        moment: datetime,
        own: list[str],
        quoted: Sequence[str] = (),
    ) -> _Sent:
        rng = self._rng
        copies = [each for each in receivers[1:] if rng.random() < 0.5]
        to = [each for each in receivers if each not in copies]
        first = self.people[to[0]].partition(" ")[0]
        lines = [*own, "", self.people[sender]]
        email = Email(
            message_id=self._next_id(),
            subject=title,
            sender=sender,
            to=tuple(to),
            cc=tuple(copies),
            date=str(moment),
            body="\n".join([f"Hi {first},", "", *lines, *([""] if quoted else []), *quoted]),
        )
        self.emails.append(email)
        self._inbox_size += email.concerns(self.inbox)
        return _Sent(email, own)


def _some(rng: random.Random, names: Sequence[str]) -> list[str]:
    return rng.sample(names, len(names))
