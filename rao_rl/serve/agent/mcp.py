"""The recursive agent as a tool of MCP clients, such as coding assistants. Needs the extras `serve` and `mcp`.

One tool, `solve`, starts a run and answers with its result; progress goes out as it happens, and a cancelled request cancels
the run. Traces are resources, `rao://runs/RUN/trace`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any

import anyio
from mcp import MCPError, types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json

from recursive_agent._version import __version__
from recursive_agent.trace.schema import Event, ModelCalled, NodeStarted

from ..http.errors import INTERNAL, ApiError
from ..http.gate import Gate
from ..http.protocol import Seed, Strict
from .chat import RunInfo
from .orders import Names, Order, check_schema
from .progress import progress
from .requests import RequestLimits
from .runs import Ended, Run, Runs
from .traces import Traces

_log = logging.getLogger(__name__)
_NAMES = Names("goal", "instructions", "returns")
_TRACE = "rao://runs/{run}/trace"
_SEND_SECONDS = 5.0
"""How long a client may take to accept a notification of progress before it gets no more of them."""
_ABOUT = (
    "Solve a task with a tree of agents that write Python in a sandbox and delegate parts of it to sub-agents. For work over "
    "data that is too large or too repetitive to do yourself: pass the data as `context`, and say in `goal` what to find or "
    "compute. The agents see nothing but goal, context and instructions: no files, no network, not this conversation."
)
_ABOUT_TASK = "Solve a task of the environment that this agent was trained on. It takes the goal and nothing else."


class SolveGoal(Strict):
    """The arguments of an agent that takes a goal alone."""

    goal: Annotated[str, Field(min_length=1, description="What to do, in words that need no other source.")]
    seed: Seed | None = None


class SolveRequest(SolveGoal):
    """The arguments of `solve`."""

    context: Annotated[
        Any,
        Field(description="Data for the agents' interpreter: any JSON, large texts too. It is no part of a prompt."),
    ] = None
    returns: Annotated[
        dict[str, Any] | None, Field(description="JSON schema that the result must fit; default: a text or any value.")
    ] = None
    instructions: Annotated[str | None, Field(description="How to work, for all agents of the run.")] = None
    limits: Annotated[
        RequestLimits | None, Field(description="The budget of this call, within that of the server.")
    ] = None


class SolveUsage(BaseModel):
    """What the run used, over all agents."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float


class SolveResult(RunInfo):
    """The structured answer of `solve`."""

    result: Any
    usage: SolveUsage


def agent_server(name: str, runs: Runs, gate: Gate, *, traces: Traces, goal_only: bool = False) -> Server[Any]:
    """An MCP server with the tool `solve`, for any transport. `goal_only`: the agent takes a goal and nothing else."""
    request: type[SolveGoal] = SolveGoal if goal_only else SolveRequest
    tool = types.Tool(
        name="solve",
        title=f"Solve a task with {name}",
        description=_ABOUT_TASK if goal_only else _ABOUT,
        input_schema=request.model_json_schema(),
        output_schema=SolveResult.model_json_schema(mode="serialization"),
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False),
    )

    async def list_tools(
        _: ServerRequestContext[Any], __: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool])

    async def call_tool(
        context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name != tool.name:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name!r:.80}; there is {tool.name}")
        try:
            order = order_of(request.model_validate(params.arguments or {}))
            async with gate:
                return _answer(await _followed(runs.begin(order), context), as_json=order.returns is not None)
        except ValidationError as error:
            return _refused(_faults(error))
        except ApiError as error:
            return _refused(error.detail)
        except Exception:
            _log.exception("a run failed")
            return _refused(INTERNAL["error"]["message"])  # details may be private

    async def list_templates(
        _: ServerRequestContext[Any], __: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        trace = types.ResourceTemplate(
            uri_template=_TRACE,
            name="trace",
            description="The record of a run: one event on each line, as far as it has come.",
            mime_type="application/x-ndjson",
        )
        return types.ListResourceTemplatesResult(resource_templates=[trace] if traces.kept else [])

    async def read_resource(
        _: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)
        found = re.fullmatch(r"rao://runs/([0-9a-f]{1,64})/trace", uri)
        text = None if found is None else await traces.text(found[1])
        if text is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no resource {uri!r:.120}; traces are {_TRACE}")
        content = types.TextResourceContents(uri=uri, mime_type="application/x-ndjson", text=text)
        return types.ReadResourceResult(contents=[content])

    async def list_resources(
        _: ServerRequestContext[Any], __: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=[])

    return Server(
        "rao",
        version=__version__,
        title=f"rao agent: {name}",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


def order_of(asked: SolveGoal) -> Order:
    """What a request wants. Raises ApiError 400."""
    if not asked.goal.strip():
        raise ApiError(400, "goal must be a text that says what to do.", param=_NAMES.goal)
    if not isinstance(asked, SolveRequest):
        return Order(goal=asked.goal, names=_NAMES, limits={}, sampling={}, seed=asked.seed)
    return Order(
        goal=asked.goal,
        names=_NAMES,
        instructions=asked.instructions,
        context=asked.context,
        returns=None if asked.returns is None else check_schema(asked.returns, _NAMES),
        limits={} if asked.limits is None else asked.limits.chosen,
        sampling={},
        seed=asked.seed,
    )


async def _followed(run: Run, context: ServerRequestContext[Any]) -> Ended:
    """Run to the end, with progress for the client; cancelled, the run is cancelled too."""
    count = _Count()
    async with aclosing(run.events()) as events:
        async for event in events:
            line = count.line(event)
            if line is not None and count.heard:
                with anyio.move_on_after(_SEND_SECONDS) as scope:
                    await context.session.report_progress(count.steps, message=line)
                count.heard = not scope.cancelled_caught
    assert run.ended is not None
    return run.ended


class _Count:
    """What a client is told of a run under way."""

    def __init__(self) -> None:
        self.heard = True
        self.steps = self._agents = self._calls = self._tokens = 0

    def line(self, event: Event) -> str | None:
        """The line for an event, with how far the run is; None where there is nothing to tell."""
        if isinstance(event, NodeStarted):
            self._agents += 1
        elif isinstance(event, ModelCalled):
            self._calls += 1
            self._tokens += event.usage.total_tokens
        line = progress(event)
        if line is None:
            return None
        self.steps += 1
        return f"{self._agents} agents, {self._calls} calls, {self._tokens:,} tokens: {line}"


def _answer(ended: Ended, *, as_json: bool) -> types.CallToolResult:
    """How a run ended, as text for the model and as data."""
    usage = SolveUsage(
        calls=ended.usage.calls,
        prompt_tokens=ended.usage.prompt_tokens,
        completion_tokens=ended.usage.completion_tokens,
        cost=ended.usage.cost or 0.0,
    )
    value = None
    if ended.finished:
        value = json.loads(ended.text) if as_json else ended.text
    data: dict[str, Any] = RunInfo.of(ended).model_dump(mode="json") | {"result": value, "usage": usage.model_dump()}
    text = ended.text
    if not ended.finished:
        why = "" if ended.reason is None else f" ({ended.reason})"
        found = "" if not ended.partial else f"\nWhat sub-agents had found: {_shown(ended.partial)}"
        text = f"not finished: {ended.status}{why}. Its last output: {ended.text or 'none'}{found}"
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=content, structured_content=data, is_error=not ended.finished)


def _shown(partial: Any) -> str:
    return to_json(list(partial)).decode()[:4_000]


def _refused(reason: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=reason)], is_error=True)


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    said = [f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {_sentence(fault)}" for fault in faults[:5]]
    return "; ".join(said)


def _sentence(fault: Mapping[str, Any]) -> str:
    return "there is no such argument" if fault["type"] == "extra_forbidden" else str(fault["msg"])
