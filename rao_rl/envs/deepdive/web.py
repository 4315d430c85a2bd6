"""A search API over HTTP as a `SearchBackend`: Tavily's, or one that speaks its format (`/search`, `/extract`).

Connections, time limits, rate limits and retries are those of every other endpoint of rao.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.dialect import Trouble
from recursive_agent.model.endpoint import Endpoint, resolve_endpoint
from recursive_agent.model.failures import Failure, Misconfigured, Rejected
from recursive_agent.model.gate import Gate
from recursive_agent.model.retry import Exhausted, Retries, call_with_retries
from recursive_agent.model.wire import Wire

from .search import Found, NoSuchPage, SearchUnavailable

TAVILY = "https://api.tavily.com"
KEY_VARIABLES = ("RAO_SEARCH_API_KEY", "TAVILY_API_KEY")
URL_VARIABLE = "RAO_SEARCH_URL"
_SEARCH, _EXTRACT = "/search", "/extract"
RETRIES = Retries(limit=3, base=0.5, cap=8.0, retry_after_cap=30.0, patience=60.0)
"""An agent waits for a search inside a cell, so for minutes and not for a quarter of an hour as for a model."""
_LASTING = frozenset({Trouble.KEY, Trouble.QUOTA, Trouble.MODEL})

_NO_CREDIT = (432, 433)
"""Tavily's own statuses for the limits of a plan and of an account."""
T = TypeVar("T")


@dataclass(slots=True)
class _Loop:
    """What belongs to an event loop: the calls under way, and the gate they go through."""

    calls: int = 0
    gate: Gate = field(default_factory=Gate)


class WebSearch:
    """Searches the web. `timeout` (seconds) is for one attempt at a call.

    `key` replaces RAO_SEARCH_API_KEY and TAVILY_API_KEY, `url` RAO_SEARCH_URL (default: Tavily's). Raises ConfigurationError
    if there is no key for an API that is not on this machine or network, or if the URL is none.
    """

    def __init__(
        self, *, key: str | None = None, url: str | None = None, timeout: float = 30.0, retries: Retries = RETRIES
    ) -> None:
        if not timeout > 0:
            raise ConfigurationError(f"the time limit of a search must be more than 0 seconds, not {timeout!r}")
        self.endpoint = _endpoint(key, url)
        self.retries = retries
        self._wire = Wire(self.endpoint, timeout=timeout)
        self._loops: dict[EventLoopToken, _Loop] = {}

    async def search(self, query: str, max_results: int) -> Sequence[Found]:
        """The best results first. Raises SearchUnavailable."""
        return await self._call(_SEARCH, {"query": query, "max_results": max_results}, _results)

    async def page(self, url: str) -> str:
        """The text of a page. Raises NoSuchPage and SearchUnavailable."""
        text = await self._call(_EXTRACT, {"urls": [url]}, _text)
        if text is None:
            raise NoSuchPage(f"the page {url!r:.200} cannot be read: use another result of search_web")
        return text

    def check(self) -> None:
        """Search once, with one attempt, to learn of a refused key before any agent works.

        Raises ConfigurationError if the API refuses the key or does not exist; one that is only down may come back.
        """
        with anyio.from_thread.start_blocking_portal() as portal:  # also where an event loop runs in this thread
            portal.call(self._check)

    async def _check(self) -> None:
        try:
            await self._call(_SEARCH, {"query": "rao", "max_results": 1}, _results, Retries(limit=0))
        except SearchUnavailable as failure:
            if failure.lasting is not None:
                raise ConfigurationError(failure.lasting) from None

    async def _call(
        self, path: str, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T], retries: Retries | None = None
    ) -> T:
        async def attempt() -> T:
            return read(await self._wire.post(path, body))

        async with self._open() as gate:
            try:
                answered = await call_with_retries(attempt, retries or self.retries, bound=0, on_lost=None, gate=gate)
            except Exhausted as exhausted:
                raise self._unavailable(exhausted) from None
        return answered.value

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Gate]:
        """The gate of this event loop. Connections are closed when no call is under way, since nobody else would."""
        token = current_token()
        loop = self._loops.setdefault(token, _Loop())
        loop.calls += 1
        try:
            yield loop.gate
        finally:
            loop.calls -= 1
            if not loop.calls:
                del self._loops[token]
                await self._wire.aclose()

    def _unavailable(self, exhausted: Exhausted) -> SearchUnavailable:
        failure, at = exhausted.failure, self.endpoint.shown_url
        reason = failure.reason.rstrip(".")
        if isinstance(failure, Misconfigured):
            return SearchUnavailable("search cannot be used as this machine is set up", lasting=failure.reason)
        if isinstance(failure, Rejected) and (failure.trouble in _LASTING or failure.status in _NO_CREDIT):
            return SearchUnavailable("search is not available in this run", lasting=_lasting(failure, at, reason))
        if not failure.retryable and not isinstance(failure, Rejected):
            return SearchUnavailable(
                "search is not available in this run", lasting=f"the search API at {at}: {reason}."
            )
        if isinstance(failure, Rejected) and not failure.retryable:
            return SearchUnavailable(f"the search API refused this call ({reason}); word it otherwise")
        tried = "one attempt" if exhausted.attempts == 1 else f"{exhausted.attempts} attempts"
        what = "takes no more calls now" if failure.throttled else "gave no usable answer"
        return SearchUnavailable(
            f"the search API {what} ({tried}; last: {reason}); try again later, or go on without it"
        )


def _endpoint(key: str | None, url: str | None) -> Endpoint:
    key = key or next(filter(None, map(os.environ.get, KEY_VARIABLES)), None)
    url = url or os.environ.get(URL_VARIABLE) or TAVILY
    if not key and url == TAVILY:
        raise ConfigurationError(
            f"searching the web needs a key: set {KEY_VARIABLES[0]} (or {KEY_VARIABLES[1]}), or search a local copy with "
            "corpus=PATH"
        )
    try:
        return resolve_endpoint("search", url, key or "none")
    except ConfigurationError:
        raise ConfigurationError(
            f"the search API needs an http:// or https:// URL ({URL_VARIABLE}) and a key in plain characters "
            f"({KEY_VARIABLES[0]}); one of them cannot be used"
        ) from None


def _lasting(failure: Rejected, at: str, reason: str) -> str:
    if failure.trouble is Trouble.KEY:
        return f"the search API at {at} refused the key ({reason}); set {KEY_VARIABLES[0]} to one that is valid."
    if failure.trouble is Trouble.QUOTA or failure.status in _NO_CREDIT:
        return f"the account at the search API {at} has nothing left ({reason}); add credit or use another key."
    return f"there is no search API at {at} ({reason}); set {URL_VARIABLE} to the base URL of one that speaks Tavily's format."


def _results(answer: Mapping[str, Any]) -> list[Found]:
    """The results of an answer. Raises Failure where it is not what a search API answers."""
    rows = answer.get("results")
    if not isinstance(rows, list):
        raise Failure(f"the answer has no list of results, but {_shown(answer)}")
    return [_found(row) for row in rows]


def _found(row: Any) -> Found:
    if not isinstance(row, Mapping) or not isinstance(row.get("url"), str) or not row["url"]:
        raise Failure(f"a result is no object with a url: {row!r:.120}")
    score, raw = row.get("score"), row.get("raw_content")
    return Found(
        url=row["url"],
        title=_words(row.get("title")),
        content=_words(row.get("content")),
        score=float(score) if isinstance(score, int | float) and math.isfinite(score) else 0.0,
        raw_content=raw if isinstance(raw, str) else None,
    )


def _text(answer: Mapping[str, Any]) -> str | None:
    """The text of the one page of an answer; None where the API says that it could not read it. Raises Failure."""
    rows = answer.get("results")
    if isinstance(rows, list) and rows:
        text = rows[0].get("raw_content") if isinstance(rows[0], Mapping) else None
        if isinstance(text, str):
            return text or None
    elif isinstance(rows, list) and isinstance(answer.get("failed_results"), list):
        return None
    raise Failure(f"the answer has no text of the page, but {_shown(answer)}")


def _words(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _shown(answer: Mapping[str, Any]) -> str:
    return ", ".join(list(map(str, answer))[:8])[:120] or "nothing"
