"""Watching a run on stderr: a live tree on a terminal, plain lines elsewhere, nothing with `--quiet`."""

from __future__ import annotations

import signal
import sys
import time
from typing import Protocol, Self

import anyio
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment

from recursive_agent.status import LABELS, Activity
from recursive_agent.trace.schema import Event, NodeEnded, NodeStarted, RunEnded, RunStarted, Waiting
from recursive_agent.trace.tree import ExecutionTree

from .isolation import layers
from .states import Snapshot, summaries
from .text import count, one_line, seconds
from .view import render

REFRESH = 0.125
"""Seconds between two pictures of the live tree."""
_SHARE = 50
"""Drawing takes one in so many seconds at most."""
_EACH = 50
"""Agents whose start and end have a line each; of larger trees there are lines at intervals."""
_FAILURES = 50
"""Agents of larger trees that failed and have a line."""
_INTERVAL = 10.0
"""Seconds between two lines on a large tree."""
_SILENCE = 60.0
"""Seconds without a line after which a small tree has one."""


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


class _Now:
    """The present time in the time of a run's events, which stands still between them."""

    def __init__(self) -> None:
        self._ahead: float | None = None

    def heard(self, event: Event) -> None:
        """An event has come just now."""
        self._ahead = max(self._ahead or -1e18, event.time - time.monotonic())

    def __call__(self) -> float | None:
        return None if self._ahead is None else time.monotonic() + self._ahead


class _Lines(_Silent):
    """Plain lines: what locks the agents in, and when an agent starts and ends.

    Of a tree with more than `each` agents there is a line on all of them at intervals instead, and one for each of the
    first agents that fail. A small tree that is silent for long has such a line as well: it says what is waited for.
    """

    def __init__(
        self, each: int = _EACH, interval: float = _INTERVAL, silence: float = _SILENCE, tick: float = 1.0
    ) -> None:
        self._each, self._interval, self._silence, self._tick = each, interval, silence, tick
        self._now = _Now()
        self._tree: ExecutionTree | None = None
        self._at = time.monotonic()
        """When the last line was printed."""
        self._failures = 0
        self._large = False
        self._throttled = False

    def event(self, event: Event, tree: ExecutionTree) -> None:
        self._tree = tree
        self._now.heard(event)
        at = event.time - tree.started
        if isinstance(event, RunStarted):
            if held := layers(tree.settings):
                self._print(at, held[0])
        elif isinstance(event, Waiting):
            if event.node is None:
                self._rate_limit(event, at)
        elif isinstance(event, NodeStarted):
            if len(tree.nodes) <= self._each:
                self._print(at, f"agent {event.node} started: {one_line(event.goal, 120)}")
            elif not self._large:
                self._large = True
                self._print(
                    at,
                    f"more than {self._each} agents: from here on a line every {seconds(self._interval)}, and failures",
                )
        elif isinstance(event, NodeEnded):
            self._end(event, tree, at)
        elif isinstance(event, RunEnded) and self._large:
            self._print(at, self._progress(tree))

    async def refresh(self) -> None:
        while True:
            await anyio.sleep(self._tick)
            silent = time.monotonic() - self._at
            if self._tree is not None and silent >= (self._interval if self._large else self._silence):
                self._print((self._now() or self._tree.started) - self._tree.started, self._progress(self._tree))

    def _rate_limit(self, event: Waiting, at: float) -> None:
        """The first refusal of a storm and its end have a line, not each refusal in between."""
        if self._throttled != (event.reason is not None):
            self._throttled = event.reason is not None
            self._print(at, waits(event))

    def _end(self, event: NodeEnded, tree: ExecutionTree, at: float) -> None:
        node = tree.nodes[event.node]
        if self._large and node.parent is not None:
            if event.status.finished or self._failures >= _FAILURES:
                return
            self._failures += 1
        used = f"{count(len(node.steps), 'step')}, {count(node.usage.total_tokens, 'token')}"
        why = "" if event.reason is None else f": {one_line(event.reason, 120)}"
        self._print(at, f"agent {event.node} {LABELS[event.status].words} ({used}){why}")

    def _progress(self, tree: ExecutionTree) -> str:
        snapshot = Snapshot(tree, self._now())
        detailed = next(summaries(snapshot.counts(tree.nodes.values())))
        line = f"{count(len(tree.nodes), 'agent')}: {detailed} · {count(tree.usage.total_tokens, 'token')}"
        busy = [(now.since, name) for name, now in snapshot.doing.items() if now.activity is not Activity.SUBAGENTS]
        if busy:
            name = min(busy)[1]
            line += f" · longest: agent {name} {snapshot.state(tree.nodes[name])}"
        return line

    def _print(self, at: float, line: str) -> None:
        self._at = time.monotonic()
        print(f"[{seconds(max(0.0, at)):>6}] {line}", file=sys.stderr, flush=True)


def waits(event: Waiting) -> str:
    """A wait of all calls for the endpoint in words."""
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
        self._now = _Now()
        self._size = console.size
        self.spent = 0.0
        """Seconds that drawing took so far."""

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._draw()
            self._live.transient = False
            self._live.stop()

    def event(self, event: Event, tree: ExecutionTree) -> None:
        self._tree = tree
        self._now.heard(event)

    async def refresh(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_on_request)
            await self._draw_often()

    async def _draw_often(self) -> None:
        while True:
            begun = time.perf_counter()
            self._draw()
            spent = time.perf_counter() - begun
            self.spent += spent
            await anyio.sleep(max(REFRESH, (_SHARE - 1) * spent))

    async def _stop_on_request(self) -> None:
        """Ctrl-Z: the shell gets its cursor back, and the tree is drawn below what it wrote when the run is continued."""
        with anyio.open_signal_receiver(signal.SIGTSTP) as signals:
            async for _ in signals:
                self.__exit__()
                # As if nobody had caught it: where no shell could continue the process, it is not stopped.
                before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTSTP)
                signal.signal(signal.SIGTSTP, before)
                self._size = self._console.size
                self._start()
                self._draw()

    def _start(self) -> None:
        # No refresh thread: it would read the tree while the event loop changes it. What others print on the terminal is put
        # above the tree; stdout that goes elsewhere is left alone.
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=sys.stdout.isatty(), transient=True
        )
        self._live.start()

    def _draw(self) -> None:
        if self._live is None or self._tree is None:
            return
        if self._console.size != self._size:
            self._size = self._console.size
            self._live.stop()
            # Some terminals wrap lines anew, so nobody knows where the old picture stands now.
            self._console.control(Control.clear(), Control.home())
            self._start()
        height = max(1, self._size.height - 2)
        self._live.update(_Unwrapped(render(self._tree, height, now=self._now())), refresh=True)


class _Unwrapped:
    """Something drawn while the terminal does not wrap lines: where it takes a sign for wider than we do, the line is cut off
    and the lines below stay where they are."""

    def __init__(self, drawn: RenderableType) -> None:
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment("\x1b[?7l", None, [(ControlType.HOME,)])
        yield self._drawn
        yield Segment("\x1b[?7h", None, [(ControlType.HOME,)])
