"""A small mailbox written by hand, and files as the public sets have them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from rao_rl.envs.email_search.database import Database, write
from rao_rl.envs.email_search.mailbox import Mailbox
from rao_rl.envs.email_search.messages import Email

ANN, BOB, CAT = "ann@x.example", "bob@x.example", "cat@x.example"
FIRST = Email(
    message_id="<1>",
    subject="Budget meeting",
    sender=ANN,
    to=(BOB,),
    cc=(CAT,),
    date="2001-05-14 00:00:00",
    body='The "red" plan costs 500 dollars.',
    file_name="ann/1",
)
SECOND = replace(
    FIRST, message_id="<2>", subject="Lunch", date="2001-05-14 12:30:00", body="The meeting of the budget group."
)
THIRD = replace(
    FIRST, message_id="<3>", sender=BOB, to=(ANN,), cc=(), bcc=(CAT,), date="2001-05-15 00:00:00", body="Red budget!"
)
FOURTH = replace(
    FIRST, message_id="<4>", sender=BOB, to=(CAT,), cc=(), date="2001-05-16 08:00:00", body="A budget for Cat."
)
EMAILS = (FIRST, SECOND, THIRD, FOURTH)


def mailbox_of(*emails: Email) -> Mailbox:
    return Mailbox(Database.of(lambda: emails))


def write_database(file: Path, *emails: Email) -> Path:
    with closing(sqlite3.connect(file)) as connection:
        write(connection, emails)
    return file


def row_of(email: Email) -> dict[str, Any]:
    """An email as the public set has it."""
    return {
        "message_id": email.message_id,
        "subject": email.subject,
        "from": email.sender,
        "to": list(email.to),
        "cc": list(email.cc),
        "bcc": list(email.bcc),
        "date": email.date.replace(" ", "T"),
        "body": email.body,
        "file_name": email.file_name,
    }


def write_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_emails(folder: Path, *emails: Email) -> Path:
    write_lines(folder / "train-00000-of-00001.jsonl", [row_of(each) for each in emails])
    return folder


def question(number: int, inbox: str = ANN, **changes: Any) -> dict[str, Any]:
    row = {
        "id": number,
        "question": "What does the red plan cost?",
        "answer": "500 dollars",
        "message_ids": ["<1>"],
        "how_realistic": 0.9,
        "inbox_address": inbox,
        "query_date": "2001-06-01",
    }
    return row | changes


def write_questions(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> Path:
    write_lines(folder / "train.jsonl", train)
    write_lines(folder / "test.jsonl", test)
    return folder
