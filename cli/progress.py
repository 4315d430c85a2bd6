"""Watching on stderr: a live tree or a bar on a terminal, plain lines elsewhere, nothing with `--quiet`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Protocol, Self

import anyio
import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recursive_agent.trace.schema import Event, NodeEnded, NodeStarted, RunStarted, Waiting
from recursive_agent.trace.tree import ExecutionTree

from .isolation import layers
from .text import count, one_line, seconds
from .view import render

QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", metavar="", help="Print no progress.", rich_help_panel="Output")
]
REFRESH = 0.125
"""Seconds between two pictures of the live tree."""


class Watch(Protocol):
    """Shows a run while it goes on; a context manager around it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def event(self, event: Event, tree: ExecutionTree) -> None:
        """Take note of an event, already part of `tree`."""

    async def refresh(self) -> None:
        """Run beside the run until cancelled."""


def watch(console: Console, *, quiet: bool, lines: bool = False) -> Watch:
    """What fits the console; `lines`: nothing that is drawn over what others write there."""
    if quiet:
        return _Silent()
    live = console.is_terminal and not console.is_dumb_terminal and not lines
    return _LiveTree(console) if live else _Lines()


class _Silent:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def event(self, event: Event, tree: ExecutionTree) -> None: ...

    async def refresh(self) -> None: ...


class _Lines(_Silent):
    """A line of what locks the agents in, one when an agent starts, and one when it ends."""

    def event(self, event: Event, tree: ExecutionTree) -> None:
        at = f"[{seconds(max(0.0, event.time - tree.started)):>6}]"
        if isinstance(event, RunStarted):
            if held := layers(tree.settings):
                print(f"{at} {held[0]}", file=sys.stderr, flush=True)
        elif isinstance(event, Waiting):
            print(f"{at} {waits(event)}", file=sys.stderr, flush=True)
        elif isinstance(event, NodeStarted):
            print(f"{at} agent {event.node} started: {one_line(event.goal, 120)}", file=sys.stderr, flush=True)
        elif isinstance(event, NodeEnded):
            node = tree.nodes[event.node]
            used = f"{count(len(node.steps), 'step')}, {count(node.usage.total_tokens, 'token')}"
            why = "" if event.reason is None else f": {one_line(event.reason, 120)}"
            print(f"{at} agent {event.node} {event.status.value} ({used}){why}", file=sys.stderr, flush=True)


def waits(event: Waiting) -> str:
    """A wait for the endpoint in words."""
    if event.reason is None:
        return "the endpoint takes calls again"
    span = "" if event.seconds is None else f" {seconds(event.seconds)}"
    return f"waiting{span} for the endpoint: {one_line(event.reason, 120)}"


class _LiveTree(_Silent):
    """The tree, drawn anew several times a second; its last picture stays."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tree: ExecutionTree | None = None
        self._live: Live | None = None
        self._waits: str | None = None

    def __enter__(self) -> Self:
        # No refresh thread: it would read the tree while the event loop changes it.
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._draw()
            self._live.stop()

    def event(self, event: Event, tree: ExecutionTree) -> None:
        self._tree = tree
        if isinstance(event, Waiting):
            self._waits = None if event.reason is None else waits(event)

    async def refresh(self) -> None:
        while True:
            begun = time.perf_counter()
            self._draw()
            spent = time.perf_counter() - begun
            await anyio.sleep(max(REFRESH, 20 * spent))  # drawing never takes more than a twentieth of the time

    def _draw(self) -> None:
        if self._live is not None and self._tree is not None:
            self._live.update(render(self._tree, self._console.height - 2, waits=self._waits), refresh=True)


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
