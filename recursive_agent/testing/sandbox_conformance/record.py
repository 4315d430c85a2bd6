"""Records the cells of a REPL as a trace would, and replays what the trace of a run that was killed anywhere would hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...repl.base import (
    CellResult,
    HostCallError,
    HostFunction,
    HostRequest,
    RecordedAnswer,
    Recording,
    RecordingRepl,
    RecordingSandbox,
    Replay,
    ReplLimits,
)

Tool = Callable[[HostRequest], Awaitable[Any]]


class Clock(NamedTuple):
    """Part of the log of a cell."""

    cell: int
    values: tuple[float, ...]


class Answer(NamedTuple):
    """The answer of a call: a value, or an error."""

    cell: int
    id: int
    value: Any
    error: HostCallError | None


class Ran(NamedTuple):
    """A cell that ran to its end."""

    cell: int
    result: CellResult


Entry = Clock | Answer | Ran


@dataclass
class Record:
    """What is known of the cells of one REPL, in the order in which it came to be known."""

    codes: Sequence[str]
    entries: Sequence[Entry]

    def cut(self, length: int) -> Record:
        """What would be known had the run been killed then."""
        return Record(self.codes, self.entries[:length])

    @property
    def results(self) -> dict[int, CellResult]:
        """The results of the cells that ran to their end, by their number from 0."""
        return {entry.cell: entry.result for entry in self.entries if isinstance(entry, Ran)}

    @property
    def answers(self) -> dict[int, Answer]:
        """The answers, by the id of their call."""
        return {entry.id: entry for entry in self.entries if isinstance(entry, Answer)}

    def clock(self, cell: int) -> list[float]:
        """The log of a cell."""
        parts = [entry.values for entry in self.entries if isinstance(entry, Clock) and entry.cell == cell]
        return [value for part in parts for value in part]


class Recorder:
    """Runs cells in one REPL, and keeps what a replay needs. `tool` answers the calls that no record answers."""

    def __init__(self, tool: Tool, earlier: Record | None = None) -> None:
        self._tool = tool
        self._earlier = earlier
        self._answers = {} if earlier is None else earlier.answers
        self._cell = 0
        self.entries: list[Entry] = list(earlier.entries) if earlier is not None else []
        self.called: list[int] = []
        """The ids of the calls that were made of `tool`."""
        self.went_live = False

    def call(self, request: HostRequest) -> Awaitable[Any]:
        """A `HostCall`."""
        known = self._answers.get(request.id)
        if known is not None:
            return RecordedAnswer(_given(known))
        return RecordedAnswer(_Lazily(lambda: self._ask(request)), recorded=False)

    async def _ask(self, request: HostRequest) -> Any:
        self.called.append(request.id)
        value, error = None, None
        try:
            value = await self._tool(request)
        except HostCallError as failure:
            error = failure
        self.entries.append(Answer(request.cell, request.id, value, error))
        return await _given(Answer(request.cell, request.id, value, error))

    async def open(
        self, sandbox: RecordingSandbox, functions: Sequence[HostFunction], *, seed: int = 1, limits: ReplLimits
    ) -> RecordingRepl:
        """A REPL whose cells are recorded."""
        recording = Recording(seed=seed, on_clock=lambda values: self.entries.append(Clock(self._cell, tuple(values))))
        return await sandbox.open(
            call=self.call, functions=functions, launcher=False, limits=limits, recording=recording
        )

    async def run(self, repl: RecordingRepl, codes: Sequence[str]) -> list[CellResult]:
        """Replay what the record holds of these cells, go on with the others; their results."""
        results = []
        for number, code in enumerate(codes):
            self._cell = number
            replay = self._replay(number)
            result = await repl.run(code, replay)
            if replay is None or not replay.complete:
                self.entries.append(Ran(number, result))
            results.append(result)
        return results

    def _replay(self, number: int) -> Replay | None:
        known = self._earlier
        if known is None:
            return None
        ended = known.results
        if number in ended:
            return Replay(clock=known.clock(number), complete=True, restarted=ended[number].restarted)
        if number == len(ended):
            return Replay(clock=known.clock(number), complete=False, on_live=self._went_live)
        return None

    def _went_live(self) -> None:
        assert not self.went_live
        self.went_live = True

    def record(self, codes: Sequence[str]) -> Record:
        """What is known now."""
        return Record(codes, list(self.entries))


async def _given(answer: Answer) -> Any:
    if answer.error is not None:
        raise answer.error
    return answer.value


class _Lazily(Awaitable[Any]):
    """Makes its coroutine when it is awaited."""

    def __init__(self, make: Callable[[], Awaitable[Any]]) -> None:
        self._make = make

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._make().__await__()
