"""`email`: the public questions about the Enron emails, as an `Environment`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from recursive_agent.errors import ConfigurationError

from ...errors import UnknownGoal
from ..base import About, Mode, NeedsJudge, Task
from ..generated import check_selection, one_of
from .answers import Answer
from .cache import cached
from .database import Database
from .mailbox import Mailbox
from .questions import OFFICIAL_SPLITS, SPLITS, Question, email_files, emails, questions, split_of
from .session import EmailSession

SplitBy = Literal["inbox", "row"]
_TABLES = (".parquet", ".jsonl")


class EmailSearch:
    """Questions about the emails of an inbox, answered by searching and reading.

    `data` is the folder of the questions; `mailbox` that of the emails (a mailbox is made from them once, in the folder
    `cache`), or a mailbox as an SQLite file. `split_by`: all questions about an inbox in one split (`inbox`), or the splits of
    the public set (`row`), where training and test share inboxes. `max_messages`: only questions that need at most so many
    emails; `known_bad` keeps the questions known to be wrong; `subset` allows a mailbox that lacks some of the inboxes, and
    leaves out their questions. `mode`: `single` has `max_depth` 0. Raises ConfigurationError for anything else.
    """

    name = "email"
    about = About(
        summary="answer questions about a mailbox by searching and reading its emails",
        sizes={"train": None, "validation": None, "test": None},
        data="the questions corbt/enron_emails_sample_questions (about 4,000) as data=PATH, and the emails "
        "corbt/enron-emails as mailbox=PATH",
        needs_judge=NeedsJudge(roots="some", sub_agents="all"),
    )
    levels = ("one-email", "several-emails")

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        mailbox: str | Path | None = None,
        split_by: SplitBy = "inbox",
        max_messages: int | None = None,
        known_bad: bool = False,
        subset: bool = False,
        cache: str | Path | None = None,
        mode: Mode = "recursive",
    ) -> None:
        for argument, value, allowed in (("split_by", split_by, get_args(SplitBy)), ("mode", mode, get_args(Mode))):
            one_of(self.name, argument, value, allowed)
        if max_messages is not None and (not isinstance(max_messages, int) or max_messages < 1):
            raise ConfigurationError(f"email: max_messages must be a whole number from 1 on, not {max_messages!r}")
        self.split_by = split_by
        self.mode = mode
        self.max_depth = 3 if mode == "recursive" else 0
        self.splits: tuple[str, ...] = SPLITS if split_by == "inbox" else OFFICIAL_SPLITS
        found = questions(data, max_messages=max_messages, known_bad=known_bad)
        self.mailbox = Mailbox(_database(mailbox, None if cache is None else Path(cache).expanduser()))
        self._questions = self._answerable(found, subset)

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The questions of a split in an order drawn from `seed`: of one level (by how many emails they need), or of all.

        Raises ConfigurationError for an unknown split or level.
        """
        check_selection(self.name, split, self.splits, level or None, self.levels, limit)
        chosen = [each for each in self._questions if self.split_of(each) == split and level in (None, _level(each))]
        random.Random(f"email/{split}/{seed}").shuffle(chosen)
        return (_task(each) for each in chosen[:limit])

    def split_of(self, question: Question) -> str:
        """The split that a question belongs to."""
        return split_of(question.inbox) if self.split_by == "inbox" else question.official_split

    def task(self, goal: str, seed: int = 0) -> Task:
        """A public question by its goal. Raises UnknownGoal for another one: rao could not tell whose inbox it is about."""
        for question in self._questions:
            if goal in (_goal(question), question.question):
                return _task(question)
        raise UnknownGoal("email: this is none of the public questions; `email-synth` takes questions of your own")

    def session(self, task: Task) -> EmailSession:
        """A fresh attempt at `task`."""
        data = task.data
        return EmailSession(self.mailbox, data["inbox"], data["answer"], data["message_ids"])

    def _answerable(self, found: list[Question], subset: bool) -> list[Question]:
        inboxes = sorted({each.inbox for each in found})
        known = self.mailbox.inboxes(inboxes)
        missing = [each for each in inboxes if each not in known]
        if missing and not (subset and known):
            raise ConfigurationError(
                f"email: the mailbox has no email of {missing[0]} ({len(missing)} of {len(inboxes)} inboxes are missing), so "
                "the questions are about another one; give the whole set, or say subset=True to leave out their questions"
            )
        return [each for each in found if each.inbox in known]


def _database(mailbox: str | Path | None, cache: Path | None) -> Database:
    place = None if mailbox is None else Path(mailbox).expanduser()
    if place is not None and place.is_file() and place.suffix not in _TABLES:
        return Database.at(place)
    files = email_files(place)
    return cached(files, emails(files), cache)


def _level(question: Question) -> str:
    return EmailSearch.levels[len(question.message_ids) > 1]


def _goal(question: Question) -> str:
    return f"{question.question}\n\nSearch the inbox of {question.inbox}. Today is {question.day}."


def _task(question: Question) -> Task:
    return Task(
        id=f"email/{question.id}",
        goal=_goal(question),
        returns=Answer,
        level=_level(question),
        data={"inbox": question.inbox, "answer": question.answer, "message_ids": question.message_ids},
    )
