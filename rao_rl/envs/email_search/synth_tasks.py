"""Questions to synthetic mailboxes: which are asked of which mailbox, and in which split."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Literal, get_args

from ..base import Task
from .answers import Answer
from .goals import Question
from .gold import NONE, gold_of, latest, mentioning
from .mailbox import MOST_RESULTS
from .phrases import PROJECT
from .world import FIRST_DAY, LEVELS, World, make_world

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Type = Literal["fact", "updated", "count", "when", "who", "two-hop"]
TYPES: tuple[Type, ...] = get_args(Type)
"""What is asked for: a value that was stated once, one that was corrected, a number of emails, a day, a person, and a value
of somebody who has to be found first."""
WORLDS = {"train": 32, "validation": 8, "test": 8}
"""Mailboxes of one split, seed and level."""
PER_WORLD = 12
"""Questions to each mailbox in a split of the usual size."""
_TRIES = 500


def stream_seed(split: Split, number: int) -> int:
    """A seed of a mailbox of `split`: its remainder tells whose it is, so no two splits share a mailbox."""
    return number * len(SPLITS) + SPLITS.index(split)


def world_seed(split: Split, seed: int, index: int) -> int:
    """Seed of the `index`-th mailbox of a split and seed."""
    digest = hashlib.sha256(f"email-synth/{seed}/{index}".encode()).digest()
    return stream_seed(split, int.from_bytes(digest[:6], "big"))


def generate(split: Split, seed: int, level: str | None, limit: int | None) -> Iterator[Task]:
    """The tasks of a split: of one level, or of all in turn. With `limit`, as many as that."""
    levels = [level] if level else list(LEVELS)
    number = WORLDS[split] * PER_WORLD * len(levels) if limit is None else limit
    for index in range(number):
        place, name = index // len(levels), levels[index % len(levels)]
        # One question of each type to a mailbox, which takes a moment to make; then the next mailbox.
        turn, kind = divmod(place, len(TYPES))
        yield question_task(split, seed, name, place, world_seed(split, seed, turn % WORLDS[split]), TYPES[kind])


def question_task(split: Split, seed: int, level: str, index: int, world: int, kind: Type) -> Task:
    """Task `index` of a level: a question of one type to the mailbox of the seed `world`."""
    id = f"email-synth/{split}/{seed}/{level}/{index}"
    question = draw(make_world(world, level), kind, random.Random(f"question/{id}"))
    return Task(id=id, goal=question.goal(), returns=Answer, level=level, data={"world": world, "mailbox": level})


def draw(world: World, kind: Type, rng: random.Random) -> Question:
    """A question of this type that the mailbox answers."""
    for _ in range(_TRIES):
        question = _drawn(world, kind, rng)
        gold = gold_of(world, question)
        if gold is not None and gold.answers[0] not in (NONE, "0") and _fits(world, question, kind):
            return question
    raise AssertionError(f"no {kind} question was found in {_TRIES} tries")


def _drawn(world: World, kind: Type, rng: random.Random) -> Question:
    project = rng.choice(world.projects)
    start, end = _period(world, kind, rng)
    whole = Question(kind="who", start=start, end=end, project=project)
    if kind == "two-hop":
        return replace(whole, kind="two-hop")
    if kind == "count":
        return replace(whole, kind="count", senders=tuple(rng.sample(list(world.people), rng.randint(1, 3))))
    if kind == "when":
        return replace(whole, kind="when", senders=(rng.choice(list(world.people)),))
    if kind == "who":
        return whole
    if rng.random() < 0.15:
        return Question(kind="extension", start=start, end=end, person=rng.choice(list(world.people.values())))
    return replace(whole, kind="value", attribute=rng.choice(PROJECT).name)


def _period(world: World, kind: Type, rng: random.Random) -> tuple[date, date]:
    """From the first day on where a value is asked for; its end is the mailbox's, or anywhere in its second half."""
    days = (world.end - FIRST_DAY).days
    start = FIRST_DAY if kind in ("fact", "updated", "two-hop") else FIRST_DAY + timedelta(rng.randrange(days // 2))
    if rng.random() < 0.4:
        return start, world.end
    return start, FIRST_DAY + timedelta(rng.randint(days // 2 + 14, days))


def _fits(world: World, question: Question, kind: Type) -> bool:
    """Whether a question is of its type, and can be answered with searches that give ten emails of a day."""
    if kind in ("fact", "updated"):
        subject, attribute = question.subject, question.attribute or "extension"
        last = latest(world, question, attribute, subject)
        before = last and latest(world, question.within(question.start, _day(last.date)), attribute, subject)
        return (before is not None) == (kind == "updated")
    if kind == "count":
        a_day = Counter((email.sender, email.date[:10]) for email in mentioning(world, question))
        return max(a_day.values()) < MOST_RESULTS
    return True


def _day(moment: str) -> date:
    return date.fromisoformat(moment[:10])
