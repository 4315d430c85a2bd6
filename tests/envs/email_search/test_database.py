"""Which emails a mailbox keeps, what is no mailbox, and the cache of mailboxes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rao_rl.envs.email_search.cache import cache_folder, cached, key
from rao_rl.envs.email_search.database import Database
from rao_rl.envs.email_search.mailbox import Mailbox
from rao_rl.envs.email_search.messages import Email, kept
from recursive_agent.errors import ConfigurationError

from .mailboxes import ANN, BOB, EMAILS, FIRST, write_database, write_emails


def test_long_emails_those_to_many_and_duplicates_are_left_out() -> None:
    people = tuple(f"p{number}@x.example" for number in range(31))
    emails = [
        replace(FIRST, message_id="longest", body="x" * 5_000),
        replace(FIRST, message_id="too long", body="x" * 5_001),
        replace(FIRST, message_id="most", subject="a", to=people[:10], cc=people[10:20], bcc=people[20:30]),
        replace(FIRST, message_id="too many", subject="b", to=people[:10], cc=people[10:20], bcc=people[20:31]),
        FIRST,
        replace(FIRST, message_id="again", date="2002-01-01 00:00:00", to=(ANN,)),
        replace(FIRST, message_id="other sender", sender=BOB),
        replace(FIRST, message_id="other subject", subject="Re: Budget meeting"),
        replace(FIRST, subject="the id of the first"),
        # What was left out for another reason makes no duplicate.
        replace(FIRST, message_id="fewer", subject="b"),
    ]
    expected = ["longest", "most", "<1>", "other sender", "other subject", "fewer"]
    assert [email.message_id for email in kept(emails)] == expected


def test_the_tables_are_those_of_the_public_mailbox(tmp_path: Path) -> None:
    with closing(sqlite3.connect(write_database(tmp_path / "mail.sqlite", *EMAILS))) as connection:
        row = connection.execute("SELECT * FROM emails WHERE message_id = '<1>'").fetchone()
        assert row == (1, "<1>", "Budget meeting", ANN, "2001-05-14 00:00:00", FIRST.body, "ann/1")
        rows = connection.execute("SELECT * FROM recipients WHERE email_id = 3 ORDER BY rowid").fetchall()
        assert rows == [(3, ANN, "to"), (3, "cat@x.example", "bcc")]
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO emails (message_id) VALUES ('<1>')")
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'emails_fts'").fetchone()
        assert "fts5(subject, body, content='emails', content_rowid='id')" in sql


def spoil(file: Path, how: str) -> None:
    if how == "text":
        file.write_text("This is a letter to my aunt. " * 1000)
        return
    if how == "empty":
        file.write_bytes(b"")
        return
    write_database(file, *EMAILS)
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-4096])
        return
    statements = {
        "no table": "DROP TABLE recipients",
        "no index": "DROP TABLE emails_fts",
        "column": "ALTER TABLE emails RENAME COLUMN body TO content",
        "no emails": "DELETE FROM emails",
        "no recipients": "DELETE FROM recipients",
        "dates": "UPDATE emails SET date = '14 May 2001'",
        "empty index": "INSERT INTO emails_fts (emails_fts) VALUES ('delete-all')",
    }
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statements[how])
        connection.commit()


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("text", "file is not a database"),
        ("empty", "it has no table emails"),
        ("cut", "cut short|malformed"),
        ("no table", "it has no table recipients"),
        ("no index", "it has no table emails_fts"),
        ("column", "its table emails has no column body"),
        ("no emails", "it holds no emails"),
        ("no recipients", "its table recipients is empty"),
        ("dates", "its dates must read like 2001-05-14 16:39:00"),
        ("empty index", "its full-text index does not belong to its emails"),
    ],
)
def test_what_is_no_mailbox_is_refused(tmp_path: Path, how: str, problem: str) -> None:
    file = tmp_path / "mail.sqlite"
    spoil(file, how)
    with pytest.raises(ConfigurationError, match=f"mail.sqlite is not a mailbox: .*({problem})"):
        Database.at(file)


def test_a_mailbox_is_made_once_and_again_when_the_source_has_changed(tmp_path: Path) -> None:
    source = write_emails(tmp_path / "source", *EMAILS) / "train-00000-of-00001.jsonl"
    made = []

    def emails() -> Iterator[Email]:
        made.append(1)
        yield from EMAILS

    cache = tmp_path / "cache"
    for _ in range(2):
        cached([source], emails(), cache).close()
    assert len(made) == 1
    os.utime(source, ns=(1, 1))
    cached([source], emails(), cache).close()
    assert len(made) == 2
    (cache / f"{key([source])}.sqlite").write_bytes(b"damaged" * 100)
    database = cached([source], emails(), cache)
    assert len(made) == 3
    assert len(Mailbox(database).search_emails(ANN, ["budget"])) == 3
    database.close()
    assert not list(cache.glob("*.part"))


def test_a_mailbox_that_cannot_be_finished_leaves_nothing_in_its_place(tmp_path: Path) -> None:
    source = write_emails(tmp_path / "source", *EMAILS) / "train-00000-of-00001.jsonl"

    def emails() -> Iterator[Email]:
        yield FIRST
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached([source], emails(), tmp_path / "cache")
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]
    with pytest.raises(ConfigurationError, match=r"cannot be written to .* name another folder with cache=…"):
        cached([source], iter(EMAILS), source / "cache")


def test_processes_that_want_the_same_mailbox_make_it_once(tmp_path: Path) -> None:
    source = write_emails(tmp_path / "source", *EMAILS)
    code = (
        "import sys; from pathlib import Path; from rao_rl.envs.email_search.questions import email_files, emails\n"
        "from rao_rl.envs.email_search.cache import cached\n"
        "from rao_rl.envs.email_search.mailbox import Mailbox\n"
        "def read(files):\n    print('made')\n    yield from emails(files)\n"
        "files = email_files(sys.argv[1])\n"
        "database = cached(files, read(files), Path(sys.argv[2]))\n"
        f"print(len(Mailbox(database).search_emails({ANN!r}, ['budget'])))\n"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].split() for process in processes]
    assert sorted([*outputs[0], *outputs[1]]) == ["3", "3", "made"]


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "rao" / "mailboxes"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "rao" / "mailboxes"
