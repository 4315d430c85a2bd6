"""The training page: as a file, and in the browser while runs go on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from recursive_agent.errors import ConfigurationError

from .browser import is_interactive, open_browser
from .files import check_writable
from .messages import say

if TYPE_CHECKING:
    from recursive_agent.viewer.server import ViewServer


def write_page(places: Sequence[Path], out: Path, *, labels: Sequence[str] = ()) -> None:
    """Write the page of the training runs at these places. Raises ConfigurationError where there is none."""
    from rao_rl.evaluation.training_page import training_data
    from recursive_agent.viewer.page import page_text
    from recursive_agent.viewer.payload import page_data

    training = training_data(places, labels=labels)
    check_writable(out)
    try:
        out.write_text(page_text(page_data(training["title"], kind="training", training=training)), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written ({error.strerror})") from error


class TrainingView:
    """Serves the training page on this machine while the block lasts, and opens it where somebody sees it.

    The runs may not have begun. Entering raises ConfigurationError for a port that is taken.
    """

    def __init__(self, places: Sequence[Path], *, port: int | None = None, labels: Sequence[str] = ()) -> None:
        self._places, self._port, self._labels = places, port or 0, labels
        self._server: ViewServer | None = None

    def __enter__(self) -> Self:
        from rao_rl.evaluation.training_site import TrainingSite
        from recursive_agent.viewer.server import ViewServer

        self._server = ViewServer(TrainingSite(self._places, labels=self._labels), port=self._port).__enter__()
        say(f"watch the training at {self._server.url}")
        open_browser(self._server.ticket())
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close("The training has ended.")

    def stay(self) -> None:
        """Keep the page until Ctrl-C, if somebody is there to press it."""
        if self._server is None or not is_interactive():
            return
        say(f"the page stays at {self._server.url} until you press Ctrl-C")
        self.wait()

    def wait(self) -> None:
        """Serve until Ctrl-C."""
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
