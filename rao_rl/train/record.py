"""What a run writes about itself while it goes on: a line of figures in `metrics.jsonl`, and its alarms.

Every line goes the same way, whether it is of a step, of a batch that taught nothing or of an evaluation: the alarms look at
it, it is written down, and the reporters (TensorBoard, Weights & Biases) get it under the same names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from ..errors import TrainingStopped
from ..evaluation.alarms import KINDS, Alarm, Figures, Watch, first_of
from ..evaluation.training_page import ALARMS_FILE, ELAPSED
from . import folder as run_folder

Say = Callable[[str], None]
"""Takes a sentence for whoever watches the run."""


def silent(line: str) -> None:
    """Says nothing."""


class Reporter(Protocol):
    """Somewhere else that figures and alarms go."""

    def figures(self, step: int, row: Mapping[str, Any]) -> None:
        """A line of the metrics file."""

    def alarm(self, alarm: Alarm) -> None:
        """An alarm that begins."""

    def close(self) -> None:
        """The run is over."""


class Record:
    """The figures and alarms of the run in a folder. `rows` are the lines that it has already, where it is resumed.

    `say` is called with each alarm that begins. Of several processes one `writes`. `on_first` gives what is to be said of the
    figures of the first step of a run that is not resumed.
    """

    def __init__(
        self,
        folder: Path,
        say: Say = silent,
        *,
        rows: Sequence[Mapping[str, Any]] = (),
        reporters: Sequence[Reporter] = (),
        writes: bool = True,
        on_first: Callable[[Figures], str | None] = lambda figures: None,
    ) -> None:
        self.metrics = folder / run_folder.METRICS
        self.reporters = reporters
        self.last = max((int(row.get("step", 0)) for row in rows), default=0)
        """The step of the last line."""
        self._alarms = folder / ALARMS_FILE
        self._say = say
        self._on_first = on_first
        self._watch = Watch(first_of(rows))
        self._before = max((float(row.get(ELAPSED, 0.0)) for row in rows), default=0.0)
        self._begun = time.monotonic()
        self._writes = writes
        if writes:
            _cut(self._alarms, self.last if rows else -1)

    @property
    def lasting(self) -> list[str]:
        """The labels of the alarms that last."""
        return [KINDS[name].label for name in self._watch.lasting]

    def write(self, row: Mapping[str, Any]) -> None:
        """A line of figures; `step` is one of them."""
        step = int(row["step"])
        if "entropy" in row and self._watch.first is None and step == 1 and (line := self._on_first(row)) is not None:
            self.alarm("provenance", line, step=step)
            self._say(line)
        began, ended = self._watch.look(row)
        alarms = {**dict.fromkeys(self._watch.lasting, 1.0), **dict.fromkeys(ended, 0.0)}
        written = {**row, ELAPSED: round(self._before + time.monotonic() - self._begun, 3)}
        written |= {f"alarms/{name}": value for name, value in alarms.items()}
        self.last = max(self.last, step)
        run_folder.append_metrics(self.metrics, written)
        for reporter in self.reporters:
            reporter.figures(step, written)
        for name, line in began.items():
            if name != "idle":  # the online loop says why in its own words
                self._say(f"step {step:,}: {line}")
            self.alarm(name, line, step=step)

    def alarm(self, name: str, text: str, *, step: int | None = None) -> None:
        """Write an alarm down."""
        alarm = Alarm(self.last if step is None else step, name, text)
        row = {"step": alarm.step, "name": name, "severity": alarm.kind.severity, "text": text}
        with self._alarms.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        for reporter in self.reporters:
            reporter.alarm(alarm)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Write down why the run ends within the block, if it fails; the reporters are closed after it."""
        try:
            yield
        except TrainingStopped:  # somebody wanted that
            raise
        except Exception as error:
            with suppress(OSError):  # the disk may be what is full
                if self._writes:
                    self.alarm("ended", " ".join(str(error).split()) or type(error).__name__)
            raise
        finally:
            for reporter in self.reporters:
                reporter.close()


def _cut(path: Path, step: int) -> None:
    """Leave out the alarms after a step: those steps come again. Below 0: all."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # a torn line
            row = json.loads(line)
            # That the run ended is over where it goes on.
            if isinstance(row, dict) and row.get("step", 0) <= step and row.get("name") != "ended":
                kept.append(line + "\n")
    path.write_text("".join(kept), encoding="utf-8")
