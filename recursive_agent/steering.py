"""What a caller does to a live run: pause it, cancel one of its agents, tell one of them something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import anyio

from .clock import RunClock
from .errors import ConfigurationError
from .trace.schema import Event, Steered
from .trace.tree import ExecutionTree, Node

MOST_CHARS = 10_000
"""Characters of the messages that may wait for one agent."""
_MOST_REASON = 1_000
_BEGIN = "[Message from the operator of this run]"
_END = "[End of the message]"
_FORGED = re.compile(r"\[(?=\s*message\s+from\s+the\s+operator)", re.IGNORECASE)


class LiveRun(Protocol):
    """What steering needs of a run."""

    record: ExecutionTree
    clock: RunClock

    def now(self) -> float:
        """The time of an event."""

    def emit(self, event: Event) -> None:
        """Put an event into the record and the trace."""


class Steering:
    """The controls of one run. All methods but `gate` return at once; they belong to the event loop of the run."""

    def __init__(self) -> None:
        self.paused = False
        """Whether no model call leaves and no cell starts."""
        self._go_on: anyio.Event | None = None
        self._run: LiveRun | None = None
        self._over = False
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._cancelled: dict[str, str | None] = {}
        self._messages: dict[str, list[str]] = {}
        """Messages that stand in no prompt yet, by agent."""
        self._sent: dict[str, list[str]] = {}
        """Messages that stand in the prompt of a call that has not been answered."""

    # -- by the caller ------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let no model call leave and no cell start; the time of the run stands still."""
        self._check()
        if self.paused:
            return
        self.paused, self._go_on = True, anyio.Event()
        if self._run is not None:
            self._begin_pause(self._run)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._check()
        if self.paused:
            self._end_pause()
            if self._run is not None:
                self._run.clock.release()
                self._emit(self._run, "resume")

    def cancel(self, node: str, reason: str | None = None) -> None:
        """End an agent and all below it. Raises ConfigurationError if it is not running."""
        if reason is not None and not isinstance(reason, str):
            raise ConfigurationError(f"the reason to cancel an agent must be text, not {reason!r:.80}")
        run = self._check_running(node)
        if node in self._cancelled:
            return
        self._cancelled[node] = reason = None if reason is None else reason[:_MOST_REASON]
        self._emit(run, "cancel", node, reason)
        if (scope := self._scopes.get(node)) is not None:
            scope.cancel()

    def tell(self, node: str, text: str) -> None:
        """Add a message to the next observation of an agent. Raises ConfigurationError if it is not running."""
        if not isinstance(text, str) or not text.strip():
            raise ConfigurationError(f"the message for an agent must be a text, and not empty: {text!r:.80}")
        run = self._check_running(node)
        waiting = self._messages.get(node, [])
        if (size := sum(map(len, waiting)) + len(text)) > MOST_CHARS:
            raise ConfigurationError(
                f"the messages that agent {node} has not read yet would have {size:,} characters; at most {MOST_CHARS:,} may "
                "wait, so send a shorter one or wait until it has read them"
            )
        self._messages[node] = [*waiting, text]
        self._emit(run, "tell", node, text)

    # -- by the run ---------------------------------------------------------------------------------------------------

    def attach(self, run: LiveRun) -> None:
        """The run has begun."""
        self._run = run
        if self.paused:
            self._begin_pause(run)

    def detach(self) -> None:
        """All agents have ended: nothing is held up any more."""
        self._over = True
        if self.paused:
            self._end_pause()

    async def gate(self) -> None:
        """Wait here while the run is paused."""
        while self._go_on is not None:
            await self._go_on.wait()

    @contextmanager
    def stoppable(self, node: str) -> Iterator[None]:
        """Around the life of an agent: `cancel` ends the block."""
        with anyio.CancelScope() as scope:
            self._scopes[node] = scope
            try:
                yield
            finally:
                self._scopes.pop(node, None)

    def cancellation(self, node: str) -> str | None:
        """Why an agent that is being cancelled was, if the caller cancelled it or one above it."""
        above = node
        while above not in self._cancelled:
            above, _, number = above.rpartition(".")
            if not number or not above:
                return None
        reason = self._cancelled[above]
        because = "" if reason is None else f": {reason}"
        if above == node:
            return f"it was cancelled by the operator of the run{because}"
        return f"agent {above}, for which it worked, was cancelled by the operator of the run{because}"

    def take(self, node: str) -> Sequence[str]:
        """The messages for the next prompt of an agent; they count as read once `answered` is called."""
        if node in self._messages:
            self._sent.setdefault(node, []).extend(self._messages.pop(node))
        return self._sent.get(node, ())

    def answered(self, node: str) -> None:
        """A model has answered to the prompt of an agent."""
        self._sent.pop(node, None)

    def leave(self, node: str) -> None:
        """An agent ends: record it if there are messages that it has not read."""
        unread = [*self._sent.pop(node, ()), *self._messages.pop(node, ())]
        if unread and self._run is not None:
            self._emit(self._run, "unread", node)

    # -- both ---------------------------------------------------------------------------------------------------------

    def _begin_pause(self, run: LiveRun) -> None:
        run.clock.hold()
        self._emit(run, "pause")

    def _end_pause(self) -> None:
        self.paused = False
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            go_on.set()

    def _emit(self, run: LiveRun, action: str, node: str | None = None, text: str | None = None) -> None:
        run.emit(Steered(time=run.now(), action=action, node=node, text=text))

    def _check(self) -> None:
        if self._over:
            raise ConfigurationError("this run has ended; only a run that goes on can be steered")

    def _check_running(self, name: str) -> LiveRun:
        self._check()
        run = self._run
        nodes: dict[str, Node] = {} if run is None else run.record.nodes
        if run is None or not nodes:
            raise ConfigurationError("this run has no agents yet; wait for its first NodeStarted event")
        if not isinstance(name, str) or name not in nodes:
            last = next(reversed(nodes))
            raise ConfigurationError(
                f"there is no agent {name!r:.80} in this run; agents are named by their `node`, and the latest is {last!r}"
            )
        if not nodes[name].running:
            raise ConfigurationError(
                f"agent {name} has ended ({nodes[name].status.value}); only agents that still run can be steered"
            )
        return run


def with_messages(text: str, messages: Sequence[str] = (), *, below: bool = False) -> str:
    """An observation with the messages of the operator above it (or a goal with them `below` it).

    What looks like the heading of such a message in the rest of it loses its bracket: only the operator can write one.
    """
    text = _FORGED.sub("(", text)
    if not messages:
        return text
    block = "\n\n".join(_FORGED.sub("(", message.strip()) for message in messages)
    block = f"{_BEGIN}\n{block}\n{_END}"
    return f"{text}\n\n{block}" if below else f"{block}\n{text}"
