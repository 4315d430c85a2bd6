"""Every exception of this package.

    RaoError
    ├── ConfigurationError (ValueError)     the caller's settings do not make sense
    ├── NotFinished                         `result.output` of a run that gave none
    ├── SandboxError (RuntimeError)         the sandbox cannot be had as asked for
    ├── TraceError (ValueError)             a trace file that cannot be read
    └── ModelError                          the endpoint, after every retry
        ├── AuthenticationFailed            the key was refused
        ├── ModelNotFound                   the endpoint does not know the model
        ├── BadRequest                      the endpoint refused the request as such
        ├── ContextOverflow                 the prompt is longer than the context window (a status on a node)
        ├── CapabilityMissing               the endpoint lacks what was asked of it (token ids, say)
        └── EndpointUnavailable             no answer after every retry (ConnectionError)

What an *agent* does wrong is no exception but a `Status` on the result. Inside the REPL an agent sees `SubagentError`,
`LaunchRefused` and `ToolError`; those classes live in the worker and carry the same names.
"""

from __future__ import annotations


class RaoError(Exception):
    """Base of every exception raised by this package."""


class ConfigurationError(RaoError, ValueError):
    """The caller's settings do not make sense; the message says what to do."""


class NotFinished(RaoError):
    """The run ended without a result; `result.status` and `result.reason` say how."""


class SandboxError(RaoError, RuntimeError):
    """The sandbox cannot be had as asked for."""


class TraceError(RaoError, ValueError):
    """A trace file that cannot be read; the message names the file and the line."""


class ModelError(RaoError):
    """The endpoint failed.

    `unconfirmed` is an upper bound of the tokens that answers lost on the way may have been billed for. `fatal` says that
    every further call would fail the same way (a refused key, say), so the whole tree stops. `result` is the tree as far
    as it came, set where `Agent.solve` raises it.
    """

    fatal = False

    def __init__(self, message: str, *, unconfirmed: int = 0) -> None:
        super().__init__(message)
        self.unconfirmed = unconfirmed
        self.result: object = None


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
