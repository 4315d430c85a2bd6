"""The log of a server that runs as a child process, on stderr: in one line while it starts, as it is afterwards."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..text import clean, one_line

_HEAD = re.compile(r"^(\(\w+ pid=\d+\) )?[A-Z]+ [\d-]+ [\d:]+ \[[^]]*\]\s*")
"""Process, level, time and place in a line of vLLM's log: more than there is room for in one that shows progress."""


class StartupLog:
    """Shows a log; a context manager. On a terminal `what` and the last line until it is `ready`; elsewhere every line."""

    def __init__(self, what: str, *, quiet: bool) -> None:
        self._what = what
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        if not quiet and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TextColumn("[dim]{task.fields[line]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(f"starting {what}", total=None, line="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ready()

    @property
    def shows_all(self) -> bool:
        """Whether every line is shown."""
        return not self._quiet and self._bar is None

    def line(self, text: str) -> None:
        """A line of the log. A closed stderr is not a reason to fail."""
        if self._bar is not None:
            room = max(10, self._console.width - len(self._what) - 24)
            self._bar.update(self._task, line=escape(one_line(_HEAD.sub("", text), room)))
        elif not self._quiet:
            with suppress(OSError):
                print(clean(text), file=sys.stderr, flush=True)

    def ready(self) -> None:
        """From now on every line is shown."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def ended(self, status: int, lines: Sequence[str], *, before_ready: bool) -> None:
        """Say that it ended by itself, after its last `lines` where they have not been shown."""
        shown = self.shows_all
        self.ready()
        when = " before it was ready" if before_ready else ""
        with suppress(OSError):
            for line in () if shown else lines:
                print(clean(line), file=sys.stderr)
            print(f"rao: {self._what} ended with status {status}{when}", file=sys.stderr, flush=True)
