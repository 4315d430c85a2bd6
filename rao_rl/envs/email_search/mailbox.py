"""What one can do in a mailbox: search the emails of an inbox, and read one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import date
from typing import Any

from .database import Database

MOST_RESULTS = 10


class Mailbox:
    """The emails of many people in one database, and the two ways to look into them. Safe to use from threads."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def search_emails(
        self,
        inbox: str,
        keywords: Sequence[str],
        from_addr: str | None = None,
        to_addr: str | None = None,
        sent_after: str | None = None,
        sent_before: str | None = None,
        max_results: int = MOST_RESULTS,
    ) -> list[dict[str, str]]:
        """The newest emails that the owner of `inbox` sent or received and that hold all `keywords` in subject or body.

        A keyword is a phrase. The addresses must be equal to those of the email; `to_addr` may be in cc or bcc. Dates read
        `YYYY-MM-DD` and mean 00:00:00 of that day: emails from `sent_after` on, and before `sent_before`. Raises ValueError
        if there are no keywords, more than 10 results are asked for, or a date reads otherwise.
        """
        if not keywords:
            raise ValueError("give at least one keyword")
        if not 1 <= max_results <= MOST_RESULTS:
            raise ValueError(f"max_results must be from 1 to {MOST_RESULTS}, not {max_results}")
        where = ["emails_fts MATCH ?", f"(e.from_address = ? OR {_RECEIVED})"]
        values: list[Any] = [" AND ".join(map(_phrase, keywords)), inbox, inbox]
        if from_addr is not None:
            where.append("e.from_address = ?")
            values.append(from_addr)
        if to_addr is not None:
            where.append(_RECEIVED)
            values.append(to_addr)
        if sent_after is not None:
            where.append("e.date >= ?")
            values.append(_midnight("sent_after", sent_after))
        if sent_before is not None:
            where.append("e.date < ?")
            values.append(_midnight("sent_before", sent_before))
        query = (
            "SELECT e.message_id, snippet(emails_fts, -1, ' ', ' ', ' ... ', 15) "
            # CROSS JOIN: always the full-text index first.
            "FROM emails_fts CROSS JOIN emails e ON e.id = emails_fts.rowid "
            f"WHERE {' AND '.join(where)} ORDER BY e.date DESC, e.id DESC LIMIT ?"
        )
        with self.database.connection() as connection:
            try:
                rows = connection.execute(query, (*values, max_results)).fetchall()
            except sqlite3.OperationalError as error:
                raise ValueError(f"these keywords cannot be searched for: {error}") from None
        return [{"message_id": message_id, "snippet": snippet} for message_id, snippet in rows]

    def read_email(self, message_id: str) -> dict[str, Any] | None:
        """The email with this id, of any inbox; None if there is none."""
        with self.database.connection() as connection:
            row = connection.execute(
                "SELECT id, message_id, date, subject, from_address, body, file_name FROM emails WHERE message_id = ?",
                (message_id,),
            ).fetchone()
            if row is None:
                return None
            recipients = connection.execute(
                "SELECT recipient_address, recipient_type FROM recipients WHERE email_id = ? ORDER BY rowid", row[:1]
            ).fetchall()
        _, message_id, sent, subject, sender, body, file_name = row
        to, cc, bcc = ([address for address, kind in recipients if kind == each] for each in ("to", "cc", "bcc"))
        return {
            "message_id": message_id,
            "date": sent,
            "subject": subject,
            "from_address": sender,
            "to_addresses": to,
            "cc_addresses": cc,
            "bcc_addresses": bcc,
            "body": body,
            "file_name": file_name,
        }

    def inboxes(self, addresses: Sequence[str]) -> set[str]:
        """Those of `addresses` that sent or received an email."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM emails WHERE from_address = ?) "
            "OR EXISTS (SELECT 1 FROM recipients WHERE recipient_address = ?)"
        )
        with self.database.connection() as connection:
            return {each for each in addresses if connection.execute(query, (each, each)).fetchone()[0]}


_RECEIVED = "EXISTS (SELECT 1 FROM recipients r WHERE r.email_id = e.id AND r.recipient_address = ?)"


def _phrase(keyword: str) -> str:
    doubled = keyword.replace('"', '""')
    return f'"{doubled}"'


def _midnight(name: str, day: str) -> str:
    try:
        if len(day) != 10:
            raise ValueError
        date.fromisoformat(day)
    except ValueError:
        raise ValueError(f"{name} must be a date such as 2001-05-14, not {day!r:.40}") from None
    return f"{day} 00:00:00"
