"""One run: spawning, budgets, cancellation, events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import anyio

from .checkpoint import ActionFormat, PromptStyle
from .errors import ConfigurationError, RaoError, described, documented
from .groups import the_cause
from .launch import Launch
from .limits import Account, Budget, ByteBudget, CallBudget, Limits, Prices, Slots
from .model import gate as endpoint
from .model.base import Model, Sampling
from .node import AgentNode, Outcome
from .repl.base import MemoryPool, Sandbox
from .returns import Returns
from .scoring import Scorer, assess, unscored
from .status import Status
from .tools import Tool
from .trace.recorder import Recorder
from .trace.schema import ROOT, Event, RunEnded, RunStarted, Scored, Waiting
from .trace.tree import ExecutionTree, Node

Sink = Callable[[Event], None]
SCORING_SECONDS = 5.0
"""How long scorers have at least, where the run itself has used up the time; never more than the run had."""


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


class Tree:
    """The live side of a run; `record` is the ExecutionTree that its events make."""

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
        self._sinks = list(sinks)
        self._recorder = recorder
        self.agents = 1
        self._live: dict[str, AgentNode] = {}
        self._over = False
        self._scope = anyio.CancelScope()
        self._epoch = time.time() - anyio.current_time()
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
        """Seconds since the epoch by a clock that never jumps: what the run took is right whoever sets the system's."""
        return self._epoch + anyio.current_time()

    @property
    def trace_error(self) -> str | None:
        """What the trace lacks and why, or None."""
        return None if self._recorder is None else self._recorder.problem

    def emit(self, event: Event) -> None:
        """Take an event into the record and hand it to the trace and to whoever watches. Never raises, never waits."""
        if self._over:  # an agent that was left behind says something after all
            return
        self.record.apply(event)
        if self._recorder is not None:
            self._recorder.put(event)
        self._show(event)

    async def emit_large(self, event: Event) -> None:
        """`emit`, and where the event is a large one wait until it is in the trace: who makes many goes no faster than
        they can be written. What is emitted is kept where the waiting is cancelled.
        """
        self.emit(event)
        if self._recorder is not None and not self._over:
            await self._recorder.written()

    def _waits(self, waiting: endpoint.Waiting | None) -> None:
        """Tell who watches that calls wait for the endpoint, or flow again."""
        if not self._over:
            reason, seconds = (None, None) if waiting is None else (waiting.reason, waiting.seconds)
            self._show(Waiting(time=self.now(), reason=reason, seconds=seconds))

    def _show(self, event: Event) -> None:
        for sink in list(self._sinks):
            try:
                sink(event)
            except Exception:  # who watches a run must not end it
                self._sinks.remove(sink)

    async def solve(self, goal: str, context: Any, returns: Returns, score: Scorer | None) -> Outcome:
        """Run the root to its end, score the nodes, close the record.

        Where `failure` is set afterwards, the run failed. Raises only cancellation from outside, and faults of ours.
        """
        try:
            return await self._solve(goal, context, returns, score)
        except BaseExceptionGroup as group:
            raise the_cause(group) from None

    async def _solve(self, goal: str, context: Any, returns: Returns, score: Scorer | None) -> Outcome:
        limits = self.config.limits
        tokens, cost = Budget(limits.max_tokens), Budget(limits.max_cost)
        launch = Launch(
            id=ROOT,
            parent=None,
            depth=0,
            goal=goal,
            context=context,
            returns=returns,
            account=Account(tokens, cost, self.config.prices, own_share=False),
            max_steps=limits.max_steps,
            max_tokens=limits.max_tokens,
        )
        async with anyio.create_task_group() as tasks:
            if self._recorder is not None:
                tasks.start_soon(self._recorder.run)
            try:
                outcome = await self._root(launch)
                self._end_all()
                if score is not None:
                    await self._score(score)
            finally:
                await self._close()
        return outcome

    async def _root(self, launch: Launch) -> Outcome:
        try:
            with self._scope as scope:
                if (timeout := self.config.limits.timeout) is not None:
                    scope.deadline = anyio.current_time() + timeout
                model = self.config.model
                with model.on_wait(self._waits) if isinstance(model, endpoint.Throttled) else nullcontext():
                    return await AgentNode(self, launch).run()
        except Exception as error:  # a fault of ours, outside every agent's life
            self.fail(documented(error))
            raise
        root = self.record.root
        return Outcome(root.status, reason=root.reason)

    def enter(self, node: AgentNode) -> None:
        """An agent begins to live."""
        self._live[node.launch.id] = node

    def leave(self, node: AgentNode) -> None:
        """An agent has ended, as its last event says."""
        self._live.pop(node.launch.id, None)

    def _end_all(self) -> None:
        """End in the record what was left behind: a call that takes no cancellation keeps an agent for ever."""
        for node in reversed(list(self._live.values())):
            node.end_abandoned()

    async def _close(self) -> None:
        """The last event, and everything on disk."""
        self._end_all()
        if self._recorder is not None:
            with anyio.CancelScope(shield=True):
                await self._recorder.settle()
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
        if self._recorder is not None:
            await self._recorder.close()

    def refusal(self, parent: AgentNode) -> str | None:
        """Why `parent` may not launch another agent, or None."""
        limits = self.config.limits
        if parent.launch.depth >= limits.max_depth:
            return f"the deepest level is {limits.max_depth} and you are at it; do the work yourself"
        if parent.children >= limits.max_children:
            return f"you have launched {parent.children} sub-agents, which is the limit"
        if self.agents >= limits.max_agents:
            return f"the whole run may have {limits.max_agents} agents and has them; do the work yourself"
        return None

    def fail(self, error: RaoError) -> None:
        """An error that ends the whole run: stop every node; `failure` is what the caller will see."""
        if self.failure is None:
            self.failure = error
        self._scope.cancel()

    def explain_cancellation(self) -> Outcome | None:
        """How a node that is being cancelled ended, where the tree itself is the cause."""
        if self.failure is not None:
            return Outcome(Status.CANCELLED, reason=f"the run failed: {described(self.failure)}")
        if anyio.current_time() >= self._scope.deadline:
            reason = f"the run's {self.config.limits.timeout:g} seconds were used up"
            model = self.config.model
            if isinstance(model, endpoint.Throttled) and model.waiting is not None:
                reason = f"{reason} while calls waited for the endpoint: {model.waiting.reason}"
            elif isinstance(trouble := getattr(model, "trouble", None), str):
                reason = f"{reason}; the last attempt at a call failed: {trouble}"
            return Outcome(Status.TREE_TIMEOUT, reason=reason)
        return None

    def tokens_below(self, node: str) -> int:
        """Confirmed tokens of a node and its descendants."""
        return self.record.nodes[node].total_usage.total_tokens

    async def _score(self, score: Scorer) -> None:
        """Score the nodes within the time that the run has left."""
        deadline = math.inf
        if (timeout := self.config.limits.timeout) is not None:
            deadline = max(self._scope.deadline, anyio.current_time() + min(SCORING_SECONDS, timeout))
        for node in list(self.record.nodes.values()):
            with anyio.CancelScope(deadline=deadline) as scope:
                self.emit(await self._scored(score, node))
            if scope.cancelled_caught:
                self.emit(unscored(node, TimeoutError("the time of the run was used up")))

    async def _scored(self, score: Scorer, node: Node) -> Scored:
        try:
            return await assess(score, node)
        except ConfigurationError as error:  # a score that is none must not lose the run
            return unscored(node, error)
