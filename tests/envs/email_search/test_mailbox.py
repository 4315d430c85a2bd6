"""Searching and reading, each rule with values worked out by hand."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rao_rl.envs.email_search.database import Database
from rao_rl.envs.email_search.mailbox import Mailbox

from .mailboxes import ANN, BOB, CAT, EMAILS, FIRST, mailbox_of, write_database

MAILBOX = mailbox_of(*EMAILS)


def found(inbox: str = CAT, keywords: tuple[str, ...] = ("budget",), **options: Any) -> list[str]:
    return [each["message_id"].strip("<>") for each in MAILBOX.search_emails(inbox, keywords, **options)]


@pytest.mark.parametrize(
    ("keywords", "ids"),
    [
        (("budget",), "4321"),  # newest first; in subject or body, in any case
        (("BUDGET", "red"), "31"),  # all of them
        (("budget meeting",), "431"),  # a keyword is a phrase: `meeting of the budget` is none
        (("meeting", "budget"), "4321"),
        (('"red" plan',), "1"),  # quotes are part of the keyword, and no syntax
        (("red OR lunch",), ""),
        (("budget*",), "4321"),  # marks are not searched for
        (("budge",), ""),  # whole words
        (("dollars the",), ""),  # a phrase does not reach from the body into the subject
        (('"',), ""),
    ],
)
def test_keywords_are_quoted_phrases_that_must_all_be_there(keywords: tuple[str, ...], ids: str) -> None:
    assert "".join(found(keywords=keywords)) == ids


@pytest.mark.parametrize(("inbox", "ids"), [(ANN, "321"), (BOB, "4321"), (CAT, "4321"), ("dan@x.example", "")])
def test_the_owner_of_the_inbox_sent_or_received_the_email(inbox: str, ids: str) -> None:
    assert "".join(found(inbox)) == ids


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"from_addr": ANN}, "21"),
        ({"from_addr": "ann"}, ""),  # whole addresses
        ({"from_addr": ANN.upper()}, ""),
        ({"to_addr": CAT}, "4321"),  # to, cc and bcc
        ({"to_addr": ANN}, "3"),
        ({"from_addr": BOB, "to_addr": ANN}, "3"),
        ({"sent_after": "2001-05-14"}, "4321"),  # from 00:00:00 on
        ({"sent_after": "2001-05-15"}, "43"),
        ({"sent_before": "2001-05-15"}, "21"),  # without 00:00:00 itself
        ({"sent_before": "2001-05-14"}, ""),
        ({"sent_after": "2001-05-14", "sent_before": "2001-05-16"}, "321"),
        ({"max_results": 2}, "43"),
        ({"max_results": 10}, "4321"),
    ],
)
def test_the_other_conditions(options: dict[str, Any], ids: str) -> None:
    assert "".join(found(**options)) == ids


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"keywords": ()}, "at least one keyword"),
        ({"max_results": 11}, "from 1 to 10, not 11"),
        ({"max_results": -1}, "from 1 to 10, not -1"),
        ({"sent_after": "14.5.2001"}, "sent_after must be a date such as 2001-05-14, not '14.5.2001'"),
        ({"sent_before": "2001-02-30"}, "sent_before must be a date"),
        ({"sent_before": "20010514"}, "sent_before must be a date"),
        ({"keywords": ("bud\0get",)}, "cannot be searched for"),
    ],
)
def test_what_cannot_be_searched_for_is_a_value_error(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        found(**options)


def test_a_snippet_shows_fifteen_words_around_the_keyword() -> None:
    words = [f"w{number}" for number in range(40)]
    mailbox = mailbox_of(replace(FIRST, subject="Long", body=" ".join(words)))
    (found,) = mailbox.search_emails(ANN, ["w20"])
    assert set(found) == {"message_id", "snippet"}
    shown = [word for word in found["snippet"].split() if word != "..."]
    assert shown == words[20 - shown.index("w20") :][:15]
    assert found["snippet"].startswith(" ... w")
    assert found["snippet"].endswith(" ... ")
    assert "  w20  " in found["snippet"]  # the word itself stands between blanks


def test_an_email_is_read_whole_and_of_any_inbox() -> None:
    assert MAILBOX.read_email("<3>") == {
        "message_id": "<3>",
        "date": "2001-05-15 00:00:00",
        "subject": "Budget meeting",
        "from_address": BOB,
        "to_addresses": [ANN],
        "cc_addresses": [],
        "bcc_addresses": [CAT],
        "body": "Red budget!",
        "file_name": "ann/1",
    }
    assert MAILBOX.read_email("<9>") is None


def test_many_threads_search_at_once(tmp_path: Path) -> None:
    mailbox = Mailbox(Database.at(write_database(tmp_path / "mail.sqlite", *EMAILS)))
    results: list[int] = []

    def search() -> None:
        results.extend(len(mailbox.search_emails(CAT, ["budget"])) for _ in range(20))

    threads = [threading.Thread(target=search) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [4] * 400
    mailbox.database.close()


def test_a_mailbox_cannot_be_changed(tmp_path: Path) -> None:
    for database in (MAILBOX.database, Database.at(write_database(tmp_path / "mail.sqlite", *EMAILS))):
        with database.connection() as connection, pytest.raises(Exception, match="readonly"):
            connection.execute("DELETE FROM emails")
