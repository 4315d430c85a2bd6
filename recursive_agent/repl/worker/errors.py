"""Exceptions in a worker: those that end a cell, and those that calls of the host raise in the agent's code."""

from __future__ import annotations

from typing import Any


class CellExit(SystemExit):
    """Ends a cell at once. A SystemExit, because asyncio lets those out of tasks; handlers in cells let it pass."""


class Finished(CellExit):
    """`finish` was called."""


class TimedOut(CellExit):
    """The cell reached its limit of time."""


class Diverged(CellExit):
    """The replay of a cell did something else than its record says."""


class Disconnected(SystemExit):
    """The host has closed the connection."""


class SubagentError(Exception):
    """A sub-agent ended without a result: `status` says how, `partial` is what it leaves."""

    def __init__(self, status: str = "error", message: str = "", partial: Any = None) -> None:
        super().__init__(message or status)
        self.status = status
        self.message = message
        self.partial = partial


class LaunchRefused(SubagentError):
    """A sub-agent was not started: a limit stands against it."""

    def __init__(self, status: str = "refused", message: str = "", partial: Any = None) -> None:
        super().__init__(status, message, partial)


class ToolError(Exception):
    """A tool failed; the message says why."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


ERRORS: dict[str, type[Exception]] = {
    "SubagentError": SubagentError,
    "LaunchRefused": LaunchRefused,
    "ToolError": ToolError,
}
for _shown in (*ERRORS.values(), TimedOut, Finished, Diverged):
    _shown.__module__ = "builtins"  # tracebacks show the bare name


def make_error(kind: str, message: str, data: dict[str, Any]) -> Exception:
    """The exception that the host asks to be raised."""
    cls = ERRORS.get(kind, ToolError)
    if issubclass(cls, SubagentError):
        default = "refused" if cls is LaunchRefused else "error"
        error: Exception = cls(str(data.get("status", default)), message, data.get("partial"))
    else:
        error = cls(message)
    for name, value in data.items():
        if not name.startswith("_") and name not in ("status", "partial", "message", "args"):
            setattr(error, name, value)
    return error
