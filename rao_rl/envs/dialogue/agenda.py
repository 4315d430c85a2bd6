"""What the counterpart wants, and what it says to anything it is told. Its answers depend on that text alone."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

TOPICS = ("hotel", "dinner", "museum", "concert", "taxi", "guide")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LETTERS = "ABCDEF"
AGREED = "agreed"

Option: TypeAlias = tuple[str, int, int]
"""Letter, price and stars."""


@dataclass(frozen=True, slots=True)
class Wish:
    """At most this price, and at least so many stars: at first, and after a change of mind that comes with an offer."""

    price: int
    stars: int
    later: int


@dataclass(frozen=True, slots=True)
class Agenda:
    """The topics of a plan with the counterpart's wishes, the days at first and after a change, and what is on offer."""

    wishes: Mapping[str, Wish]
    day: str
    later: str
    options: Mapping[tuple[str, str], tuple[Option, ...]]
    """By topic and day."""

    def choice(self, topic: str, day: str) -> str:
        """The option that the counterpart agrees to: the cheapest that meets its wishes."""
        wish = self.wishes[topic]
        return best(self.options[topic, day], wish.price, wish.later) or ""

    def plan(self, day: str) -> dict[str, str]:
        """The whole plan for a day."""
        return {"day": day} | {topic: self.choice(topic, day) for topic in self.wishes}

    def reply(self, text: str) -> str:
        """What the counterpart says. Raises ValueError for what it does not understand."""
        words = text.split(" ")
        match words:
            case ["wishes", topic] if topic in self.wishes:
                wish = self.wishes[topic]
                return f"at most {wish.price}, at least {wish.stars} stars"
            case [topic, letter, day] if (topic, day) in self.options and letter and letter in LETTERS:
                return self._to_offer(topic, letter, day)
            case ["confirm", day, *letters] if day in (self.day, self.later) and len(letters) == len(self.wishes):
                if letters != [self.choice(topic, day) for topic in self.wishes]:
                    return "no, that is not what we agreed on"
                return AGREED if day == self.later else f"changed: everything on {self.later}"
        raise ValueError(
            "say 'wishes TOPIC', 'TOPIC LETTER DAY' or 'confirm DAY LETTER …' (a letter for each topic in turn), "
            f"not {text!r:.60}"
        )

    def _to_offer(self, topic: str, letter: str, day: str) -> str:
        wish = self.wishes[topic]
        _, price, stars = self.options[topic, day][LETTERS.index(letter)]
        if price > wish.price:
            return f"too dear: at most {wish.price}"
        if stars < wish.stars:
            return f"at least {wish.stars} stars"
        if stars < wish.later:
            return f"changed: now at least {wish.later} stars"
        return AGREED if letter == self.choice(topic, day) else "there is a cheaper one"


def best(options: tuple[Option, ...], price: int, stars: int) -> str | None:
    """The cheapest option of those that cost at most `price` and have at least `stars`; None if there is none."""
    fitting = [(each[1], each[0]) for each in options if each[1] <= price and each[2] >= stars]
    return min(fitting)[1] if fitting else None


def make_agenda(seed: str, count: int) -> Agenda:
    """The agenda of a seed with `count` topics. Every wish can be met, and every first choice meets a change of mind."""
    rng = random.Random(f"dialogue/agenda/{seed}")
    day, later = rng.sample(DAYS, 2)
    wishes: dict[str, Wish] = {}
    options: dict[tuple[str, str], tuple[Option, ...]] = {}
    for topic in rng.sample(TOPICS, count):
        wish = Wish(rng.randint(50, 90), rng.randint(1, 2), rng.randint(3, 5))
        wishes[topic] = wish
        for each in (day, later):
            while True:
                drawn = tuple(zip(LETTERS, rng.sample(range(10, 100), 6), rng.choices(range(1, 6), k=6), strict=True))
                first, last = (best(drawn, wish.price, stars) for stars in (wish.stars, wish.later))
                if last is not None and (first != last or each == later):
                    break
            options[topic, each] = drawn
    return Agenda(wishes, day, later, options)


_ROOT = re.compile(r"Plan ([a-z]+(?:, [a-z]+)*) on ([a-z]+)", re.ASCII)
_TOPIC = re.compile(r"Settle ([a-z]+) on ([a-z]+)", re.ASCII)


def parse_plan(goal: str) -> tuple[list[str], str] | None:
    """Topics and first day of `Plan hotel, taxi on fri`, None where a goal is no such one."""
    found = _ROOT.fullmatch(goal)
    return None if found is None else (found[1].split(", "), found[2])


def parse_topic(goal: str) -> tuple[str, str] | None:
    """Topic and day of `Settle hotel on fri`, None where a goal is no such one."""
    found = _TOPIC.fullmatch(goal)
    return None if found is None else (found[1], found[2])
