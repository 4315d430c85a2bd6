"""One attempt at a question about an inbox: the tools that its agents share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from recursive_agent.threads import call_in_thread
from recursive_agent.trace.tree import Node

from .answers import UNKNOWN, answer_of, overlap, same, sources_of
from .mailbox import MOST_RESULTS, Mailbox


class Tools:
    """The tools of all agents of a tree, who look for answers in one inbox.

    `place` gives the mailbox and the address of the inbox; it is called in threads, as queries are, and may take its time.
    """

    def __init__(self, place: Callable[[], tuple[Mailbox, str]]) -> None:
        self._place = place
        self.tools: Sequence[Callable[..., Any]] = (self.search_emails, self.read_email)

    async def search_emails(
        self,
        keywords: list[str],
        from_addr: str | None = None,
        to_addr: str | None = None,
        sent_after: str | None = None,
        sent_before: str | None = None,
        max_results: int = MOST_RESULTS,
    ) -> list[dict[str, str]]:
        """Search the inbox for emails that hold all keywords (each a word or a phrase) in their subject or body.

        Returns at most 10, the newest first: [{'message_id': …, 'snippet': …}]. from_addr and to_addr are whole addresses.
        Dates read YYYY-MM-DD; emails of the day sent_after are found, those of the day sent_before are not.
        """
        wanted = (keywords, from_addr, to_addr, sent_after, sent_before, max_results)
        return await call_in_thread(self._search, *wanted)

    async def read_email(self, message_id: str) -> dict[str, Any] | None:
        """The whole email: message_id, date, subject, from_address, to_addresses, cc_addresses, bcc_addresses, body, file_name.

        None if there is no email with this id.
        """
        return await call_in_thread(self._read, message_id)

    def _search(self, *wanted: Any) -> list[dict[str, str]]:
        mailbox, inbox = self._place()
        return mailbox.search_emails(inbox, *wanted)

    def _read(self, message_id: str) -> dict[str, Any] | None:
        mailbox, _ = self._place()
        return mailbox.read_email(message_id)


class EmailSession(Tools):
    """An attempt at a public question."""

    def __init__(self, mailbox: Mailbox, inbox: str, gold: str, message_ids: Sequence[str]) -> None:
        super().__init__(lambda: (mailbox, inbox))
        self._gold = gold
        self._message_ids = message_ids

    async def score(self, node: Node) -> float | None:
        """0 for an agent that did not finish and a root that does not know, 1 for a root with the answer in the same words.

        Otherwise None: whether other words mean the same, and whether a sub-agent met its goal, a judge has to say.
        """
        if not node.finished:
            return 0.0
        if node.parent is not None:
            return None
        answer = answer_of(node.result)
        if answer is None or not answer.strip() or same(answer, UNKNOWN):
            return 0.0
        return 1.0 if same(answer, self._gold) else None

    def reference(self, node: Node) -> str | None:
        """The right answer, for a judge of the root; None for sub-agents, whose goals are their parents' own."""
        return self._gold if node.parent is None else None

    def metrics(self, node: Node) -> dict[str, float]:
        """How the sources that the root names fit those of the public set; they do not change its score."""
        return overlap(sources_of(node.result), self._message_ids)
