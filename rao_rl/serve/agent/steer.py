"""Runs under way: see them, pause and resume them, cancel an agent, tell it something, approve calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from recursive_agent import Approval, PendingCall, Usage
from recursive_agent.errors import ConfigurationError

from ..http.errors import NOT_AN_OBJECT, ApiError, ErrorResponse
from ..http.protocol import Strict
from .runs import AgentState, Run, Runs, spelled

_RUN = r"^[0-9a-f]{1,64}$"
_AGENT = r"^[0-9]+(\.[0-9]+)*$"
_CALL = r"^[0-9]+(\.[0-9]+)*:[0-9]+$"
_GONE: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorResponse, "description": "The run, the agent or the call is not waiting for this any more."}
}


class RunAgent(BaseModel):
    """One agent of a run. `status` is `running`, or how it ended."""

    id: str
    parent: str | None
    goal: str
    status: str

    @classmethod
    def of(cls, name: str, agent: AgentState) -> RunAgent:
        """From what the server knows of it."""
        return cls(id=name, parent=agent.parent, goal=agent.goal, status=agent.status)


class RunUsage(BaseModel):
    """What a run or an agent used so far."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float

    @classmethod
    def of(cls, usage: Usage) -> RunUsage:
        """From a usage."""
        return cls.model_validate(usage, from_attributes=True)


class RunState(BaseModel):
    """A run under way."""

    id: str
    object: Literal["agent.run"] = "agent.run"
    status: Literal["in_progress", "paused"]
    agents: list[RunAgent]
    approvals: int
    """How many calls wait for approval."""

    @classmethod
    def of(cls, run: Run) -> RunState:
        """From the run."""
        return cls(
            id=run.id or "",
            status="paused" if run.paused else "in_progress",
            agents=[RunAgent.of(name, agent) for name, agent in run.agents.items()],
            approvals=len(run.pending.calls),
        )


class RunList(BaseModel):
    """The runs under way."""

    object: Literal["list"] = "list"
    data: list[RunState]


class ApprovalRequest(BaseModel):
    """A call that waits for approval."""

    id: str
    object: Literal["agent.approval_request"] = "agent.approval_request"
    agent: str
    goal: str
    """The goal of the agent that makes the call."""
    kind: Literal["tool", "launch"]
    name: str
    arguments: dict[str, Any]
    usage: RunUsage
    run_usage: RunUsage

    @classmethod
    def of(cls, call: PendingCall) -> ApprovalRequest:
        """From the call; bytes in its arguments become base64."""
        return cls(
            id=call.id,
            agent=call.node,
            goal=call.goal,
            kind=call.kind,
            name=call.name,
            arguments=json.loads(spelled(call.arguments)),
            usage=RunUsage.of(call.usage),
            run_usage=RunUsage.of(call.run_usage),
        )


class ApprovalRequestList(BaseModel):
    """The calls of a run that wait for approval, the oldest first."""

    object: Literal["list"] = "list"
    data: list[ApprovalRequest]


class ApprovalResponse(Strict):
    """The answer about a call. `arguments` replace those of the call; `reason` is shown to the agent with a refusal."""

    approve: bool
    reason: Annotated[str, Field(max_length=1_000)] | None = None
    arguments: dict[str, Any] | None = None


class Nothing(Strict):
    """An empty object."""


class CancelRequest(Strict):
    """Why an agent is cancelled; its parent's code sees the reason."""

    reason: Annotated[str, Field(max_length=1_000)] | None = None


class AgentMessage(Strict):
    """A text that the agent reads with its next observation."""

    content: Annotated[str, Field(min_length=1, max_length=10_000)]


def _json_only(request: Request) -> None:
    """A page in a browser can send other types to this machine without asking anybody."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(400, NOT_AN_OBJECT)


_JsonOnly = Depends(_json_only)
_RunId = Annotated[str, PathParameter(json_schema_extra={"pattern": _RUN})]
_AgentId = Annotated[str, PathParameter(json_schema_extra={"pattern": _AGENT})]
_CallId = Annotated[str, PathParameter(json_schema_extra={"pattern": _CALL})]


def add_steering(app: FastAPI, runs: Runs) -> None:
    """Serve the runs under way as /v1/runs. Whoever has a key may steer every run, as it may read every trace."""

    def under_way(run: str) -> Run:
        found = runs.live.get(run)
        if found is None:
            raise ApiError(
                404,
                "There is no such run under way; the trace of one that has ended is under /v1/traces.",
                param="run",
                code="run_not_found",
            )
        return found

    def agent_of(run: Run, agent: str) -> None:
        state = run.agents.get(agent)
        if state is None:
            raise ApiError(404, "There is no such agent in this run.", param="agent", code="agent_not_found")
        if state.status != "running":
            raise ApiError(409, f"The agent has ended ({state.status}).", param="agent", code="agent_ended")

    def steered(run: Run, action: Callable[[], object]) -> RunState:
        try:
            action()
        except ConfigurationError as error:
            raise ApiError(409, f"This is not possible: {error}.", code="not_possible") from None
        return RunState.of(run)

    @app.get("/v1/runs")
    async def list_runs() -> RunList:
        """The runs under way, the oldest first."""
        return RunList(data=[RunState.of(run) for run in list(runs.live.values())])

    @app.get("/v1/runs/{run}")
    async def retrieve_run(run: _RunId) -> RunState:
        """A run under way."""
        return RunState.of(under_way(run))

    @app.post("/v1/runs/{run}/pause", responses=_GONE, dependencies=[_JsonOnly])
    async def pause(run: _RunId, body: Nothing) -> RunState:
        """Send no further model call and start no cell. The time limit stands still."""
        found = under_way(run)
        return steered(found, found.controls.pause)

    @app.post("/v1/runs/{run}/resume", responses=_GONE, dependencies=[_JsonOnly])
    async def resume(run: _RunId, body: Nothing) -> RunState:
        """Go on with a paused run."""
        found = under_way(run)
        return steered(found, found.controls.resume)

    @app.post("/v1/runs/{run}/agents/{agent}/cancel", responses=_GONE, dependencies=[_JsonOnly])
    async def cancel(run: _RunId, agent: _AgentId, body: CancelRequest) -> RunState:
        """Cancel an agent and all below it; "0" is the root, and ends the run with what there is."""
        found = under_way(run)
        agent_of(found, agent)
        return steered(found, lambda: found.controls.cancel(agent, body.reason))

    @app.post("/v1/runs/{run}/agents/{agent}/messages", responses=_GONE, dependencies=[_JsonOnly])
    async def tell(run: _RunId, agent: _AgentId, body: AgentMessage) -> RunState:
        """Tell an agent something."""
        found = under_way(run)
        agent_of(found, agent)
        if not body.content.strip():
            raise ApiError(400, "The message must not be blank.", param="content")
        return steered(found, lambda: found.controls.tell(agent, body.content))

    @app.get("/v1/runs/{run}/approvals")
    async def list_approvals(run: _RunId) -> ApprovalRequestList:
        """The calls that wait for approval."""
        return ApprovalRequestList(data=[ApprovalRequest.of(call) for call in under_way(run).pending.calls])

    @app.post("/v1/runs/{run}/approvals/{call}", responses=_GONE, dependencies=[_JsonOnly])
    async def approve(run: _RunId, call: _CallId, body: ApprovalResponse) -> RunState:
        """Approve or refuse a call."""
        found = under_way(run)
        if not found.pending.answer(call, Approval(body.approve, body.reason, body.arguments)):
            raise ApiError(
                409, "No such call waits for approval (any more).", param="call", code="approval_not_pending"
            )
        return RunState.of(found)
