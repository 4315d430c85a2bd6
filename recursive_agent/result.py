"""The result of `solve`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .errors import ConfigurationError, NotFinished
from .status import Status
from .trace.node import Finding
from .trace.schema import ROOT
from .trace.tree import ExecutionTree
from .usage import Usage


class Asks(Protocol):
    """The agent of a result; see `Agent`."""

    async def follow_up(
        self, trace: Result, question: str, *, returns: Any = None, score: Callable[[Any], Any] | None = None
    ) -> Result:
        """Ask the root another question."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run: its status, its tree, and its output if it finished."""

    status: Status
    tree: ExecutionTree
    reason: str | None = None
    """Why the run did not finish; None if it finished."""
    trace_path: Path | None = None
    """Path of the trace file; None without `trace_dir`."""
    trace_error: str | None = None
    """What the trace file does not contain and why (a full disk, `Limits.max_trace_mb`); None if it is complete."""
    _output: Any = None
    _agent: Asks | None = field(default=None, repr=False, compare=False)

    @property
    def output(self) -> Any:
        """The value that the agent passed to `finish`, validated against `returns`. Raises NotFinished if it did not finish."""
        if not self.status.finished:
            raise NotFinished(f"the run ended without a result: {self.status.value} ({self.reason})")
        return self._output

    async def follow_up(
        self, question: str, *, returns: Any = None, score: Callable[[Any], Any] | None = None
    ) -> Result:
        """Ask the root another question: its variables and the results of its sub-agents are still there.

        See `Agent.follow_up`. Raises ConfigurationError if the run did not finish.
        """
        if self._agent is None:
            raise ConfigurationError("this result was read from a file: call agent.follow_up(trace, question)")
        return await self._agent.follow_up(self, question, returns=returns, score=score)

    def __reduce__(self) -> Any:
        """Pickled without its Agent."""
        return Result, (self.status, self.tree, self.reason, self.trace_path, self.trace_error, self._output)

    @property
    def partial(self) -> list[Finding]:
        """If the run did not finish: what sub-agents that finished had found; see `Node.partial`. Otherwise empty."""
        return self.tree.root.partial if ROOT in self.tree.nodes else []

    @property
    def usage(self) -> Usage:
        """Tokens, calls and cost of all agents of the run."""
        return self.tree.usage
