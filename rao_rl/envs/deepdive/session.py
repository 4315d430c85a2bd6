"""One attempt at a question of the public set: the tools, and what can be said of its agents without a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..base import ScoredNode
from .matching import normalised
from .search import SearchBackend
from .tools import SearchTools

ROOT = "0"


class DeepDiveSession:
    """The state of one tree. The answer stays here, on the host; agents have the tools only."""

    def __init__(self, backend: SearchBackend, answer: str | None) -> None:
        self.search = SearchTools(backend)
        self.tools: Sequence[Callable[..., Any]] = self.search.tools
        self._answer = answer

    @property
    def outages(self) -> dict[str, list[str]]:
        """For each agent that the search failed, and for each of its ancestors: what went wrong."""
        return self.search.outages

    async def score(self, node: ScoredNode) -> float | None:
        """1.0 where the root's answer is the reference up to case, accents, articles and punctuation.

        None where a judge must decide: another answer of the root (see `reference`), every answer of a sub-agent. None as well
        where the search failed this agent or one below it, so that an outage is never the agent's failure. 0.0 where an agent
        did not finish, and where the root gave nothing. Raises ConfigurationError, which becomes the status of the
        score, if no search can succeed (a refused key).
        """
        given = _text(node.result) if node.status.finished else None
        is_root = node.id == ROOT
        if is_root and self._answer is not None and given is not None and normalised(given) == normalised(self._answer):
            return 1.0
        if self.search.failed(node.id) or node.status.external:
            return None
        if not node.status.finished or (is_root and given is None):
            return 0.0
        return None

    def judgeable(self, node: ScoredNode) -> bool:
        """False where the search failed the agent or one below it: its answer is not its own failure."""
        return not self.search.failed(node.id)

    def reference(self, node: ScoredNode) -> str | None:
        """The true answer to the node's goal, for a judge on the host; None where it is not known, or not fit to judge by.

        Known for the root alone, and None too where the search failed: such an answer shall not be judged as the agent's.
        """
        return self._answer if node.id == ROOT and node.id not in self.search.outages else None


def _text(result: Any) -> str | None:
    """An answer as text, None where there is none."""
    if isinstance(result, bool | int | float):
        return str(result)
    if isinstance(result, str):
        return result.strip() or None
    return str(result) if result else None
