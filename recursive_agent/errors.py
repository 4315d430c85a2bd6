"""Every exception of this package.

    RaoError
    ├── ConfigurationError (ValueError)     the caller's settings do not make sense
    ├── NotFinished                         `result.output` of a run that gave none
    ├── SandboxError (RuntimeError)         the sandbox cannot be had as asked for
    ├── TraceError (ValueError)             a trace file that cannot be read or begun
    ├── RunFailed                           a run ended by what none of the others names: a fault in rao, or in a model,
    │                                       a sandbox or another part that the caller wrote; `__cause__` says which
    └── ModelError                          the endpoint, after every retry
        ├── AuthenticationFailed            the key was refused
        ├── ModelNotFound                   the endpoint does not know the model
        ├── BadRequest                      the endpoint refused the request as such
        ├── ContextOverflow                 the prompt is longer than the context window (a status on a node)
        ├── CapabilityMissing               the endpoint lacks what was asked of it (token ids, say)
        └── EndpointUnavailable             no answer after every retry (ConnectionError)

What an *agent* does wrong is no exception but a `Status` on the result. Inside the REPL an agent sees `SubagentError`,
`LaunchRefused` and `ToolError`; those classes live in the worker and carry the same names.

`Agent.solve` raises these classes, and lets cancellation and the caller's own KeyboardInterrupt through; nothing else.
Where a run had begun, `error.result` is the run as far as it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .result import Result


class RaoError(Exception):
    """Base of every exception raised by this package.

    `result` is the run as far as it came, where `Agent.solve` raises the error after a run had begun; otherwise None.
    """

    result: Result | None = None


class ConfigurationError(RaoError, ValueError):
    """The caller's settings do not make sense; the message says what to do."""


class NotFinished(RaoError):
    """The run ended without a result; `result.status` and `result.reason` say how."""


class SandboxError(RaoError, RuntimeError):
    """The sandbox cannot be had as asked for."""


class TraceError(RaoError, ValueError):
    """A trace file that cannot be read or begun; the message names the file and the line."""


class RunFailed(RaoError):
    """A run was ended by an exception that no other class here names; `__cause__` is that exception."""


class ModelError(RaoError):
    """The endpoint failed.

    `unconfirmed` is an upper bound of the tokens that answers lost on the way may have been billed for. `fatal` says that
    every further call would fail the same way (a refused key, say), so the whole tree stops.
    """

    fatal = False

    def __init__(self, message: str, *, unconfirmed: int = 0) -> None:
        super().__init__(message)
        self.unconfirmed = unconfirmed


class AuthenticationFailed(ModelError):
    """The endpoint refused the key (401, 403)."""

    fatal = True


class ModelNotFound(ModelError):
    """The endpoint does not know the model (404)."""

    fatal = True


class BadRequest(ModelError):
    """The endpoint refused the request as such (400, 422) and will refuse it again."""


class ContextOverflow(ModelError):
    """The prompt is longer than the model's context window."""


class CapabilityMissing(ModelError):
    """The endpoint lacks something that was asked of it; the message names it and the way out."""

    fatal = True


class EndpointUnavailable(ModelError, ConnectionError):
    """No usable answer after every retry."""


def message(error: BaseException) -> str:
    """What an exception says, whatever its own `__str__` does."""
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def described(error: BaseException) -> str:
    """An exception in one line: its class and what it says."""
    text = message(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def documented(error: BaseException) -> RaoError:
    """`error` as one of this package's classes: itself, or a RunFailed that it is the cause of."""
    if isinstance(error, RaoError):
        return error
    failed = RunFailed(f"the run was ended by an unexpected {described(error)}")
    failed.__cause__ = error
    return failed
