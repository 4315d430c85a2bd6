"""The result of `solve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import NotFinished
from .status import Status
from .trace.tree import ExecutionTree
from .usage import Usage


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

    @property
    def output(self) -> Any:
        """The value that the agent passed to `finish`, validated against `returns`. Raises NotFinished if it did not finish."""
        if not self.status.finished:
            raise NotFinished(f"the run ended without a result: {self.status.value} ({self.reason})")
        return self._output

    @property
    def usage(self) -> Usage:
        """Tokens, calls and cost of all agents of the run."""
        return self.tree.usage
