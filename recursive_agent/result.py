"""What `solve` gives back."""

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
    """One run, ended: its status, its tree, and its output where there is one."""

    status: Status
    tree: ExecutionTree
    reason: str | None = None
    """Why it did not finish; None where it did."""
    trace_path: Path | None = None
    """The trace file, where a `trace_dir` was given."""
    trace_error: str | None = None
    """What that file lacks and why (a full disk, `Limits.max_trace_mb`); None where it holds the whole run."""
    _output: Any = None

    @property
    def output(self) -> Any:
        """The value `finish` gave, validated as `returns`. Raises NotFinished where the run gave none."""
        if not self.status.finished:
            raise NotFinished(f"the run ended without a result: {self.status.value} ({self.reason})")
        return self._output

    @property
    def usage(self) -> Usage:
        """What the whole run used: the sum over its nodes."""
        return self.tree.usage
