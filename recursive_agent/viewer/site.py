"""What a server of the viewer shows: one run, or a folder of them, as they are when a page asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .follow import LiveRun, Message
from .payload import Json, page_data
from .streaming import Source

LIVE: Json = {"url": "events"}
"""Where a page finds its events, from its own address."""
_TITLE = 80
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer: it belongs to the page alone, is kept by nobody, and its address is told to nobody."""
PAGE_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
"""Headers of the page itself. Which scripts run is the business of its own policy, which knows their hashes."""


class Site(Protocol):
    """What a page shows, and what it may ask for. Called in threads, several at a time."""

    def data(self) -> Json:
        """The data of the page when it is opened; `sources` bring what it lacks."""

    def sources(self, runs: Sequence[str]) -> Sequence[Source] | None:
        """What the page follows: its own subject, and these runs of it. None if one of them is not there."""

    def run(self, run: str) -> str | None:
        """A run with its agents, as JSON; None if it is not there."""

    def compare(self, left: str, right: str) -> str | None:
        """Two runs side by side, as JSON; None if one of them is not there."""


class RunSite:
    """One trace file. It may not be there yet, or not even be known yet."""

    def __init__(self, path: Path | None = None, *, file: str | None = None) -> None:
        """`file` is what the page calls it; the path unless it is given."""
        self._live = None if path is None else LiveRun(path, file=file)

    def show(self, path: Path) -> None:
        """Say which file it is."""
        self._live = LiveRun(path)

    def data(self) -> Json:
        """The run without its agents: they come with the first event."""
        live = self._live
        head = None if live is None else live.head()
        goal = None if live is None else live.goal()
        title = " ".join(goal[: 4 * _TITLE].split())[:_TITLE] if goal else "Trace"
        note = None if live is None else live.problem
        return page_data(title, kind="run", runs=[] if head is None else [head], live=LIVE, note=note)

    def sources(self, runs: Sequence[str]) -> Sequence[Source] | None:
        """The run itself, whatever is asked for."""
        return [self]

    def since(self, cursor: str | None) -> tuple[str, list[Message]]:
        """What changed in the run."""
        return ("", []) if self._live is None else self._live.since(cursor)

    def run(self, run: str) -> str | None:
        """The run, if this is its id."""
        return None if self._live is None else self._live.run_json(run)

    def compare(self, left: str, right: str) -> str | None:
        """None: there is one run."""
        return None
