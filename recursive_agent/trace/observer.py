"""What may watch a run from inside the process: its events, and the work under way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from .schema import Event
from .tree import ExecutionTree

_log = logging.getLogger("recursive_agent")
INCOMING: ContextVar[Mapping[str, str] | None] = ContextVar("rao-incoming", default=None)
"""The headers of the request that a run answers, for observers that go on with a trace of the client's."""
_IDLE: AbstractContextManager[None] = nullcontext()


class Work(NamedTuple):
    """Work of an agent that begins: a model call (`name` is its purpose), a cell, or a call of a tool or of a launch.

    If it ends with an answer, an event with the same `started` says so: ModelCalled, CellRan or HostCalled.
    """

    kind: Literal["model", "cell", "call"]
    node: str
    step: int
    started: float
    name: str = ""
    call: int = 0


class RunObserver(Protocol):
    """Watches one run. What it raises is logged and never ends the run."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the settings in the trace say of it; no secrets."""

    def event(self, event: Event) -> None:
        """The next event of the run. Must not wait."""

    def doing(self, work: Work) -> AbstractContextManager[None]:
        """Entered and left by the task that does the work, around it."""

    def close(self, record: ExecutionTree | None) -> None:
        """The run is over, however it ended; `record` is None if it failed before it began."""


@runtime_checkable
class Observer(Protocol):
    """Watches the runs of an agent: pass it as `Agent(observers=[...])`."""

    def watch(self, *, run: str, secrets: Sequence[str], resumptions: int | None = None) -> RunObserver:
        """An observer of one run, which begins in the caller's context.

        `secrets` must not leave the process. For a run that is resumed, `resumptions` says how many earlier resumptions its
        record has: the events of the record come first, and the next RunResumed begins what is new.
        """


Doing = Callable[[Work], AbstractContextManager[None]]


def idle(work: Work) -> AbstractContextManager[None]:
    """What is around work that nobody watches."""
    return _IDLE


def begin_watching(
    observers: Sequence[Observer], *, run: str, secrets: Sequence[str], resumptions: int | None
) -> tuple[list[RunObserver], dict[str, Any]]:
    """The observers of one run, and what its settings say of them."""
    watching: list[RunObserver] = []
    settings: dict[str, Any] = {}
    for observer in observers:
        try:
            one = observer.watch(run=run, secrets=secrets, resumptions=resumptions)
            settings |= one.settings
        except Exception:
            _log.warning("an observer failed", exc_info=True)
        else:
            watching.append(one)
    return watching, settings


def around(observers: Sequence[RunObserver]) -> Doing:
    """What is around work that these observers watch."""
    if not observers:
        return idle

    @contextmanager
    def doing(work: Work) -> Iterator[None]:
        entered = [block for observer in observers if (block := _entered(observer, work)) is not None]
        try:
            yield
        except BaseException as error:
            for block in reversed(entered):
                _guarded(block.__exit__, type(error), error, error.__traceback__)
            raise
        for block in reversed(entered):
            _guarded(block.__exit__, None, None, None)

    return doing


def _entered(observer: RunObserver, work: Work) -> AbstractContextManager[None] | None:
    try:
        block = observer.doing(work)
        block.__enter__()
    except Exception:
        _log.warning("an observer failed", exc_info=True)
        return None
    return block


def close_all(observers: Sequence[RunObserver], record: ExecutionTree | None) -> None:
    """Tell all that the run is over."""
    for observer in observers:
        _guarded(observer.close, record)


def _guarded(function: Callable[..., object], *arguments: object) -> None:
    try:
        function(*arguments)
    except Exception:  # whoever watches must not end the run
        _log.warning("an observer failed", exc_info=True)
