"""`--view`: a page in the browser that follows the run."""

from __future__ import annotations

import shlex
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.trace.schema import Event, RunStarted

from .browser import is_interactive, open_browser
from .messages import say

if TYPE_CHECKING:
    from recursive_agent.viewer.server import ViewServer
    from recursive_agent.viewer.site import RunSite

ViewOption = Annotated[
    bool,
    typer.Option("--view", metavar="", help="Show the run in the browser while it goes on.", rich_help_panel="Output"),
]
ViewPortOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        metavar="PORT",
        help="Port of the page of --view. Default: a free one.",
        rich_help_panel="Output",
        show_default=False,
    ),
]


class LivePage:
    """Serves the page while the block lasts. Entering raises ConfigurationError for a port that is taken."""

    def __init__(self, traces: Path, *, port: int = 0, file: Path | None = None) -> None:
        """The trace of the run is `file`, or appears in `traces`."""
        self._traces, self._port, self._file = traces, port, file
        self._server: ViewServer | None = None
        self._site: RunSite | None = None

    def __enter__(self) -> Self:
        from recursive_agent.viewer.server import ViewServer
        from recursive_agent.viewer.site import RunSite

        self._site = RunSite(self._file)
        self._server = ViewServer(self._site, port=self._port).__enter__()
        say(f"watch the run at {self._server.url}")
        open_browser(self._server.ticket())
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            again = "" if self._file is None else f" To see it again: rao trace view {shlex.quote(str(self._file))}"
            self._server.close(f"The run has ended.{again}")

    def event(self, event: Event) -> None:
        """Take note of an event: with the first one it is known where the trace is."""
        if isinstance(event, RunStarted) and self._file is None and self._site is not None:
            from recursive_agent.trace.folder import find_trace

            with suppress(TraceError):  # it cannot be written, which the run says itself
                self._file = find_trace(event.run, self._traces)
                self._site.show(self._file)

    def stay(self) -> None:
        """Keep the page of a run that is over until Ctrl-C, if somebody is there to press it."""
        if self._server is None or not is_interactive():
            return
        say(f"the page stays at {self._server.url} until you press Ctrl-C")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def live_page(traces: Path, *, view: bool, port: int | None, file: Path | None = None) -> LivePage | None:
    """The page that the options ask for. Raises ConfigurationError for a port without --view."""
    if not view:
        if port is not None:
            raise ConfigurationError("--view-port is the port of the page of --view: add --view, or leave it out")
        return None
    return LivePage(traces, port=port or 0, file=file)
