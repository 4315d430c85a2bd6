"""The public questions about the Enron emails, and the emails themselves, from local copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from recursive_agent.errors import ConfigurationError

from ..local_data import LocalData
from .messages import Email

QUESTIONS = LocalData(
    name="email",
    columns={
        "id": int,
        "question": str,
        "answer": str,
        "message_ids": list[str],
        "how_realistic": float,
        "inbox_address": str,
        "query_date": str,
    },
    sizes={},
    obtain="Download the data set corbt/enron_emails_sample_questions and name its folder with data=PATH.",
)
EMAILS = LocalData(
    name="email",
    columns={
        "message_id": str,
        "subject": str | None,
        "from": str | None,
        "to": list[str | None] | None,
        "cc": list[str | None] | None,
        "bcc": list[str | None] | None,
        "date": datetime | str,
        "body": str | None,
        "file_name": str | None,
    },
    sizes={},
    obtain="Download the data set corbt/enron-emails and name its folder with mailbox=PATH.",
)
OFFICIAL_SPLITS = ("train", "test")
KNOWN_BAD = frozenset({49, 101, 129, 171, 208, 327})
"""Ids of questions that are known to be wrong or unanswerable."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that the owner of an inbox asks on a day, its answer, and the emails that it comes from."""

    id: str
    """Its split in the public set, and its number there."""
    question: str
    answer: str
    message_ids: tuple[str, ...]
    inbox: str
    day: str

    @property
    def official_split(self) -> str:
        """Its split in the public set."""
        return self.id.partition("/")[0]


def questions(path: str | Path | None, *, max_messages: int | None, known_bad: bool) -> list[Question]:
    """The questions of both official splits, in the order of the files. Raises ConfigurationError as `LocalData.rows` does.

    `max_messages` leaves out those that need more emails, `known_bad` keeps the ones that are known to be wrong.
    """
    if path is not None and Path(path).expanduser().is_file():
        raise ConfigurationError(f"email: data must be the folder with the files of both splits, not the file {path}")
    found: list[Question] = []
    ids: set[str] = set()
    for split in OFFICIAL_SPLITS:
        for row in QUESTIONS.rows(path, split):
            question = _question(split, row)
            if question.id in ids:
                raise ConfigurationError(f"email: {path} has the question {question.id} twice. {QUESTIONS.obtain}")
            ids.add(question.id)
            if row["id"] in KNOWN_BAD and not known_bad:
                continue
            if max_messages is None or len(question.message_ids) <= max_messages:
                found.append(question)
    return found


def _question(split: str, row: Mapping[str, Any]) -> Question:
    question = Question(
        id=f"{split}/{row['id']}",
        question=row["question"].strip(),
        answer=row["answer"].strip(),
        message_ids=tuple(row["message_ids"]),
        inbox=row["inbox_address"].strip(),
        day=row["query_date"].strip(),
    )
    if not (question.question and question.answer and question.inbox and question.day):
        raise ConfigurationError(
            f"email: the question {question.id} lacks a question, an answer, an inbox or a date. {QUESTIONS.obtain}"
        )
    return question


def split_of(inbox: str) -> Split:
    """The split of all questions about an inbox, by its hash: of ten inboxes about two test and one validates."""
    tenth = int.from_bytes(hashlib.sha256(inbox.casefold().encode()).digest()[:8], "big") % 10
    return "test" if tenth < 2 else "validation" if tenth == 2 else "train"


def email_files(path: str | Path | None) -> list[Path]:
    """The files of the emails. Raises ConfigurationError where there are none, or one of a numbered set is missing."""
    files = EMAILS.files(path, "train")
    for file in files:
        _, _, number = file.stem.rpartition("-of-")
        if number.isdecimal() and number != file.stem and len(files) < int(number):
            raise ConfigurationError(
                f"email: {file.parent} has {len(files)} of {int(number)} files of emails. {EMAILS.obtain}"
            )
    return files


def emails(files: Sequence[Path]) -> Iterator[Email]:
    """The emails of the files, in order. Raises ConfigurationError where they cannot be read."""
    for file in files:
        for row in EMAILS.rows(file, "train"):
            yield Email(
                message_id=row["message_id"],
                subject=row["subject"] or "",
                sender=row["from"] or "",
                to=_addresses(row["to"]),
                cc=_addresses(row["cc"]),
                bcc=_addresses(row["bcc"]),
                date=_date(row["date"], file),
                body=row["body"] or "",
                file_name=row["file_name"] or "",
            )


def _addresses(found: Sequence[str | None] | None) -> tuple[str, ...]:
    return tuple(each for each in found or () if each)


def _date(found: datetime | str, file: Path) -> str:
    try:
        moment = found if isinstance(found, datetime) else datetime.fromisoformat(found)
    except ValueError:
        raise ConfigurationError(f"email: {file} has the date {found!r:.40}, which is none. {EMAILS.obtain}") from None
    return moment.replace(tzinfo=None).strftime("%Y-%m-%d %H:%M:%S")
