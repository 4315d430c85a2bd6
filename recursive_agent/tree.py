"""What the agents of one run share: configuration, sandbox, budgets, events, and who is alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from typing import Any, Protocol

import anyio

from ._version import __version__
from .clock import RunClock
from .errors import RaoError, described
from .launch import Launch, Outcome
from .limits import Account, ByteBudget, CallBudget, Slots
from .model import base as models
from .models_by_node import ModelsByNode
from .once import Once
from .repl.base import MemoryPool, Sandbox
from .resumption import Diverged, Resumption
from .run_config import RunConfig
from .status import Activity, Status
from .steering import Steering
from .trace.events import events_of
from .trace.journal import goes_on
from .trace.observer import Doing, idle
from .trace.recorder import Recorder
from .trace.redact import Redactor
from .trace.schema import ROOT, Event, RunEnded, RunResumed, RunStarted, Waiting
from .trace.tree import ExecutionTree

Sink = Callable[[Event], None]
"""Called with every event of a run, in order."""


class LiveAgent(Protocol):
    """An agent that has started and not ended, as its tree knows it."""

    launch: Launch

    def end_abandoned(self) -> None:
        """End it in the record, whatever holds it up."""


class Tree:
    """What the agents of a run share while it goes on; `record` is the ExecutionTree that its events make."""

    def __init__(
        self,
        config: RunConfig,
        sandbox: Sandbox,
        *,
        run: str,
        seed: int | None,
        group: str | None,
        settings: Mapping[str, Any],
        secrets: Sequence[str] = (),
        sinks: tuple[Sink, ...] = (),
        doing: Doing = idle,
        recorder: Recorder | None = None,
        resumption: Resumption | None = None,
        steering: Steering | None = None,
    ) -> None:
        """Raises TraceError where the trace cannot be begun."""
        self.config = config
        self.sandbox = sandbox
        self.run = run
        self.seed = seed
        self.models = ModelsByNode(config, Slots(config.limits.max_concurrency))
        self.once: Once | None = None
        """Solves identical goals once, while the agents run; None where each is solved for itself."""
        limits = config.limits
        self.calls = CallBudget(limits.max_tree_calls, limits.max_tree_call_mb, "the calls of the whole run")
        self.answers = ByteBudget(limits.max_tree_call_mb)
        self.memory = MemoryPool(limits.max_memory_mb)
        self.approving = anyio.Lock()
        """Held while an approver is asked that can answer about one call at a time."""
        self.failure: RaoError | None = None
        self.recorder = recorder
        """Writes the events to the trace file, where there is one."""
        self.redactor = Redactor(secrets)
        """Takes secrets out of what is compared with a record, which holds none."""
        self.account: Account | None = None if resumption is None else resumption.account
        """Where the root's calls are paid from, if they were before."""
        self.edits = {} if resumption is None else resumption.edits
        self.diverged: Diverged = "stop" if resumption is None else resumption.diverged
        """What to do when an agent's code does not do again what is recorded of it."""
        self.agents = 1
        """How many agents were launched so far, the root among them."""
        self.scope = anyio.CancelScope()
        """Around the root: `fail` cancels it, and its deadline is that of the run."""
        self.clock = RunClock(self.scope)
        self.steering = steering or Steering()
        self.doing = doing
        """What is around a model call, a cell or a host call: those who watch the run enter and leave it."""
        self._sinks = list(sinks)
        self._live: dict[str, LiveAgent] = {}
        self._over = False
        self._epoch = time.time() - time.monotonic()
        if resumption is not None:
            self._go_on(resumption)
            self.steering.attach(self)
            return
        start = RunStarted(
            time=self.now(),
            run=run,
            model=config.model.name,
            interface=config.model.interface,
            group=group,
            seed=seed,
            limits=config.limits.as_dict(),
            settings=settings,
        )
        self.record = ExecutionTree(start)
        if recorder is not None:
            recorder.begin(start)
        self._show(start)
        self.steering.attach(self)

    @property
    def live(self) -> Collection[LiveAgent]:
        """The agents that have started and not ended."""
        return self._live.values()

    def _go_on(self, resumption: Resumption) -> None:
        """Take over the record of an interrupted run. The time in between counts nowhere."""
        record = self.record = resumption.record
        self._epoch = record.last_time - time.monotonic()
        before = record.open_question
        self.agents = len(record.nodes) - (0 if before is None else before.agents - 1)
        self.calls.calls = sum(
            len(step.calls) for node in record.nodes.values() if not goes_on(node) for step in node.steps
        )
        if self._sinks:  # who watches gets the whole tree
            for event in events_of(record, record.run):
                self._show(event)
        self.emit(
            RunResumed(
                time=self.now(),
                at=time.time(),
                usage=record.usage,
                model=self.config.model.name,
                limits=self.config.limits.as_dict(),
                version=__version__,
                question=resumption.question,
                returns=resumption.returns,
            )
        )
        if resumption.question is not None:
            self.agents = 1

    def cell_seed(self, node: str) -> int:
        """What seeds the random numbers of an agent's cells: the same when they are run again."""
        base = self.record.settings.get("cell_seed", self.run)
        return int.from_bytes(blake2b(f"{base}/{node}".encode(), digest_size=8).digest(), "big")

    def now(self) -> float:
        """Seconds since the epoch by a monotonic clock, so that durations stay right when the system's clock is set."""
        return self._epoch + time.monotonic()

    @property
    def trace_error(self) -> str | None:
        """What the trace lacks and why, or None."""
        return None if self.recorder is None else self.recorder.problem

    def emit(self, event: Event) -> None:
        """Put an event into the record, the trace and the sinks. Never raises, never waits."""
        if self._over:  # an agent that was left behind emits something after all
            return
        self.record.apply(event)
        if self.recorder is not None:
            self.recorder.put(event)
        self._show(event)

    async def emit_large(self, event: Event) -> None:
        """`emit`, and wait until a large event is in the trace, so that an agent emits them no faster than they can be
        written. The event stays in the record if the waiting is cancelled.
        """
        self.emit(event)
        if self.recorder is not None and not self._over:
            await self.recorder.written()

    def waits(self, node: str, activity: Activity, reason: str | None, seconds: float | None = None) -> None:
        """Tell the sinks what an agent waits for now; with the reason None, that it waits no longer."""
        if self._sinks and not self._over:
            self._show(Waiting(time=self.now(), reason=reason, seconds=seconds, node=node, activity=activity))

    async def gate(self, node: str) -> None:
        """Wait here while the run is paused."""
        if self.steering.paused:
            self.waits(node, Activity.PAUSED, "the run is paused")
            await self.steering.gate()
            self.waits(node, Activity.PAUSED, None)

    def _waits(self, waiting: models.Waiting | None) -> None:
        """Tell the sinks that calls wait for the endpoint, or flow again."""
        if not self._over:
            reason, seconds = (None, None) if waiting is None else (waiting.reason, waiting.seconds)
            self._show(Waiting(time=self.now(), reason=reason, seconds=seconds))

    def _show(self, event: Event) -> None:
        for sink in list(self._sinks):
            try:
                sink(event)
            except Exception:  # a sink that fails must not end the run
                self._sinks.remove(sink)

    def watching_waits(self) -> AbstractContextManager[None]:
        """While the block lasts, tell the sinks when calls wait for the endpoint."""
        return self.models.on_wait(self._waits)

    def enter(self, node: LiveAgent) -> None:
        """An agent begins to live."""
        self._live[node.launch.id] = node

    def leave(self, node: LiveAgent) -> None:
        """An agent has ended, as its last event says."""
        self._live.pop(node.launch.id, None)

    def end_all(self) -> None:
        """End in the record what was left behind: a call that takes no cancellation keeps an agent for ever."""
        for node in reversed(list(self._live.values())):
            node.end_abandoned()

    async def close(self) -> None:
        """Emit the last event, and write everything to disk. What is emitted afterwards is dropped."""
        self.end_all()
        if self.recorder is not None:
            with anyio.CancelScope(shield=True):
                await self.recorder.settle()
        root = self.record.nodes.get(ROOT)
        self.emit(
            RunEnded(
                time=self.now(),
                status=Status.INFRA_ERROR if root is None else root.status,
                usage=self.record.usage,
                incomplete=self.trace_error,
            )
        )
        self._over = True
        if self.recorder is not None:
            await self.recorder.close()

    def refusal(self, depth: int, children: int) -> str | None:
        """Why an agent at `depth` that has launched `children` others may not launch another one, or None."""
        limits = self.config.limits
        if depth >= limits.max_depth:
            return f"the deepest level is {limits.max_depth} and you are at it; do the work yourself"
        if children >= limits.max_children:
            return f"you have launched {children} sub-agents, which is the limit"
        if self.agents >= limits.max_agents:
            return f"the whole run may have {limits.max_agents} agents and has them; do the work yourself"
        return None

    def fail(self, error: RaoError) -> None:
        """An error that ends the whole run: stop every node; `failure` is what the caller will see."""
        if self.failure is None:
            self.failure = error
        self.scope.cancel()

    def explain_cancellation(self, node: str) -> Outcome | None:
        """How a node that is being cancelled ended, where the tree or the caller is the cause."""
        if self.failure is not None:
            return Outcome(Status.CANCELLED, reason=f"the run failed: {described(self.failure)}")
        if (reason := self.steering.cancellation(node)) is not None:
            return Outcome(Status.CANCELLED, reason=reason)
        if anyio.current_time() >= self.scope.deadline:
            reason = f"the run's {self.config.limits.timeout:g} seconds were used up"
            return Outcome(Status.TREE_TIMEOUT, reason=f"{reason}{self.models.trouble or ''}")
        return None
