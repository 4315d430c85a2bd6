"""One attempt at a question about a made-up graph: the tools over its pages, and the exact score of every agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from recursive_agent.tools import ToolContext

from ..base import ScoredNode
from .corpus import Corpus
from .goals import answers, parse_goal
from .graph import Graph
from .matching import normalised
from .tools import SearchTools


class SynthSession:
    """The state of one tree. The pages never change, so no agent can change what another one finds."""

    def __init__(self, graph: Graph, corpus: Corpus) -> None:
        self.graph = graph
        self.unparsed: set[str] = set()
        """Ids of the nodes whose goal broke the grammar, as far as they were scored."""
        self.unanswerable: set[str] = set()
        """Ids of the nodes whose goal has no answer: a name that does not exist, a relation that does not apply."""
        self._search = SearchTools(corpus)
        self.tools: Sequence[Callable[..., Any]] = (self.search_web, self.view_page)

    async def search_web(self, query: str, max_results: int = 5, *, ctx: ToolContext) -> dict[str, Any]:
        """Search pages: at most max_results (1 to 20) of them, the best match first. Words in double quotes are a phrase.

        Returns {'query': ..., 'results': [{'url', 'title', 'content', 'score', 'raw_content'}, ...], ...}; content is an
        extract of the page. Every person, place, organisation, work and event has a page with its name as the title.

        Goals, yours and those of sub-agents, read: Find: the RELATION of THING, or Find: the KIND whose RELATION is THING and
        whose RELATION is NAME. A THING is a NAME as the pages write it, or again "the RELATION of THING" or "the KIND whose
        ...". Relations: author, publisher, setting (of a work); birthplace, employer, teacher, spouse (of a person); founder,
        headquarters, owner (of an organisation); venue, organiser, winner, guest (of an event); mayor, twin town (of a place).
        Finish with the name that was found (a list of all names if there are several).
        """
        return await self._search.search_web(query, max_results, ctx=ctx)

    async def view_page(self, url: str, *, ctx: ToolContext) -> str:
        """The text of the page at url, which is the url of a result of search_web.

        A page tells the facts about the entity that it is named after: the page of a work names its author, but the page of
        a person does not name the works.
        """
        return await self._search.view_page(url, ctx=ctx)

    async def score(self, node: ScoredNode) -> float:
        """1.0 where the node finished with exactly the names that its own goal asks for, else 0.0."""
        chain = parse_goal(node.goal)
        if chain is None:
            self.unparsed.add(node.id)
            return 0.0
        gold = answers(self.graph, chain)
        if not gold:
            self.unanswerable.add(node.id)
            return 0.0
        if not node.status.finished:
            return 0.0
        given = node.result if isinstance(node.result, list | tuple) else [node.result]
        if not all(isinstance(name, str) for name in given):
            return 0.0
        return float({normalised(name) for name in given} == {normalised(name) for name in gold})
