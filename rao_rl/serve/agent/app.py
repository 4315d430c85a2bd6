"""The recursive agent as an OpenAI-compatible API, so that any client of that protocol can use it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from recursive_agent import Agent, Limits
from recursive_agent.model.endpoint import Endpoint

from ..http.app import make_app
from ..http.errors import NOT_AN_OBJECT, ApiError, ErrorResponse
from ..http.protocol import ModelCard, ModelList, event_stream, names_of, now
from ..http.settings import ServerSettings
from ..http.streams import EventStream, unless_disconnected
from .chat import AgentChunk, AgentCompletion, ChatAnswer
from .document import document_bodies
from .orders import chat_order, responses_order
from .raw import RawModel
from .requests import AgentChatRequest, AgentResponsesRequest
from .responses import AgentResponse, ResponseEvent, ResponsesAnswer
from .runs import RUN_HEADER, Ended, MakeApprove, Prepare, Run, Runs
from .steer import add_steering
from .traces import Traces, add_traces
from .views import add_views

__all__ = ["RUN_HEADER", "Prepare", "agent_app"]

T = TypeVar("T", bound=BaseModel)

_CHAT = "/v1/chat/completions"
_RESPONSES = "/v1/responses"
_OF_THE_MODEL = ("/v1/completions", "/tokenize")
_MODEL_FAILED: dict[int | str, dict[str, Any]] = {
    502: {"model": ErrorResponse, "description": "The model's endpoint failed."},
}
_OF_THE_ENDPOINT: dict[int | str, dict[str, Any]] = {
    **_MODEL_FAILED,
    200: {"description": "The endpoint's answer.", "content": {"application/json": {"schema": {}}}},
}


def agent_app(
    agent: Agent,
    settings: ServerSettings,
    *,
    name: str | None = None,
    ceilings: Limits | None = None,
    prepare: Prepare | None = None,
    upstream: Endpoint | None = None,
    approve: MakeApprove | None = None,
    mcp: bool = False,
) -> FastAPI:
    """The application that serves `agent` as the model `NAME-agent` (`name` defaults to that of the agent's model).

    A request may set limits of its own, up to `ceilings` (default: the agent's limits, which hold for all the others). The
    agent is opened when the server starts and shared by all requests; what it writes to its `trace_dir` is served as
    /v1/traces. With `upstream` the model itself is there too, under NAME. `prepare` (see there) makes an agent for each
    goal, where tools and scorer depend on it. `approve` says which calls wait until a client approves them:
    `partial(Approve, tools=[...], launches=True, timeout=3600)`. With `mcp` the agent is a tool of MCP clients too, at /mcp.
    """
    name = name or agent.model_name
    served = f"{name}-agent"
    raw = None if upstream is None else RawModel(upstream)
    known = [served] if raw is None else [served, name]
    created = now()
    mcp_sessions: AbstractAsyncContextManager[None] | None = None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(agent)
            if raw is not None:
                await stack.enter_async_context(raw)
            if mcp_sessions is not None:
                await stack.enter_async_context(mcp_sessions)
            yield

    app = make_app(f"rao agent: {name}", settings, lifespan=lifespan)
    gate = app.state.gate
    runs = Runs(agent, ceilings=ceilings or agent.limits, prepare=prepare, registry=app.state.registry, approve=approve)

    async def read(request: Request) -> tuple[dict[str, Any], RawModel | None]:
        """The body, and the raw model where that is meant."""
        body = await _object(request)
        model = body.get("model")
        if isinstance(model, str) and model not in known:
            raise _unknown(model, known)
        return body, raw if model == name else None

    async def answered(request: Request, run: Run, body: Callable[[Ended], BaseModel]) -> Response:
        async def work() -> Ended:
            async with gate:
                return await run.whole()

        ended = await unless_disconnected(request.receive, work)
        return JSONResponse(body(ended).model_dump(mode="json", by_alias=True), headers={RUN_HEADER: ended.run})

    @app.post(_CHAT, responses={**_MODEL_FAILED, **event_stream(AgentCompletion, AgentChunk)})
    async def chat(request: Request) -> Response:
        """Reach a goal."""
        body, model = await read(request)
        if model is not None:
            return model.relay(_CHAT, body, gate)
        asked = _validated(AgentChatRequest, body)
        run, answer = runs.begin(chat_order(asked), request.headers), ChatAnswer(served)
        if asked.stream:
            return _stream(run, answer.events(run, usage=asked.wants_usage), gate=gate)
        return await answered(request, run, answer.whole)

    @app.post(_RESPONSES, responses={**_MODEL_FAILED, **event_stream(AgentResponse, ResponseEvent, done=False)})
    async def responses(request: Request) -> Response:
        """Reach a goal. The server keeps no conversations: send the earlier turns as `input`."""
        body, model = await read(request)
        if model is not None:
            return model.relay(_RESPONSES, body, gate)
        asked = _validated(AgentResponsesRequest, body)
        run, answer = runs.begin(responses_order(asked), request.headers), ResponsesAnswer(asked, served)
        if asked.stream:
            return _stream(run, answer.events(run), gate=gate, failed=answer.failed)
        return await answered(request, run, answer.whole)

    async def card(model: str) -> ModelCard:
        window = await raw.window() if raw is not None and model == name else None
        return ModelCard(id=model, created=created, root=name, max_model_len=window)

    @app.get("/v1/models")
    async def list_models() -> ModelList:
        """The agent, and the model under it where that can be asked too."""
        return ModelList(data=[await card(model) for model in known])

    @app.get("/v1/models/{model:path}")
    async def retrieve_model(model: str) -> ModelCard:
        """One of the models."""
        if model not in known:
            raise _unknown(model, known)
        return await card(model)

    add_traces(app, agent.trace_dir)
    add_views(app, agent.trace_dir)
    add_steering(app, runs)
    if mcp:
        from .mcp import agent_server
        from .mcp_http import add_mcp

        traces = Traces(agent.trace_dir)
        mcp_sessions = add_mcp(app, agent_server(name, runs, gate, traces=traces, goal_only=prepare is not None))
    readers: dict[str, type[BaseModel] | None] = {_CHAT: AgentChatRequest, _RESPONSES: AgentResponsesRequest}
    if raw is not None:
        for path in _OF_THE_MODEL:
            readers[path] = None
            _add_raw(app, path, raw, name)
    document_bodies(app, readers, agent=served, raw=None if raw is None else name)
    return app


def _add_raw(app: FastAPI, path: str, raw: RawModel, name: str) -> None:
    """A path that only the raw model knows."""

    @app.post(path, response_class=Response, responses=_OF_THE_ENDPOINT, name=path)
    async def ask(request: Request) -> Response:
        """Ask the model itself; its endpoint says what it takes and gives."""
        body = await _object(request)
        model = body.get("model", name)
        if model != name:
            raise _unknown(str(model), [name])
        return raw.relay(path, body, app.state.gate)


def _stream(run: Run, events: AsyncGenerator[bytes, None], **settings: Any) -> EventStream:
    async def named() -> AsyncGenerator[bytes, None]:
        async with aclosing(events):
            async for event in events:
                if run.id is not None and RUN_HEADER not in response.headers:
                    response.headers[RUN_HEADER] = run.id  # they leave with the first event
                yield event

    response = EventStream(named(), **settings)
    return response


async def _object(request: Request) -> dict[str, Any]:
    """The JSON object that a body is. Raises ApiError 400."""
    # A page in a browser can send other types to this machine without asking anybody.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(400, NOT_AN_OBJECT)
    body = await request.json()
    if not isinstance(body, dict):
        raise ApiError(400, NOT_AN_OBJECT)
    return body


def _validated(kind: type[T], body: Mapping[str, Any]) -> T:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        located = [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        raise RequestValidationError(located, body=body) from None


def _unknown(model: str, known: list[str]) -> ApiError:
    return ApiError(
        404,
        f"The model {model[:200]!r} does not exist; there is {names_of(known)}.",
        param="model",
        code="model_not_found",
    )
