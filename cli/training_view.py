"""The training page: as a file, and in the browser while runs go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recursive_agent.errors import ConfigurationError

from .files import check_writable
from .live_page import ServedPage

if TYPE_CHECKING:
    from recursive_agent.viewer.site import Site


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


class TrainingView(ServedPage):
    """The page of the training runs at these places, which may not have begun."""

    what = "training"

    def __init__(self, places: Sequence[Path], *, port: int | None = None, labels: Sequence[str] = ()) -> None:
        super().__init__(port or 0)
        self._places, self._labels = places, labels

    def site(self) -> Site:
        """The figures and alarms of the runs."""
        from rao_rl.evaluation.training_site import TrainingSite

        return TrainingSite(self._places, labels=self._labels)
