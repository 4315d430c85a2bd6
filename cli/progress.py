"""How far a command with many attempts has come, on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .text import seconds

QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", metavar="", help="Print no progress.", rich_help_panel="Output")
]


class Tally:
    """Counts attempts, and their success so far; a context manager.

    A bar on a terminal, a line at every tenth of `total` elsewhere. `done` are the scores of attempts made before.
    """

    def __init__(self, what: str, total: int, *, done: Sequence[float | None] = (), quiet: bool) -> None:
        self._what, self._total, self._done = what, total, len(done)
        self._scores = [score for score in done if score is not None]
        self._begun = time.perf_counter()
        console = Console(stderr=True)
        live = console.is_terminal and not console.is_dumb_terminal
        self._lines = not quiet and not live
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[success]}"),
            console=console,
            disable=quiet or not live,
        )
        self._task = self._bar.add_task(what, total=total, completed=len(done), success="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def add(self, score: float | None) -> None:
        """One more attempt has ended; None where its score is not known."""
        if score is not None:
            self._scores.append(score)
        before, self._done = self._done, self._done + 1
        success = f"success {sum(self._scores) / len(self._scores):.3f}" if self._scores else ""
        self._bar.update(self._task, completed=self._done, success=success)
        if self._lines and 10 * before // self._total < 10 * self._done // self._total:
            took = seconds(time.perf_counter() - self._begun)
            print(
                f"[{took:>6}] {self._what} {self._done}/{self._total} {success}".rstrip(), file=sys.stderr, flush=True
            )
