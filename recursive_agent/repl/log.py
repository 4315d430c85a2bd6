"""The log of the cell that runs, as far as the host has to do with it: it passes the numbers on, and keeps them to a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .base import Replay
from .protocol import MOST_CLOCK, ProtocolError


class Log:
    """What a worker says of the time and the order in its cell. `on_clock` takes the numbers; None where nobody does."""

    def __init__(self, on_clock: Callable[[Sequence[float]], None] | None) -> None:
        self._on_clock = on_clock
        self._room = 0
        self._replay: Replay | None = None
        """What the cell replays, as long as it does."""
        self.diverged: str | None = None
        """What a replayed cell did that is not in its record."""

    def begin(self, replay: Replay | None) -> None:
        """A cell begins."""
        self._replay = replay
        self._room = MOST_CLOCK - (0 if replay is None else len(replay.clock))
        self.diverged = None

    def put(self, values: Sequence[float]) -> None:
        """Pass a part of the log on. Raises ProtocolError for more than a cell may have, or where none is due."""
        if self._on_clock is None or self._replay is not None:
            raise ProtocolError("a log that nobody asked for")
        self._room -= len(values)
        if self._room < 0:
            raise ProtocolError("a log that is too long")
        self._on_clock(values)

    def go_live(self) -> None:
        """The record is used up. Raises ProtocolError where the cell replays none that was cut short."""
        replay, self._replay = self._replay, None
        if replay is None or replay.complete:
            raise ProtocolError("a replay that nobody asked for")
        if replay.on_live is not None:
            replay.on_live()

    def diverge(self, what: str) -> None:
        """The replay does not follow its record. Raises ProtocolError where the cell replays none."""
        if self._replay is None:
            raise ProtocolError("a replay that nobody asked for")
        self.diverged = what
