"""What comes into the loop in each of its turns: answers of the host and timers, as they come or as a log says.

In a replay the answers are held back until their turn. The loop never waits for time to pass then: where it would, the log
says what came next.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..protocol import unpack
from .cell import Cell
from .cell_loop import CellLoop
from .clock import CUT_OFF, EXPIRED, FULL, STRUCK, TIMERS, Clock, LogEvent, Script
from .dispatch import Dispatcher
from .errors import CellExit, TimedOut
from .incoming import START, Connection, Lost, is_reply, number_of

Selected = list[tuple[Any, int]]
Select = Callable[[float | None], Selected]
Body = bytes | bytearray | Lost
_NEVER = float("-inf")


class Turns:
    """The turns of the loop of one REPL."""

    def __init__(self, connection: Connection, loop: CellLoop, cell: Cell, calls: Dispatcher, clock: Clock) -> None:
        self._connection = connection
        self._loop = loop
        self._cell = cell
        self._calls = calls
        self._clock = clock
        self._arrived: dict[int, Body] = {}
        """Answers that the cells have not taken in yet, as they came, by the number of their call."""
        self._absent: set[int] = set()
        """Calls of a replay whose answer the host does not have."""

    # -- before a cell -----------------------------------------------------------------------------------------------

    def keep(self, body: Body) -> None:
        """Keep what came, for the cells to take in."""
        if isinstance(body, Lost):
            self._arrived[body.number] = body
        elif is_reply(body):
            self._arrived[number_of(body[:START])] = body
        else:
            self._absent.add(unpack(body)[1])

    def take_in_arrived(self) -> None:
        """The cell begins: take in the answers that came before. Raises Diverged."""
        clock = self._clock
        script = clock.script
        if script is None:
            self._take_in_held()
            self._absent.clear()
        else:
            while (event := script.event) is not None and event.turn == 0 and event.number > 0:
                script.advance()
                self._hand_over(event.number)
        clock.turn = 1

    # -- turns -------------------------------------------------------------------------------------------------------

    def look(self, timeout: float | None, select: Select) -> Selected:
        """One look for news, as a selector has it; answers are taken in. Raises CellExit at the end of the cell."""
        cell, clock, loop = self._cell, self._clock, self._loop
        if cell.overdue:  # noticed where nothing could be raised
            cell.overdue = False
            if cell.finished:
                raise CellExit
            raise self._timed_out()
        if clock.script is not None:
            if self._follow(clock.script):
                return []
            timeout = loop.wait_for_timer()
        if clock.went_live:  # the host begins the calls that this cell may wait for
            self._calls.flush()
        connection = self._connection
        found: Selected = []
        if not connection.holds_more:
            found = self._wait(timeout, select)
            if found:
                connection.poll()
                found = [item for item in found if item[0].fileobj is not connection.sock]
        try:
            while connection.holds_more:
                self._take_in(connection.receive())
        except Exception as error:  # as for a callback of the loop
            loop.call_exception_handler({"message": "an answer was not taken in", "exception": error})
        due = 0.0
        if loop.has_timers:
            due = clock.now()
            if loop.is_due(due):
                clock.note(TIMERS, due)
                clock.turn += 1
                loop.looked(due)
                return found
        if not loop.idle:
            clock.turn += 1
        loop.looked(due)
        return found

    def _wait(self, timeout: float | None, select: Select) -> Selected:
        """The clock stands still while the loop only waits for the host; an idle cell ends at its limit."""
        cell = self._cell
        if timeout is not None and timeout <= 0:
            return select(timeout)
        if self._calls.waiting:
            found: Selected = cell.wait(functools.partial(select, timeout))
            return found
        left = cell.remaining()
        if left <= 0:
            raise self._timed_out()
        found = select(left if timeout is None else min(timeout, left))
        if not found and cell.remaining() <= 0:
            raise self._timed_out()
        return found

    def _timed_out(self) -> TimedOut:
        self._clock.note(EXPIRED, self._clock.now())
        return TimedOut()

    def _take_in(self, body: Body) -> None:
        """Take in an answer; what the loop could not have known beforehand is logged."""
        calls, clock = self._calls, self._clock
        if not isinstance(body, Lost) and not is_reply(body):
            return
        if clock.logs:
            number = body.number if isinstance(body, Lost) else number_of(body[:START])
            if calls.awaits(number) and not (clock.turn and self._forced):
                clock.note(number, 0.0)
        calls.take_in(body)

    @property
    def _forced(self) -> bool:
        """Whether the loop can do nothing before the answer of the one call that is under way."""
        return self._calls.under_way_count == 1 and self._loop.idle and not self._loop.has_timers

    # -- replays -----------------------------------------------------------------------------------------------------

    def _follow(self, script: Script) -> bool:
        """A turn as the log has it; False where the cell goes on live."""
        clock, loop = self._clock, self._loop
        if clock.used_up and not script.complete:
            clock.go_live()
            self._take_in_held()
            return False
        self._receive_some()
        due = _NEVER
        nothing = True
        while (event := script.event) is not None and event.turn == clock.turn and event.number != STRUCK:
            script.advance()
            nothing = False
            if event.number == TIMERS:
                due = clock.passed(event.time)
            else:
                self._bring(event)
        if nothing and loop.idle:
            self._bring_what_must_come(script.event)
        if not loop.idle or loop.is_due(due):
            clock.turn += 1
        loop.looked(due)
        return True

    def _bring(self, event: LogEvent) -> None:
        if event.number > 0:
            self._hand_over(event.number)
        elif event.number == EXPIRED:
            raise self._clock.expire()
        else:
            raise self._clock.diverge(CUT_OFF)

    def _bring_what_must_come(self, event: LogEvent | None) -> None:
        """The loop is idle, and the log says nothing of this turn."""
        if self._forced and (event is None or event.turn > self._clock.turn or event.number == STRUCK):
            self._hand_over(self._calls.first_under_way)
        elif event is not None and event.number == STRUCK:
            raise self._clock.expire()
        elif event is not None and event.number == FULL:
            raise self._clock.diverge(CUT_OFF)
        else:
            raise self._clock.diverge("it waited where the recorded cell went on")

    def _hand_over(self, number: int) -> None:
        """Take in the answer of this call, which the host has, or will have at once."""
        if not self._calls.awaits(number):
            raise self._clock.diverge("it took in the answer of a call that it did not make")
        while number not in self._arrived:
            if number in self._absent:
                raise self._clock.diverge("it took in the answer of a call that its record does not answer")
            self._cell.wait(lambda: self.keep(self._connection.receive()))
        self._calls.take_in(self._arrived.pop(number))

    def _take_in_held(self) -> None:
        """Take in all answers that a replay has held back."""
        while self._arrived:
            self._take_in(self._arrived.pop(next(iter(self._arrived))))

    def _receive_some(self) -> None:
        """Receive what is there, so that the host need not keep it."""
        self._connection.poll()
        while self._connection.holds_more:
            self.keep(self._connection.receive())
