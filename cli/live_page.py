"""`--view`: a page in the browser that follows the run."""

from __future__ import annotations

import shlex
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import typer

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.trace.schema import Event, RunStarted

from .browser import is_interactive, open_browser
from .messages import say

if TYPE_CHECKING:
    from recursive_agent.viewer.server import ViewServer
    from recursive_agent.viewer.site import RunSite, Site

ViewOption = Annotated[
    bool,
    typer.Option("--view", metavar="", help="Show the run in the browser while it goes on.", rich_help_panel="Output"),
]


def port_option(panel: str | None = None) -> Any:
    """The option --view-port, in a panel of the help."""
    return typer.Option(
        min=0,
        max=65535,
        metavar="PORT",
        help="Port of the page of --view. Default: a free one.",
        rich_help_panel=panel,
        show_default=False,
    )


ViewPortOption = Annotated[int | None, port_option("Output")]


def check_view_port(port: int | None, *, view: bool) -> None:
    """Raises ConfigurationError for a port without --view."""
    if port is not None and not view:
        raise ConfigurationError("--view-port is the port of the page of --view: add --view, or leave it out")


class ServedPage(ABC):
    """Serves a page while the block lasts, and opens it where somebody sees it.

    Entering raises ConfigurationError for a port that is taken.
    """

    what: ClassVar[str]
    """What is watched, in words."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: ViewServer | None = None

    @abstractmethod
    def site(self) -> Site:
        """What is shown."""

    @property
    def farewell(self) -> str:
        """What the page says when the block is over."""
        return f"The {self.what} has ended."

    def __enter__(self) -> Self:
        from recursive_agent.viewer.server import ViewServer

        self._server = ViewServer(self.site(), port=self._port).__enter__()
        say(f"watch the {self.what} at {self._server.url}")
        open_browser(self._server.ticket())
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close(self.farewell)

    def stay(self) -> None:
        """Keep the page of what is over until Ctrl-C, if somebody is there to press it."""
        if self._server is None or not is_interactive():
            return
        say(f"the page stays at {self._server.url} until you press Ctrl-C")
        self.wait()

    def wait(self) -> None:
        """Serve until Ctrl-C."""
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


class LivePage(ServedPage):
    """The page of a run, whose trace is `file`, or appears in `traces`."""

    what = "run"

    def __init__(self, traces: Path, *, port: int = 0, file: Path | None = None) -> None:
        super().__init__(port)
        self._traces, self._file = traces, file
        self._site: RunSite | None = None

    def site(self) -> Site:
        """The page of the trace."""
        from recursive_agent.viewer.site import RunSite

        self._site = RunSite(self._file)
        return self._site

    @property
    def farewell(self) -> str:
        """How to see it again."""
        again = "" if self._file is None else f" To see it again: rao trace view {shlex.quote(str(self._file))}"
        return f"{super().farewell}{again}"

    def event(self, event: Event) -> None:
        """Take note of an event: with the first one it is known where the trace is."""
        if isinstance(event, RunStarted) and self._file is None and self._site is not None:
            from recursive_agent.trace.folder import find_trace

            with suppress(TraceError):  # it cannot be written, which the run says itself
                self._file = find_trace(event.run, self._traces)
                self._site.show(self._file)


def live_page(traces: Path, *, view: bool, port: int | None, file: Path | None = None) -> LivePage | None:
    """The page that the options ask for. Raises ConfigurationError for a port without --view."""
    check_view_port(port, view=view)
    if not view:
        return None
    return LivePage(traces, port=port or 0, file=file)
