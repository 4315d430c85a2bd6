"""Runs of a server in the browser: a page that follows one run, under a signed link."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Literal
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from recursive_agent.viewer.page import page_text
from recursive_agent.viewer.site import HEADERS, PAGE_HEADERS, RunSite
from recursive_agent.viewer.streaming import Source, events

from ..http.errors import ApiError
from ..http.streams import EventStream
from ..http.traffic import SIGNED
from .links import Links
from .traces import ID, Traces

_STREAMS = 64
"""Pages that may follow runs at once."""
_RECENT = 8
"""Runs that stay in memory though no page follows them right now."""
_THREADS = 4


class ViewLink(BaseModel):
    """An address that shows a run in a browser, to whoever has it, until it expires."""

    object: Literal["agent.view"] = "agent.view"
    run: str
    url: str
    expires_at: int
    """Seconds since the epoch. A page that is open then goes on until its connection breaks."""


class _Views:
    """The runs that are looked at. Pages of the same run share what was read of it."""

    def __init__(self) -> None:
        self.streams = 0
        self._sites: WeakValueDictionary[Path, RunSite] = WeakValueDictionary()
        self._recent: deque[RunSite] = deque(maxlen=_RECENT)

    def site(self, path: Path) -> RunSite:
        """The run of this file."""
        site = self._sites.get(path)
        if site is None:
            site = self._sites[path] = RunSite(path, file=path.name)
        if site not in self._recent:
            self._recent.append(site)
        return site

    async def follow(
        self,
        sources: Sequence[Source],
        last_id: str | None,
        ending: Callable[[], str | None],
        limiter: anyio.CapacityLimiter,
    ) -> AsyncGenerator[bytes, None]:
        """The events for one page."""
        self.streams += 1
        try:
            async with aclosing(events(sources, last_id, ending=ending, limiter=limiter)) as stream:
                async for event in stream:
                    yield event
        finally:
            self.streams -= 1


def add_views(app: FastAPI, directory: Path | None) -> None:
    """Serve a page for each run whose trace is in `directory` (None: no traces are kept)."""
    links, views, traces = Links(), _Views(), Traces(directory)
    limiter = anyio.CapacityLimiter(_THREADS)
    traffic = app.state.traffic

    async def trace_of(run: str) -> Path:
        if not traces.kept:
            raise ApiError(404, "This server keeps no traces, so its runs cannot be shown.", code="no_traces")
        found = await traces.find(run)
        if found is None:
            raise ApiError(404, "There is no such run.", param="run", code="run_not_found")
        return found

    async def site_of(link: str) -> RunSite:
        run = links.run_of(link)
        if run is None:
            raise ApiError(
                403,
                "This link has expired or is wrong; ask for a new one with GET /v1/runs/RUN/view.",
                code="invalid_link",
            )
        return views.site(await trace_of(run))

    @app.get("/v1/runs/{run}/view")
    async def view(request: Request, run: Annotated[str, PathParameter(json_schema_extra={"pattern": ID})]) -> ViewLink:
        """A link that shows a run in a browser, also while it goes on. Whoever has a key may look at every run."""
        await trace_of(run)
        link = links.make(run)
        return ViewLink(
            run=run, url=f"{str(request.base_url).rstrip('/')}{SIGNED}{link.text}/", expires_at=link.expires
        )

    @app.get(SIGNED + "{link}/", include_in_schema=False)
    async def page(link: str) -> Response:
        """The page of a run."""
        site = await site_of(link)
        data = await anyio.to_thread.run_sync(site.data, limiter=limiter)
        return HTMLResponse(await anyio.to_thread.run_sync(page_text, data, limiter=limiter), headers=PAGE_HEADERS)

    @app.get(SIGNED + "{link}/events", include_in_schema=False)
    async def follow(request: Request, link: str) -> Response:
        """The events of the page."""
        site = await site_of(link)
        if views.streams >= _STREAMS:
            raise ApiError(429, f"{_STREAMS} pages follow runs already; close one of them.", retry_after=5)
        stream = views.follow(
            [site],
            request.headers.get("last-event-id"),
            lambda: "The server is shutting down." if traffic.draining else None,
            limiter,
        )
        return EventStream(stream, headers=HEADERS)
