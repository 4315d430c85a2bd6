"""One run: spawning, budgets, cancellation, events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from .checkpoint import ActionFormat, PromptStyle
from .errors import ConfigurationError
from .launch import Launch
from .limits import Account, Budget, Limits, Prices, Slots
from .model.base import Model, Sampling
from .node import AgentNode, Outcome
from .repl.base import Sandbox
from .returns import Returns
from .scoring import Scorer, assess, unscored
from .status import Status
from .tools import Tool
from .trace.schema import ROOT, Event, RunEnded, RunStarted
from .trace.tree import ExecutionTree

Sink = Callable[[Event], None]


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
    ) -> None:
        self.config = config
        self.sandbox = sandbox
        self.run = run
        self.seed = seed
        self.slots = Slots(config.limits.max_concurrency)
        self.failure: Exception | None = None
        self._sinks = sinks
        self.agents = 1
        self._scope = anyio.CancelScope()
        start = RunStarted(
            time=time.time(),
            run=run,
            model=config.model.name,
            interface=config.model.interface,
            group=group,
            seed=seed,
            limits=config.limits.as_dict(),
            settings=settings,
        )
        self.record = ExecutionTree(start)
        for sink in sinks:
            sink(start)

    def emit(self, event: Event) -> None:
        """Take an event into the record and hand it to the trace and to whoever watches."""
        self.record.apply(event)
        for sink in self._sinks:
            sink(event)

    async def solve(self, goal: str, context: Any, returns: Returns, score: Scorer | None) -> Outcome:
        """Run the root to its end, score the nodes, close the record. Raises only cancellation from outside."""
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
        outcome: Outcome | None = None
        try:
            with self._scope as scope:
                if limits.timeout is not None:
                    scope.deadline = anyio.current_time() + limits.timeout
                outcome = await AgentNode(self, launch).run()
            if outcome is None:
                root = self.record.root
                outcome = Outcome(root.status, reason=root.reason)
            if score is not None:
                await self._score(score)
            return outcome
        finally:
            self.emit(RunEnded(time=time.time(), status=self.record.status, usage=self.record.usage))

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

    def fail(self, error: Exception) -> None:
        """An error that ends the whole run: stop every node; `failure` is what the caller will see."""
        if self.failure is None:
            self.failure = error
        self._scope.cancel()

    def explain_cancellation(self) -> Outcome | None:
        """How a node that is being cancelled ended, where the tree itself is the cause."""
        if self.failure is not None:
            return Outcome(Status.CANCELLED, reason=f"the run failed: {self.failure}")
        if anyio.current_time() >= self._scope.deadline:
            return Outcome(Status.TREE_TIMEOUT, reason=f"the run's {self.config.limits.timeout:g} seconds were used up")
        return None

    def tokens_below(self, node: str) -> int:
        """Confirmed tokens of a node and its descendants."""
        return self.record.nodes[node].total_usage.total_tokens

    async def _score(self, score: Scorer) -> None:
        for node in list(self.record.nodes.values()):
            try:
                event = await assess(score, node)
            except ConfigurationError as error:  # a score that is none must not lose the run
                event = unscored(node, error)
            self.emit(event)
