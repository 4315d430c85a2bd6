"""Every exception of this package.

    RaoError
    ├── ConfigurationError (ValueError)     a setting or argument is invalid
    ├── NotFinished                         `result.output` was read, but the run did not finish
    ├── SandboxError (RuntimeError)         the sandbox cannot start
    ├── ToolServerError (ConnectionError)   an MCP server cannot be started or reached when a run begins
    ├── TraceError (ValueError)             a trace file cannot be read or created
    ├── ReplayDiverged                      a run cannot be resumed as it was recorded: an agent's code did something else
    ├── RunFailed                           any other exception ended the run: a bug in rao, or in a model, a sandbox or
    │                                       another part that the caller wrote; see `__cause__`
    └── ModelError                          the endpoint failed, after every retry
        ├── AuthenticationFailed            the endpoint rejected the key
        ├── ModelNotFound                   the endpoint does not know the model
        ├── BadRequest                      the endpoint rejected the request as invalid
        ├── ContextOverflow                 the prompt is longer than the context window (a status on a node)
        ├── CapabilityMissing               the endpoint does not support what the agent needs (token ids, say)
        └── EndpointUnavailable             no answer after every retry (ConnectionError)

If an *agent* fails, the result has a `Status`; no exception is raised. Inside the REPL, an agent sees `SubagentError`,
`LaunchRefused` and `ToolError`; the worker defines these classes.

`Agent.solve` raises only these classes, cancellation, and the caller's KeyboardInterrupt. If the run had started,
`error.result` is a `Result` with the run up to the error. Its type here is a protocol, because this module cannot import
the modules of results and traces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from .status import Status
    from .trace.node import Finding, Node
    from .usage import Usage


class PartialTree(Protocol):
    """The tree of a run as far as it came; see `ExecutionTree`, which it is."""

    run: str
    nodes: dict[str, Node]
    limits: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def root(self) -> Node:
        """The first agent."""

    @property
    def status(self) -> Status:
        """The root's status."""

    @property
    def usage(self) -> Usage:
        """What all agents used."""


class PartialResult(Protocol):
    """A run as far as it came; see `Result`, which it is."""

    @property
    def status(self) -> Status:
        """How the root ended."""

    @property
    def reason(self) -> str | None:
        """Why it did not finish."""

    @property
    def tree(self) -> PartialTree:
        """The agents of the run."""

    @property
    def usage(self) -> Usage:
        """What the whole run used."""

    @property
    def partial(self) -> Sequence[Finding]:
        """What sub-agents that finished had found, if the run did not finish."""

    @property
    def trace_path(self) -> Path | None:
        """The trace file, where there is one."""

    @property
    def trace_error(self) -> str | None:
        """What that file lacks and why."""


class RaoError(Exception):
    """Base of every exception raised by this package.

    If `Agent.solve` raises the error after the run has started, `result` contains the run up to the error; otherwise None.
    """

    result: PartialResult | None = None


class ConfigurationError(RaoError, ValueError):
    """A setting or an argument is invalid; the message says what to do."""


class NotFinished(RaoError):
    """The run ended without a result; `result.status` and `result.reason` say how."""


class SandboxError(RaoError, RuntimeError):
    """The sandbox cannot start, or not with the required protection; the message says why."""


class ToolServerError(RaoError, ConnectionError):
    """An MCP server whose tools the agents should have cannot be started or reached; the message says why.

    Only when a run begins: of one that ends later, agents see a ToolError.
    """


class ReplayDiverged(RaoError):
    """The code of an agent did not do again what is recorded of it; the message says where, and what can be chosen."""


class TraceError(RaoError, ValueError):
    """A trace file cannot be read or created; the message names the file and the line."""


class RunFailed(RaoError):
    """An exception of another class ended the run; `__cause__` is that exception."""


class ModelError(RaoError):
    """The endpoint failed.

    `unconfirmed` is an upper bound of the tokens of lost answers, which the endpoint may have billed. `fatal` says that
    every further call would fail the same way (a refused key, say), so the whole tree stops.
    """

    fatal = False

    def __init__(self, message: str, *, unconfirmed: int = 0) -> None:
        super().__init__(message)
        self.unconfirmed = unconfirmed


class AuthenticationFailed(ModelError):
    """The endpoint rejected the key (status 401, 403)."""

    fatal = True


class ModelNotFound(ModelError):
    """The endpoint does not know the model (status 404)."""

    fatal = True


class BadRequest(ModelError):
    """The endpoint rejected the request as invalid (status 400, 422); sending it again does not help."""


class ContextOverflow(ModelError):
    """The prompt is longer than the model's context window."""


class CapabilityMissing(ModelError):
    """The endpoint does not support something that the agent needs; the message names it and says what to do."""

    fatal = True


class EndpointUnavailable(ModelError, ConnectionError):
    """The endpoint gave no usable answer, after every retry."""


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
