"""The tools of an agent that searches, and the record of whose calls the backend failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from recursive_agent.errors import ConfigurationError
from recursive_agent.tools import ToolContext

from .search import LONGEST_QUERY, MOST_RESULTS, NoSuchPage, SearchBackend, SearchUnavailable


class SearchTools:
    """`search_web` and `view_page` for the agents of one tree."""

    def __init__(self, backend: SearchBackend) -> None:
        self.backend = backend
        self.outages: dict[str, list[str]] = {}
        """For each agent that the backend failed, and for each of its ancestors: what went wrong."""
        self._lasting: str | None = None

    @property
    def tools(self) -> Sequence[Callable[..., Any]]:
        """What agents may call."""
        return (self.search_web, self.view_page)

    async def search_web(self, query: str, max_results: int = 5, *, ctx: ToolContext) -> dict[str, Any]:
        """Search pages: at most max_results (1 to 20) of them, the best match first. Words in double quotes are a phrase.

        Returns {'query': ..., 'results': [{'url', 'title', 'content', 'score', 'raw_content'}, ...], ...}; content is an
        extract of the page. Read a whole page with view_page(url).
        """
        query = query.strip()
        if not query:
            raise ValueError("the query is empty: search for the words that the page should have")
        if len(query) > LONGEST_QUERY:
            raise ValueError(f"the query has {len(query):,} characters and at most {LONGEST_QUERY} are allowed")
        if not 1 <= max_results <= MOST_RESULTS:
            raise ValueError(f"max_results must be from 1 to {MOST_RESULTS}, not {max_results}")
        try:
            found = await self.backend.search(query, max_results)
        except SearchUnavailable as failure:
            self._record(ctx.node, failure)
            raise
        return {
            "query": query,
            "follow_up_questions": None,
            "answer": None,
            "images": [],
            "results": [each.as_dict() for each in found[:max_results]],
        }

    async def view_page(self, url: str, *, ctx: ToolContext) -> str:
        """The text of the page at url, which is the url of a result of search_web."""
        try:
            return await self.backend.page(url.strip())
        except NoSuchPage as missing:
            raise LookupError(str(missing)) from None
        except SearchUnavailable as failure:
            self._record(ctx.node, failure)
            raise

    def failed(self, node: str) -> bool:
        """Whether the backend failed a call of this agent or of one below it.

        Raises ConfigurationError if every search fails until the user changes something: that is no agent's failure, and
        the score's status says so.
        """
        if node not in self.outages:
            return False
        if self._lasting is not None:
            raise ConfigurationError(self._lasting)
        return True

    def _record(self, node: str, failure: SearchUnavailable) -> None:
        self._lasting = failure.lasting or self._lasting
        path = node
        while path:
            self.outages.setdefault(path, []).append(str(failure))
            path = path.rpartition(".")[0]
