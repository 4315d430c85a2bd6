"""The runs of a server: one open agent, a variant of it for each request, and the metrics of them."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic_core import to_json

from recursive_agent import Agent, Approve, Approver, Limits, Result, Stream, Usage
from recursive_agent.errors import BadRequest, ConfigurationError, ModelError, SandboxError
from recursive_agent.launch import partial_of
from recursive_agent.trace.observer import INCOMING
from recursive_agent.trace.schema import Event, ModelCalled, NodeEnded, NodeStarted, RunStarted

from ..http.errors import ApiError
from .orders import Order, capped
from .pending import PendingCalls
from .progress import without_address

_log = logging.getLogger(__name__)
RUN_HEADER = "x-rao-run"
"""Names the run of an answer, as in `GET /v1/traces/{run}`."""

_PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that tools need not see."""
_GOAL = 1_000
"""Characters of an agent's goal that the list of runs shows."""
MakeApprove = Callable[[Approver], Approve]
"""Makes the approvals of a run from the function that asks its clients: `partial(Approve, launches=True)`, say."""
Prepare = Callable[[str, int | None], tuple[Agent, Mapping[str, Any]]]
"""From a goal and a seed to the agent for it and further arguments of its `solve`. Raises ConfigurationError, in words for
the client, where the goal is none that it knows. The agent is best a `variant` of the one that is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended. `text` is the answer (JSON where it is no text), or what there was of one."""

    run: str
    status: str
    finished: bool
    reason: str | None
    text: str
    agents: int
    depth: int
    score: float | None
    usage: Usage
    partial: Sequence[Mapping[str, Any]] = ()
    """Of a run that did not finish: goal and result of the sub-agents that did."""

    @classmethod
    def of(cls, result: Result, *, as_json: bool) -> Ended:
        """From the result; with `as_json` texts are written as JSON too."""
        tree, root = result.tree, result.tree.root
        if result.status.finished:
            text = spelled(root.result) if as_json or not isinstance(root.result, str) else root.result
        else:
            text = root.last_output
        found = partial_of("", result.partial)
        return cls(
            run=tree.run,
            status=result.status.value,
            finished=result.status.finished,
            reason=result.reason,
            text=text,
            agents=len(tree.nodes),
            depth=tree.max_depth,
            score=root.score,
            usage=result.usage,
            partial=() if found is None else json.loads(spelled(found["results"])),
        )


@dataclass(slots=True)
class AgentState:
    """An agent of a run under way."""

    parent: str | None
    goal: str
    status: str = "running"


class Runs:
    """Makes runs of orders. `agent` should be open; none of its limits goes beyond `ceilings`."""

    def __init__(
        self,
        agent: Agent,
        *,
        ceilings: Limits,
        prepare: Prepare | None,
        registry: CollectorRegistry,
        approve: MakeApprove | None = None,
    ) -> None:
        self._agent = agent
        self._approve = approve
        self.live: dict[str, Run] = {}
        """The runs under way, by id."""
        self._ceilings = ceilings
        self._prepare = prepare
        self.metrics = _Metrics(registry)

    def begin(self, order: Order, headers: Mapping[str, str] | None = None) -> Run:
        """A run that has not started yet; `headers` are those of its request.

        Raises ApiError 400 for what this agent cannot do.
        """
        agent, arguments = self._agent, {"context": order.full_context, "returns": order.returns}
        if self._prepare is not None:
            _only_a_goal(order)
            try:
                agent, own = self._prepare(order.goal, order.seed)
            except ConfigurationError as error:
                raise ApiError(400, str(error), param=order.names.goal, code="unknown_goal") from None
            arguments = dict(own)
        instructions = [text for text in (agent.instructions, order.instructions) if text]
        if order.instructions and agent.prompt_style == "minimal":
            raise ApiError(
                400,
                "The model of this agent was trained without instructions; send the goal alone.",
                param=order.names.instructions,
            )
        pending = PendingCalls()
        try:
            agent = agent.variant(
                approve=None if self._approve is None else self._approve(pending.ask),
                limits=capped(agent.limits, order.limits, self._ceilings),
                instructions="\n\n".join(instructions) or None,
                sampling=order.sampling,
            )
        except ConfigurationError as error:
            raise ApiError(400, str(error), param="limits") from None
        return Run(agent, order, {"seed": order.seed, **arguments}, self.metrics, self.live, pending, headers)


class Run:
    """One run of the agent. `id` is known from the first event on, `ended` after the last one."""

    def __init__(
        self,
        agent: Agent,
        order: Order,
        arguments: Mapping[str, Any],
        metrics: _Metrics,
        live: dict[str, Run],
        pending: PendingCalls,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._agent = agent
        self._order = order
        self._arguments = arguments
        self._metrics = metrics
        self._live = live
        self._headers = {name: value for name, value in (headers or {}).items() if name.lower() not in _PRIVATE}
        self._stream: Stream | None = None
        self.pending = pending
        """Its calls that wait for approval."""
        self.agents: dict[str, AgentState] = {}
        """Its agents by id, in the order in which they started."""
        self.id: str | None = None
        self.ended: Ended | None = None

    @property
    def controls(self) -> Stream:
        """What steers it, once it is under way."""
        assert self._stream is not None
        return self._stream

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._stream is not None and self._stream.paused

    async def whole(self) -> Ended:
        """Run to the end. Raises as `events`."""
        async for _ in self.events():
            pass
        assert self.ended is not None
        return self.ended

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of the run; left early, it is cancelled and awaited. Raises ApiError where the run could not go on."""
        status = "cancelled"
        async with AsyncExitStack() as stack:
            stack.callback(lambda: self._metrics.ended(status))
            self._metrics.active.inc()
            stream = self._agent.stream(self._order.full_goal, **self._arguments)
            incoming = INCOMING.set(self._headers)  # the run is a task of its own, which begins in this context
            try:
                await stack.enter_async_context(stream)
            finally:
                INCOMING.reset(incoming)
            self._stream = stream
            stack.callback(lambda: self._live.pop(self.id or "", None))
            try:
                async for event in stream:
                    self._note(event)
                    self._metrics.count(event)
                    yield event
            except ConfigurationError as error:
                status = "refused"
                raise ApiError(400, str(error)) from None
            except (ModelError, SandboxError) as error:
                status = "infra_error"
                raise _failure(error, self.id) from error
            except Exception:
                status = "infra_error"
                raise
            result = stream.result
            status = result.status.value
            self.ended = Ended.of(result, as_json=self._order.returns is not None)

    def _note(self, event: Event) -> None:
        """What the routes of runs under way show."""
        if isinstance(event, RunStarted):
            self.id = event.run
            self._live[event.run] = self
        elif isinstance(event, NodeStarted):
            self.agents[event.node] = AgentState(event.parent, event.goal[:_GOAL])
        elif isinstance(event, NodeEnded):
            self.agents[event.node].status = event.status.value


class _Metrics:
    """The runs as metrics for Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.active = Gauge("rao_agent_runs_active", "Runs under way.", registry=registry)
        self._runs = Counter("rao_agent_runs", "Runs ended, by how.", ["status"], registry=registry)
        self._agents = Counter("rao_agent_agents", "Agents started, roots included.", registry=registry)
        self._tokens = Counter(
            "rao_agent_tokens", "Tokens, as the model's endpoint bills them.", ["kind"], registry=registry
        )

    def count(self, event: Event) -> None:
        """Take in what an event says."""
        if isinstance(event, NodeStarted):
            self._agents.inc()
        elif isinstance(event, ModelCalled):
            self._tokens.labels("prompt").inc(event.usage.prompt_tokens)
            self._tokens.labels("completion").inc(event.usage.completion_tokens)

    def ended(self, status: str) -> None:
        """A run has ended."""
        self.active.dec()
        self._runs.labels(status).inc()


def spelled(value: Any) -> str:
    """Plain data as JSON; bytes as base64 (URL-safe), and null for numbers that JSON lacks."""
    return to_json(value, bytes_mode="base64", inf_nan_mode="null", fallback=str).decode()


def _only_a_goal(order: Order) -> None:
    """Refuse what an agent of one trade does not read."""
    for name, given in (
        (order.names.goal, order.turns),
        (order.names.instructions, order.instructions),
        (order.names.returns, order.returns is not None),
        ("context", order.context is not None),
    ):
        if given:
            raise ApiError(
                400, "This agent takes a goal and nothing else: one message of the user.", param=name, code="goal_only"
            )


def _failure(error: ModelError | SandboxError, run: str | None) -> ApiError:
    """The error that the client gets."""
    _log.error("run %s: %s", run, error)
    headers = None if run is None else {RUN_HEADER: run}
    message = without_address(str(error))
    if isinstance(error, SandboxError):
        return ApiError(503, f"The sandbox failed: {message}", code="sandbox_failed", retry_after=5, headers=headers)
    if isinstance(error, BadRequest):  # of a temperature too high, say: the client's doing as likely as ours
        return ApiError(400, message, code="refused_by_model", headers=headers)
    return ApiError(502, message, kind="upstream_error", code="model_failed", headers=headers)
