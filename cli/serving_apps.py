"""Servers of our own for `rao serve`: the light engine, and the recursive agent. Needs the extra `serve`."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import FastAPI

from rao_rl.envs import make
from rao_rl.rollout import ROLLOUT_LIMITS
from rao_rl.serve.agent import agent_app
from rao_rl.serve.engine import engine_app
from rao_rl.serve.http import ServerSettings, serve, serving
from rao_rl.serve.vllm import VllmEnded, VllmServer, vllm_running
from recursive_agent import Agent, Limits
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.model.base import Model, Sampling
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.model.template import CheckpointRenderer

from .models import attempts, find_checkpoint
from .serving import announce, end, free_port, heeded, vllm_command
from .startup import StartupLog
from .trace import trace_dir

if TYPE_CHECKING:
    from .serve import Wanted


async def serve_embedded(wanted: Wanted) -> int:
    """The light engine, until it is told to stop."""
    model, names = _embedded(wanted)
    await _serve(engine_app(model, wanted.settings, names=names), names[1], wanted)
    return 0


async def serve_agent(wanted: Wanted) -> int:
    """The agent, until it is told to stop or the vLLM under it ends."""
    free_port(wanted.settings.host, wanted.settings.port)  # what is missing is better said before a model is loaded
    timeout = attempts(wanted.request_timeout)
    if wanted.endpoint:
        checkpoint = find_checkpoint(wanted.model, wanted.base_url)
        there: Any = None if checkpoint is None else checkpoint.open(request_timeout=wanted.request_timeout)
        endpoint = resolve_endpoint(wanted.model, wanted.base_url) if there is None else there.endpoint
        settings = None if there is None else there.settings
        model: Any = there or connect(endpoint, interface=wanted.interface, **timeout)
        await _serve_over(model, endpoint, settings, wanted)
        return 0
    if wanted.engine == "vllm":
        return await _serve_over_vllm(wanted)
    embedded, names = _embedded(wanted)
    # The agent has the model at hand; a server of its own is for those who ask for the model itself.
    inside = ServerSettings(port=0, api_keys=(secrets.token_urlsafe(),), max_queue=wanted.settings.max_queue)
    async with serving(engine_app(embedded, inside, names=names), inside) as url:
        await _serve_over(embedded, Endpoint(names[0], f"{url}/v1", inside.api_keys[0]), embedded.settings, wanted)
    return 0


async def _serve_over_vllm(wanted: Wanted) -> int:
    key = secrets.token_urlsafe()
    command = vllm_command(wanted, host="127.0.0.1", port=0, api_keys=(key,))
    served = command.served
    with StartupLog("vLLM", quiet=wanted.quiet) as log:
        async with vllm_running(command, signals=heeded(), on_line=log.line) as server:
            try:
                await server.ready()
            except VllmEnded:
                return end(server, log, ready=False)
            log.ready()
            server.heed_no_more()
            model: Any = connect(
                endpoint := Endpoint(served.name, command.url, key),
                interface="tokens",
                renderer=None if served.directory is None else CheckpointRenderer(served.directory),
                sampling=None if served.settings is None else Sampling.of(served.settings.sampling),
                **attempts(wanted.request_timeout),
            )
            model.settings = served.settings  # agents are prompted as the checkpoint says
            if await _unless_ended(server, partial(_serve_over, model, endpoint, served.settings, wanted)):
                return 0
        return end(server, log, ready=True) or 1


async def _unless_ended(server: VllmServer, work: Callable[[], Awaitable[None]]) -> bool:
    """Work to its end; False where vLLM ended first, which cancels it."""
    done, failure = False, None
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await server.ended.wait()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            await work()
            done = True
        except Exception as error:  # out of the group it would come wrapped
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return done


async def _serve_over(model: Model, endpoint: Endpoint, settings: CheckpointSettings | None, wanted: Wanted) -> None:
    """The agent over a model, whose own server is at `endpoint`."""
    known = None if settings is None else settings.environment
    limits, prepare = replace(Limits(), **wanted.limits), None
    if known is not None:
        environment: Any = make(known.name, **known.arguments)
        limits = replace(ROLLOUT_LIMITS, **{"max_depth": environment.max_depth, **wanted.limits})
    agent = Agent(model, limits=limits, trace_dir=wanted.trace_dir or trace_dir(), **wanted.isolation)
    if known is not None:
        prepare = partial(_attempt, environment, agent)
    try:
        app = agent_app(agent, wanted.settings, name=endpoint.model, prepare=prepare, upstream=endpoint)
        await _serve(app, f"{endpoint.model}-agent", wanted)
    finally:
        with anyio.CancelScope(shield=True):
            await model.aclose()


def _attempt(environment: Any, agent: Agent, goal: str, seed: int | None) -> tuple[Agent, dict[str, Any]]:
    """For a policy that knows one environment: a goal as a task of its test world `seed` (see `Prepare`)."""
    task = environment.task(goal, seed or 0)
    session = environment.session(task)
    arguments = {"context": task.context, "returns": task.returns, "score": session.score}
    return agent.variant(tools=session.tools), arguments


async def _serve(app: FastAPI, name: str, wanted: Wanted) -> None:
    await serve(app, wanted.settings, ready=lambda url: announce(f"{url}/v1", name, wanted))


def _embedded(wanted: Wanted) -> tuple[EmbeddedModel, tuple[str, str]]:
    """The checkpoint in this process, and its names: its own and its directory."""
    folder = Path(wanted.checkpoint or "").resolve()
    model = EmbeddedModel(folder)
    return model, (model.name, str(folder))
