"""What a cell sees of time, and the log of it from which the cell can be replayed.

The log of a cell is a list of numbers that the host keeps and cannot read. It is sent in parts, each before the message
that follows what is in it, and holds what the agent's code cannot know beforehand:

    readings    of the clock, in order: those of the code itself, and those of the loop that its timers need
    spans       readings beyond the first ones: all those within a few milliseconds are one
    events      in which turn of the loop which answer was taken in, or timers were due, or the time of the cell was up

A turn is one in which something ran, so a replay counts the same turns. An answer that the loop had to take in, because
it was idle and waited for that one alone, is not in the log. A part is `[readings, spans, events, …]`: three counts, then
a number for each reading, four for each span, three for each event.
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Sequence
from threading import local
from typing import NamedTuple

from ..protocol import MOST_CLOCK, pack
from .cell import Cell
from .errors import Diverged, TimedOut

WALL, MONOTONIC, PROCESS = range(3)
TIMERS, EXPIRED, STRUCK, FULL = 0, -1, -2, -3
"""Numbers of events that are no answers: timers were due; the time of the cell was up, as the loop found; it was up, and
the code was interrupted; the log ended here, for it had reached its size."""
_CLOCKS = (time.time, time.monotonic, time.process_time)
_EXACT = 8_000
"""Readings of the code in one cell that are logged one by one."""
_SPAN = 0.005
"""Seconds for which the clock of the code then stands still; twice as many whenever `_SPANS` have passed."""
_SPANS = 1_000
_HEAD, _PER_SPAN, _PER_EVENT = 3, 4, 3
_RESERVE = 2 * _PER_EVENT + _PER_SPAN
"""Numbers of a log kept for its end."""


class LogEvent(NamedTuple):
    """What came into the loop, in which turn, and at what time."""

    turn: int
    number: int
    """That of the call which was answered, or one of `TIMERS`, `EXPIRED`, `STRUCK`, `FULL`."""
    time: float


class Script:
    """The log of a recorded cell, read from its start. Raises ValueError for what is none."""

    def __init__(self, log: Sequence[float], *, complete: bool) -> None:
        self.complete = complete
        self._readings: list[float] = []
        self._spans: list[Sequence[float]] = []
        self._events: list[LogEvent] = []
        at = 0
        while at < len(log):
            counts = [int(count) for count in log[at : at + _HEAD]]
            if len(counts) < _HEAD or min(counts) < 0:
                raise ValueError("the log of the cell is damaged")
            readings, spans, events = counts
            first, second = at + _HEAD + readings, at + _HEAD + readings + _PER_SPAN * spans
            end = second + _PER_EVENT * events
            if end > len(log):
                raise ValueError("the log of the cell is damaged")
            self._readings += log[at + _HEAD : first]
            self._spans += (log[place : place + _PER_SPAN] for place in range(first, second, _PER_SPAN))
            for place in range(second, end, _PER_EVENT):
                self._events.append(LogEvent(int(log[place]), int(log[place + 1]), log[place + 2]))
            at = end
        for pending in (self._readings, self._spans, self._events):
            pending.reverse()

    @property
    def event(self) -> LogEvent | None:
        """The next event."""
        return self._events[-1] if self._events else None

    @property
    def used_up(self) -> bool:
        """Whether nothing is left."""
        return not (self._events or self._readings or self._spans)

    def advance(self) -> None:
        """Go on to the event after the next one."""
        self._events.pop()

    def reading(self) -> float | None:
        """The next reading; None where no more were recorded."""
        return self._readings.pop() if self._readings else None

    def span(self) -> Sequence[float] | None:
        """The next span."""
        return self._spans.pop() if self._spans else None


class Clock:
    """The time as the cells of one REPL read it: real, or that of the log of the cell that is replayed."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.records = False
        """Whether the host keeps logs."""
        self.turn = 0
        """Turns of the loop in this cell so far."""
        self.script: Script | None = None
        """The log of the cell that is replayed, until it is used up."""
        self.diverged: str | None = None
        """What the cell did that its log does not know."""
        self.unsent = False
        """Whether there is something that the next message must come after."""
        self._logs = False
        self._size = self._count = 0
        self._readings, self._spans, self._events = array("d"), array("d"), array("d")
        self._span: Sequence[float] = ()
        """Of the readings that are one: how many they are so far, or still; and what each clock reads."""
        self._left = self._passed = 0
        self._until = 0.0
        self._shift = [0.0, 0.0, 0.0]
        self._replayed: list[float | None] = [None, None, None]
        """What each clock read last in a replay."""
        self.went_live = False
        """Whether the host is to be told, before the loop waits, that the replay is over."""
        self._tells = False
        """Whether the host is to be told that the replay diverged."""

    # -- cells -------------------------------------------------------------------------------------------------------

    def begin(self, log: Sequence[float] | None, *, complete: bool) -> None:
        """A cell begins; with a log it is a replay."""
        self.turn = 0
        self.diverged, self.script = None, None
        self._size = self._count = self._left = self._passed = 0
        self._span, self._until = (), 0.0
        self._forget()
        self._logs = self.records
        if log is None:
            self._go_on_from_replay()
            return
        self._logs = False
        self._size = len(log)
        try:
            self.script = Script(log, complete=complete)
        except (ValueError, OverflowError) as error:
            self.diverged = str(error)

    def end(self, *, timed_out: bool) -> None:
        """The cell has ended."""
        script, self.script = self.script, None
        if script is not None:
            self._check_end(script, timed_out)
        elif timed_out:
            self.note(STRUCK, 0.0)
        if self.diverged is not None:
            self._tells = self.unsent = True

    def _check_end(self, script: Script, timed_out: bool) -> None:
        if script.event is not None and script.event.number == STRUCK:
            script.advance()
        if not (script.used_up and not self._left) and not timed_out and self.diverged is None:
            self.diverged = "it ended before it had read the clock and taken in answers as often as recorded"

    def go_live(self) -> None:
        """The log of a cell that was cut short is used up: time goes on from where it ended."""
        self.script = None
        self._go_on_from_replay()
        self._span, self._left, self._until = (), 0, 0.0
        self._logs = self.records and self._size + _RESERVE < MOST_CLOCK
        self.went_live = self.unsent = True

    def diverge(self, what: str) -> Diverged:
        """The error that ends a replay which does something else than its log says."""
        self.script = None
        self.diverged = what
        return Diverged(f"the replay of this cell diverged from its record: {what}")

    def expire(self) -> TimedOut:
        """The error that ends a replay where the time of the recorded cell was up."""
        self.cell.expire()
        return TimedOut()

    def _go_on_from_replay(self) -> None:
        for kind in (MONOTONIC, PROCESS):
            last = self._replayed[kind]
            if last is not None:
                self._shift[kind] = last - _CLOCKS[kind]()
                self._replayed[kind] = None

    # -- readings ----------------------------------------------------------------------------------------------------

    def now(self, kind: int = MONOTONIC) -> float:
        """What a clock reads, for ourselves: it is not logged."""
        return _CLOCKS[kind]() + self._shift[kind]

    def read(self, kind: int) -> float:
        """What a clock reads, for the agent's code."""
        self._count += 1
        return self._read_exactly(kind) if self._count <= _EXACT else self._read_in_spans(kind)

    def read_for_timer(self) -> float:
        """What the loop's clock reads where it sets a timer."""
        return self._read_exactly(MONOTONIC)

    def slept(self) -> bool:
        """Whether the recorded cell slept to the end, so that its replay need not; False where it goes on live."""
        script = self.script
        self._read_exactly(MONOTONIC)
        return script is self.script

    def note_slept(self) -> None:
        """The code has slept to the end."""
        self._read_exactly(MONOTONIC)

    def _read_exactly(self, kind: int) -> float:
        if self.script is not None:
            value = self.script.reading()
            if value is not None:
                self._replayed[kind] = value
                return value
            self._beyond(self.script)
        value = self.now(kind)
        if self._logs and self._room(1):
            self._readings.append(value)
        return value

    def _read_in_spans(self, kind: int) -> float:
        if self.script is not None:
            if self._left == 0:
                span = self.script.span()
                if span is None:
                    self._beyond(self.script)
                else:
                    self._span, self._left = span, int(span[0])
            if self.script is not None:
                self._left -= 1
                value = self._replayed[kind] = self._span[1 + kind]
                return value
        now = time.monotonic()
        if not self._span or now >= self._until:
            self._close_span()
            self._span = tuple(self.now(kind) for kind in range(3))
            self._until = now + _SPAN * 2 ** (self._passed // _SPANS)
            self._passed += 1
        self._left += 1
        self.unsent = self.unsent or self._logs
        return self._span[kind]

    def _close_span(self) -> None:
        if self._left and self._logs and self._room(_PER_SPAN):
            self._spans.append(self._left)
            self._spans.extend(self._span)
        self._span, self._left = (), 0

    def _beyond(self, script: Script) -> None:
        """The code reads a clock for which the log holds no reading. Raises what ends the cell, or goes live."""
        event = script.event
        if event is None and not script.complete:
            self.go_live()
        elif event is not None and event.number in (EXPIRED, STRUCK):
            script.advance()
            raise self.expire()
        elif event is not None and event.number == FULL:
            raise self.diverge(CUT_OFF)
        else:
            raise self.diverge("it read the clock more often")

    # -- the log -----------------------------------------------------------------------------------------------------

    @property
    def logs(self) -> bool:
        """Whether what happens now is logged."""
        return self._logs

    @property
    def used_up(self) -> bool:
        """Whether nothing is left of the log of the cell that is replayed."""
        return self.script is None or (self.script.used_up and not self._left)

    def passed(self, moment: float) -> float:
        """So late it was in the recorded cell when its timers were due."""
        self._replayed[MONOTONIC] = moment
        return moment

    def note(self, number: int, now: float) -> None:
        """Log an event."""
        if self._logs and self._room(_PER_EVENT):
            self._events.extend((self.turn, number, now))

    def _room(self, count: int) -> bool:
        """Whether so many more numbers may be logged; where not, the log ends."""
        if not self.unsent:
            count += _HEAD
            self.unsent = True
        self._size += count
        if self._size + _RESERVE <= MOST_CLOCK:
            return True
        self._logs = False
        self._events.extend((self.turn, FULL, 0.0))
        return False

    def frames(self) -> bytes:
        """The messages that are not sent yet."""
        frames = pack(["live"]) if self.went_live else b""
        self._close_span()
        if self._readings or self._spans or self._events:
            head = array("d", (len(self._readings), len(self._spans) // _PER_SPAN, len(self._events) // _PER_EVENT))
            frames += pack(["clock", (head + self._readings + self._spans + self._events).tobytes()])
        if self._tells and self.diverged is not None:
            frames += pack(["diverged", self.diverged])
        self._forget()
        return frames

    def _forget(self) -> None:
        self._readings, self._spans, self._events = array("d"), array("d"), array("d")
        self.went_live = self._tells = self.unsent = False


CUT_OFF = "its record is not whole: the cell read the clock, or set timers, too often to keep all of it"


class _Here(local):
    """What belongs to the REPL whose cells run in this thread."""

    def __init__(self) -> None:
        self.clock = Clock(Cell())
        self.seeds = random.Random(0)
        """Where generators that are given no seed take one from."""


here = _Here()
