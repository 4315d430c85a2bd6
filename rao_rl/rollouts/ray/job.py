"""What travels between the driver and its actors. Everything here can be pickled; live objects stay where they are."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field

from recursive_agent.errors import RaoError, RunFailed, described
from recursive_agent.repl import UNSET, Require, Unset

from ...envs.arguments import Plain
from ...envs.base import Environment, Task
from ...envs.registry import make
from ...scoring.attempts import Question
from ..attempt import AttemptSettings
from .recipe import Recipe, State


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSource:
    """How an environment is made: its name, or `module:Class`, and its own arguments."""

    name: str
    arguments: Mapping[str, Plain] = field(default_factory=dict)

    def make(self) -> Environment:
        """The environment. Raises ConfigurationError as `registry.make` does."""
        return make(self.name, **self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an actor is for: attempts at the tasks of one environment, by one model."""

    environment: EnvironmentSource
    recipe: Recipe
    sandbox: str = "process"
    require: Require | Unset = UNSET
    directory: str
    """The driver's working directory, where modules and relative paths are looked for, if the actor's machine has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a push changes."""

    number: int
    """Counts the pushes; actors go on with the newest."""
    states: tuple[State, ...]
    """See `states_of`."""
    weights: Awaitable[bytes] | None
    """The content of the weights' file, in Ray's object store; None for a model at an endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One attempt."""

    task: Task
    settings: AttemptSettings
    """Without what is open in the driver: sandbox, places, judge and runner."""
    judged: bool
    """Whether the driver has a judge, and needs its questions."""
    seed: int
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An actor that is ready."""

    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt that ended, and its trace."""

    file: str
    """Name of the trace file."""
    trace: bytes = field(repr=False)
    metrics: Mapping[str, float]
    questions: Mapping[str, Question] = field(repr=False)
    """For the judge, by agent; they may contain the right answer, which the trace does not."""
    reason: str | None
    trace_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """What could not be done: the error that the driver raises.

    Returned and not raised, so that Ray writes no traceback into its logs.
    """

    error: RaoError
    file: str | None = None
    """Name of the trace file, if there is one."""
    trace: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, error: RaoError, file: str | None = None, trace: bytes = b"") -> Failed:
        """The error alone, without the run that it carries."""
        error.result, error.__cause__, error.__context__ = None, None, None
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # other people's classes of errors need not allow it
            error = RunFailed(described(error))
        return cls(error=error.with_traceback(None), file=file, trace=trace)
