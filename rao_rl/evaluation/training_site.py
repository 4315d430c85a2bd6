"""The training page as a server shows it: it follows the metrics file of runs that go on, and opens their traces."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.trace.folder import read_trace
from recursive_agent.viewer.follow import Message
from recursive_agent.viewer.page import json_text
from recursive_agent.viewer.payload import Json, page_data, run_data
from recursive_agent.viewer.site import LIVE
from recursive_agent.viewer.streaming import Source

from .training_page import ALARMS_FILE, METRICS_FILE, TRACES, find_runs, training_data


class TrainingSite:
    """The runs at these places, of which some may go on, or not have begun."""

    def __init__(self, places: Sequence[Path], *, labels: Sequence[str] = ()) -> None:
        self._places = list(places)
        self._labels = list(labels)
        self._epoch = secrets.token_hex(4)

    def data(self) -> Json:
        """The page with all that is known now."""
        training, note = self._read()
        return page_data(str(training["title"]), kind="training", training=training, live=LIVE, note=note)

    def sources(self, runs: Sequence[str]) -> Sequence[Source] | None:
        """The figures; a page that shows the tree of a run gets it once."""
        return [self]

    def since(self, cursor: str | None) -> tuple[str, list[Message]]:
        """All figures, if a file has changed: they are small."""
        now = self._state()
        if now == cursor:
            return now, []
        training, _ = self._read()
        return now, [Message("training", json_text(training))]

    def run(self, run: str) -> str | None:
        """A trace of one of the runs, by the id of its tree, which its file is named after."""
        if not run or not all(letter.isalnum() or letter in "-._" for letter in run):
            return None
        for folder in self._folders():
            for path in (folder / TRACES).glob(f"*/*{run.rpartition('-')[2]}.jsonl"):
                try:
                    tree = read_trace(path).tree
                except TraceError:
                    continue
                if tree is not None and tree.run == run:
                    return json_text(run_data(tree, file=str(path)))
        return None

    def compare(self, left: str, right: str) -> str | None:
        """None: training runs are compared by overlaying them."""
        return None

    def _read(self) -> tuple[Json, str | None]:
        try:
            return training_data(self._places, labels=self._labels), None
        except ConfigurationError as error:  # not begun yet
            empty = {"title": "Training", "groups": [], "metrics": [], "looks": [], "runs": []}
            return empty, str(error)

    def _folders(self) -> list[Path]:
        found = []
        for place in self._places:
            with suppress(ConfigurationError):  # not begun yet
                found += [run if run.is_dir() else run.parent for run in find_runs([place])]
        return found

    def _state(self) -> str:
        """What changes where a page has to be told."""
        marks = []
        for folder in self._folders():
            for file in (folder / METRICS_FILE, folder / ALARMS_FILE):
                with suppress(OSError):
                    found = file.stat()
                    marks.append(f"{found.st_size}.{found.st_mtime_ns}")
        # A page sends it back in a header, which must not grow with the number of runs.
        return hashlib.blake2b("-".join([self._epoch, *marks]).encode(), digest_size=12).hexdigest()
