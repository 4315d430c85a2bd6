"""Servers of our own for `rao serve`: the light engine, and the recursive agent. Needs the extra `serve`."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI

from rao_rl.envs import Environment
from rao_rl.errors import VllmEnded
from rao_rl.rollouts.attempt import ROLLOUT_LIMITS
from rao_rl.serve.agent.app import agent_app
from rao_rl.serve.engine.app import engine_app
from rao_rl.serve.http.server import serve, serving
from rao_rl.serve.http.settings import ServerSettings
from rao_rl.serve.vllm.process import vllm_running
from rao_rl.weights.folder import open_folder
from recursive_agent import Agent, Approve, Limits
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.concurrency import LOST, race
from recursive_agent.errors import ConfigurationError
from recursive_agent.model import connect, resolve_endpoints
from recursive_agent.model.base import Model, Sampling
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.model.local import LocalModel
from recursive_agent.model.template import CheckpointRenderer

from ..messages import say
from ..models import attempts, find_checkpoint
from ..specialist import assign, own_environment
from ..telemetry import observing
from .options import ServeOptions
from .ready import announce, free_port
from .startup import StartupLog
from .vllm import exit_status, show_choices, signals_to_pass_on, vllm_command

_APPROVAL_SECONDS = 3_600.0
"""How long a call waits for approval before it is refused."""


async def serve_embedded(options: ServeOptions) -> int:
    """Serve a model with the light engine until a signal comes."""
    model, names = _embedded(options)
    await _serve(engine_app(model, options.server, names=names), names[1], options)
    return 0


async def serve_agent(options: ServeOptions) -> int:
    """Serve the agent until a signal comes or the vLLM under it ends; returns the exit status."""
    if options.mcp != "stdio":
        free_port(options.server.host, options.server.port)  # a taken port is reported before a model is loaded
    timeout = attempts(options.request_timeout)
    if options.endpoint:
        checkpoint = find_checkpoint(options.model, options.base_url)
        there: Any = None if checkpoint is None else checkpoint.open(request_timeout=options.request_timeout)
        settings = None if there is None else there.settings
        # Of several endpoints, requests for the model itself go to the first: the agent's are spread over all.
        endpoint, *more = resolve_endpoints(settings.name if settings else options.model, options.base_url)
        model: Any = there or connect((endpoint, *more), interface=options.interface, **timeout)
        await _serve_over(model, endpoint, settings, options)
        return 0
    if options.engine == "vllm":
        return await _serve_over_vllm(options)
    embedded, names = _embedded(options)
    if options.mcp == "stdio":
        await _serve_over(embedded, Endpoint(names[0], "", ""), embedded.settings, options)
        return 0
    # The agent has the model at hand; a server of its own is for those who ask for the model itself.
    inside = ServerSettings(port=0, api_keys=(secrets.token_urlsafe(),), max_queue=options.server.max_queue)
    async with serving(engine_app(embedded, inside, names=names), inside) as url:
        await _serve_over(embedded, Endpoint(names[0], f"{url}/v1", inside.api_keys[0]), embedded.settings, options)
    return 0


async def _serve_over_vllm(options: ServeOptions) -> int:
    key = secrets.token_urlsafe()
    command = vllm_command(options, host="127.0.0.1", port=0, api_keys=(key,))
    served = command.served
    show_choices(command, quiet=options.quiet)
    with StartupLog("vLLM", quiet=options.quiet) as log:
        async with vllm_running(command, signals=signals_to_pass_on(), on_line=log.line) as server:
            try:
                await server.ready()
            except VllmEnded:
                return exit_status(server, log, ready=False)
            log.ready()
            server.heed_no_more()
            model: Any = connect(
                endpoint := Endpoint(served.name, command.url, key),
                interface="tokens",
                renderer=None if served.directory is None else CheckpointRenderer(served.directory),
                sampling=None if served.settings is None else Sampling.of(served.settings.sampling),
                **attempts(options.request_timeout),
            )
            model.settings = served.settings  # agents are prompted as the checkpoint says
            work = partial(_serve_over, model, endpoint, served.settings, options)
            if await race(work, server.ended.wait) is not LOST:
                return 0
        return exit_status(server, log, ready=True) or 1


async def _serve_over(
    model: Model, endpoint: Endpoint, settings: CheckpointSettings | None, options: ServeOptions
) -> None:
    """The agent over a model, whose own server is at `endpoint`."""
    trained_on = None if settings is None else settings.environment
    if trained_on is None and options.env_set:
        raise ConfigurationError("--env-set has no effect: the agent.json of this model names no environment")
    environment = None if settings is None or trained_on is None else own_environment(settings, options.env_set)
    limits = replace(Limits(), **options.limits)
    if environment is not None:
        limits = replace(ROLLOUT_LIMITS, **{"max_depth": environment.max_depth, **options.limits})
    try:
        with observing(options.otel) as observers:
            agent = Agent(model, limits=limits, trace_dir=options.trace_dir, observers=observers, **options.isolation)
            prepare = None if environment is None else partial(_attempt, environment, agent)
            if options.mcp == "stdio":
                await _serve_stdio(agent, endpoint.model, prepare, options)
                return
            approve = (
                None if options.approve is None else partial(Approve, timeout=_APPROVAL_SECONDS, **options.approve)
            )
            app = agent_app(
                agent,
                options.server,
                name=endpoint.model,
                prepare=prepare,
                upstream=endpoint,
                approve=approve,
                mcp=options.mcp == "http",
            )
            if options.mcp == "http" and not options.quiet:
                say("the MCP endpoint is the server's URL with /mcp in place of /v1")
            await _serve(app, f"{endpoint.model}-agent", options)
    finally:
        with anyio.CancelScope(shield=True):
            await model.aclose()


def _attempt(environment: Environment, agent: Agent, goal: str, seed: int | None) -> tuple[Agent, dict[str, Any]]:
    """For a model that only knows one environment: a goal as a task in its world `seed` (see `Prepare`)."""
    assignment = assign(environment, goal, seed or 0)
    task, session = assignment.task, assignment.session
    arguments = {"context": task.context, "returns": task.returns, "score": session.score}
    return agent.variant(tools=session.tools), arguments


async def _serve_stdio(agent: Agent, name: str, prepare: Any, options: ServeOptions) -> None:
    """The agent as an MCP server on stdin and stdout."""
    from rao_rl.serve.agent.stdio import serve_stdio

    await serve_stdio(
        agent,
        name=name,
        prepare=prepare,
        max_concurrency=options.server.max_concurrency,
        max_queue=options.server.max_queue,
        ready=None if options.quiet else lambda: say(f"{name} is ready as an MCP server on stdin and stdout"),
    )


async def _serve(app: FastAPI, name: str, options: ServeOptions) -> None:
    await serve(
        app,
        options.server,
        ready=lambda url: announce(f"{url}/v1", name, keys=bool(options.server.api_keys), quiet=options.quiet),
    )


def _embedded(options: ServeOptions) -> tuple[LocalModel, tuple[str, str]]:
    """The checkpoint in this process, and its names: its own and its directory."""
    folder = Path(options.checkpoint or "").resolve()
    if not folder.is_dir():
        raise ConfigurationError(
            f"{options.checkpoint}: there is no such directory; --engine embedded runs the directory of a model"
        )
    model = open_folder(folder, max_batch=options.max_batch)
    for note in [] if options.quiet else model.notes:
        say(f"{model.name} {note}")
    return model, (model.name, str(folder))
