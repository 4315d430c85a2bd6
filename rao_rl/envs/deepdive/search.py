"""What searches and gives pages: one small interface, whether it is an API or an index on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MOST_RESULTS = 20
LONGEST_QUERY = 400
"""Characters; search APIs take no longer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page to index."""

    url: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A result of a search; `content` is an extract of the page."""

    url: str
    title: str
    content: str
    score: float
    raw_content: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As agents get it."""
        return {
            "url": self.url,
            "title": self.title,
            "content": self.content,
            "score": self.score,
            "raw_content": self.raw_content,
        }


class SearchBackend(Protocol):
    """Searches, and gives pages. Safe to use from many agents at once, on any event loop."""

    async def search(self, query: str, max_results: int) -> Sequence[Found]:
        """The best results first. Raises SearchUnavailable."""

    async def page(self, url: str) -> str:
        """The text of a page. Raises NoSuchPage and SearchUnavailable."""

    def check(self) -> None:
        """Raises ConfigurationError, in one sentence, if no search can ever succeed (a refused key, say)."""


class NoSuchPage(Exception):
    """There is no text at this address; the message is for the agent."""


class SearchUnavailable(Exception):
    """The search failed for a reason outside the agents; the message is for the agent.

    `lasting` says that every further search would fail the same way, and what the user must change.
    """

    def __init__(self, message: str, *, lasting: str | None = None) -> None:
        super().__init__(message)
        self.lasting = lasting
