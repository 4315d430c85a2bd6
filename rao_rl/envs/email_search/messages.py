"""An email, and which emails a mailbox keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MOST_BODY = 5_000
"""Characters of a body; longer emails are left out of a mailbox."""
MOST_RECIPIENTS = 30
"""Recipients (to, cc and bcc together); emails to more are left out of a mailbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """One email. `date` reads `2001-05-14 16:39:00`."""

    message_id: str
    subject: str
    sender: str
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    date: str
    body: str
    file_name: str = ""

    def recipients(self) -> Iterator[tuple[str, str]]:
        """(address, kind) of each recipient; the kinds are `to`, `cc` and `bcc`."""
        for kind, addresses in (("to", self.to), ("cc", self.cc), ("bcc", self.bcc)):
            for address in addresses:
                yield address, kind

    def concerns(self, inbox: str) -> bool:
        """Whether the owner of `inbox` sent or received it."""
        return inbox == self.sender or any(inbox == address for address, _ in self.recipients())


def kept(emails: Iterable[Email]) -> Iterator[Email]:
    """The emails that a mailbox holds.

    Left out are long ones, those to many recipients, and all but the first of those with the same subject, body and sender,
    or with the same message id.
    """
    seen: set[tuple[str, str, str]] = set()
    ids: set[str] = set()
    for email in emails:
        if len(email.body) > MOST_BODY or sum(1 for _ in email.recipients()) > MOST_RECIPIENTS:
            continue
        content = (email.subject, email.body, email.sender)
        if content in seen or email.message_id in ids:
            continue
        seen.add(content)
        ids.add(email.message_id)
        yield email
