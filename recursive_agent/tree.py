"""What the agents of one run share: configuration, sandbox, budgets, events, and who is alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from .checkpoint import ActionFormat, PromptStyle
from .errors import RaoError, described
from .launch import Launch, Outcome
from .limits import ByteBudget, CallBudget, Limits, Prices, Slots
from .model import base as models
from .model.base import Explaining, Model, Sampling, Throttled
from .repl.base import MemoryPool, Sandbox
from .status import Status
from .tools import Tool
from .trace.recorder import Recorder
from .trace.schema import ROOT, Event, RunEnded, RunStarted, Waiting
from .trace.tree import ExecutionTree

Sink = Callable[[Event], None]
"""Called with every event of a run, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What all nodes of a run share."""

    model: Model
    tools: Mapping[str, Tool]
    limits: Limits
    prices: Prices | None
    sampling: Sampling
    instructions: str | None
    prompt_style: PromptStyle
    action_format: ActionFormat
    bare_code: bool
    context_limit: int | None


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
        sinks: tuple[Sink, ...] = (),
        recorder: Recorder | None = None,
    ) -> None:
        """Raises TraceError where the trace cannot be begun."""
        self.config = config
        self.sandbox = sandbox
        self.run = run
        self.seed = seed
        self.slots = Slots(config.limits.max_concurrency)
        limits = config.limits
        self.calls = CallBudget(limits.max_tree_calls, limits.max_tree_call_mb, "the calls of the whole run")
        self.answers = ByteBudget(limits.max_tree_call_mb)
        self.memory = MemoryPool(limits.max_memory_mb)
        self.failure: RaoError | None = None
        self.recorder = recorder
        """Writes the events to the trace file, where there is one."""
        self.agents = 1
        """How many agents were launched so far, the root among them."""
        self.scope = anyio.CancelScope()
        """Around the root: `fail` cancels it, and its deadline is that of the run."""
        self._sinks = list(sinks)
        self._live: dict[str, LiveAgent] = {}
        self._over = False
        self._epoch = time.time() - time.monotonic()
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
        model = self.config.model
        return model.on_wait(self._waits) if isinstance(model, Throttled) else nullcontext()

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

    def explain_cancellation(self) -> Outcome | None:
        """How a node that is being cancelled ended, where the tree itself is the cause."""
        if self.failure is not None:
            return Outcome(Status.CANCELLED, reason=f"the run failed: {described(self.failure)}")
        if anyio.current_time() >= self.scope.deadline:
            reason = f"the run's {self.config.limits.timeout:g} seconds were used up"
            model = self.config.model
            if isinstance(model, Throttled) and model.waiting is not None:
                reason = f"{reason} while calls waited for the endpoint: {model.waiting.reason}"
            elif isinstance(model, Explaining) and model.trouble is not None:
                reason = f"{reason}; the last attempt at a call failed: {model.trouble}"
            return Outcome(Status.TREE_TIMEOUT, reason=reason)
        return None

    def tokens_below(self, node: str) -> int:
        """Confirmed tokens of a node and its descendants."""
        return self.record.nodes[node].total_usage.total_tokens
