"""`rao serve`: a checkpoint, or the recursive agent over it, behind an OpenAI-compatible API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from recursive_agent.errors import ConfigurationError

from ..approval import ServeApproveOption, parse_approve
from ..environments import EnvSetOption
from ..extras import needs
from ..folders import trace_dir as default_trace_dir
from ..isolation import RequireOption, SandboxOption, parse_require
from ..limits import (
    MaxAgentsOption,
    MaxDepthOption,
    MaxStepsOption,
    MaxTokensOption,
    TimeoutOption,
    chosen_limits,
)
from ..models import InterfaceOption, RequestTimeoutOption, attempts, endpoint_is_configured, refuse_idle
from ..serving.options import Engine, ServeOptions

if TYPE_CHECKING:
    from rao_rl.serve.http.settings import ServerSettings

_KEY = "RAO_API_KEY"
_MODEL = "Model"
_SERVER = "Server"
_VLLM = "vLLM"
_OWN = "Requests (--agent, --engine embedded)"


def serve(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Directory of a model, or the name of a model that vLLM can download.",
            show_default=False,
        ),
    ] = None,
    vllm_options: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- VLLM_OPTIONS", help="Options to pass to vLLM.", show_default=False),
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="Program that runs the model. embedded: rao itself, without vLLM; models that rao train did not write need "
            "PyTorch."
        ),
    ] = "vllm",
    agent: Annotated[
        bool,
        typer.Option("--agent", metavar="", help="Also serve the recursive agent, as the model NAME-agent."),
    ] = False,
    mcp: Annotated[
        bool,
        typer.Option(
            "--mcp",
            metavar="",
            help="Serve the agent as a tool of the MCP client that starts this command, on stdin and stdout; nothing listens.",
        ),
    ] = False,
    mcp_http: Annotated[
        bool,
        typer.Option(
            "--mcp-http", metavar="", help="Serve the agent as a tool of MCP clients too, at /mcp of the server."
        ),
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on; any but loopback requires a key.", rich_help_panel=_SERVER
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=65535, help="Port to listen on; 0: any free one.", rich_help_panel=_SERVER
        ),
    ] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Key that clients must send; repeat for several. Default: RAO_API_KEY.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    keep_alive: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="Time an idle connection is kept open; set it above the idle timeout of your proxy or load balancer. "
            "Default: 75.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", metavar="", help="Print the URL and errors only.", rich_help_panel=_SERVER),
    ] = False,
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="LoRA adapter (peft) to load with MODEL.", rich_help_panel=_VLLM),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Python interpreter that has vLLM. Default: RAO_VLLM_PYTHON, else this Python.",
            rich_help_panel=_VLLM,
        ),
    ] = None,
    weight_updates: Annotated[
        bool,
        typer.Option(
            "--weight-updates",
            metavar="",
            help="Let rao train --online push new weights while the server runs.",
            rich_help_panel=_VLLM,
        ),
    ] = False,
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Endpoint that already serves the model; replaces MODEL. Default: OPENAI_BASE_URL.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Model at --base-url: its name, or the directory that is served there. Default: RAO_MODEL.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    interface: InterfaceOption = "chat",
    request_timeout: RequestTimeoutOption = None,
    trace_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the agent's traces. Default: RAO_TRACE_DIR, else traces.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    max_concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Requests that may run at the same time. Default: 32.", rich_help_panel=_OWN
        ),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Answers that --engine embedded samples together. Default: 64, on a GPU 256.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Requests that may wait; further ones get status 429. Default: 256.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Time that running requests have to end after Ctrl-C or SIGTERM. Default: 30.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Web site whose pages may send requests (CORS); repeat for several, * for all.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    otel: Annotated[
        bool,
        typer.Option(
            "--otel",
            metavar="",
            help="Send the agent's runs as OpenTelemetry traces, as parts of the clients' (traceparent), to the collector that "
            "OTEL_EXPORTER_OTLP_ENDPOINT names.",
            rich_help_panel=_SERVER,
        ),
    ] = False,
    approve: ServeApproveOption = None,
    max_depth: MaxDepthOption = None,
    max_agents: MaxAgentsOption = None,
    max_steps: MaxStepsOption = None,
    max_tokens: MaxTokensOption = None,
    timeout: TimeoutOption = None,
    env_set: EnvSetOption = None,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
) -> None:
    """Serve a model, or the recursive agent over a model, as an OpenAI-compatible API.

    [bold]Examples[/]
      rao serve policy/ --port 8000 -- --max-num-seqs 64
      rao serve policy/ --engine embedded --agent
      rao serve --agent --base-url http://localhost:11434/v1 --model qwen3:8b
      rao serve --mcp --base-url http://localhost:11434/v1 --model qwen3:8b

    When the server is ready, it prints its URL on stdout. With --agent, each request
    starts a tree of agents with the options under Model, Limits and Sandbox; a
    request may lower these limits, not raise them.
    """
    more = vllm_options or []
    if checkpoint is not None and checkpoint.startswith("-"):
        more = [checkpoint, *more]
        checkpoint = None
    if more and not more[0].startswith("-"):
        raise ConfigurationError(f"rao serve takes one model; leave out {more[0]} (put options for vLLM after --)")
    agent = agent or mcp or mcp_http
    if mcp:
        _check_stdio(
            {"--mcp-http": mcp_http, "--port": port != 8000, "--host": host != "127.0.0.1", "--api-key": api_key}
            | {"--keep-alive": keep_alive, "--drain": drain, "--allowed-origin": allowed_origin, "--approve": approve}
        )
    limits = chosen_limits(
        max_depth=max_depth, max_agents=max_agents, max_steps=max_steps, max_tokens=max_tokens, timeout=timeout
    )
    endpoint = base_url is not None or (agent and checkpoint is None and endpoint_is_configured(model, None))
    _check(
        checkpoint,
        runs_vllm=engine == "vllm" and not endpoint,
        agent=agent,
        endpoint=endpoint,
        needs_vllm={
            "--adapter": adapter,
            "--python": python,
            "--weight-updates": weight_updates,
            "what follows --": more,
        },
        needs_agent={
            "--base-url": base_url,
            "--trace-dir": trace_dir,
            "--approve": approve,
            "--otel": otel,
            "--sandbox": sandbox != "process",
            "--require": require,
            "--request-timeout": request_timeout,
            "--env-set": env_set,
            **{f"--{name.replace('_', '-')}": True for name in limits},
        },
        needs_endpoint={"--model": model},
        own_servers={
            "--max-concurrency": max_concurrency,
            "--max-batch": max_batch,
            "--queue": queue,
            "--drain": drain,
            "--allowed-origin": allowed_origin or None,
        },
    )
    attempts(request_timeout)
    if agent and engine == "embedded" and not endpoint:
        refuse_idle(request_timeout)
    if agent and weight_updates:
        raise ConfigurationError("--weight-updates works only without --agent; leave out one of them")
    options = ServeOptions(
        checkpoint=checkpoint,
        adapter=adapter,
        engine=engine,
        agent=agent,
        mcp="stdio" if mcp else "http" if mcp_http else None,
        endpoint=endpoint,
        base_url=base_url,
        model=model,
        interface=interface,
        server=_server_settings(
            host=host,
            port=port,
            api_keys=tuple(api_key or _keys()),
            max_concurrency=max_concurrency if max_batch is None else max_concurrency or max(32, max_batch),
            max_queue=queue,
            drain_seconds=drain,
            keep_alive_seconds=keep_alive,
            allowed_origins=tuple(allowed_origin or ()) or None,
        ),
        keep_alive=keep_alive,
        python=python,
        weight_updates=weight_updates,
        trace_dir=default_trace_dir(trace_dir),
        limits=limits,
        approve=None if approve is None else parse_approve(approve),
        isolation={"sandbox": sandbox, "require": parse_require(require, sandbox)},
        env_set=tuple(env_set or ()),
        request_timeout=request_timeout,
        quiet=quiet,
        otel=otel,
        max_batch=max_batch,
        vllm_options=tuple(more),
    )
    raise typer.Exit(_run(options))


def _run(options: ServeOptions) -> int:
    """Serve until a signal comes; returns the exit status. Raises ConfigurationError for what cannot be served."""
    if options.engine == "vllm" and not options.agent:
        from ..serving.vllm import serve_vllm

        return anyio.run(serve_vllm, options)
    if options.mcp is not None:
        with needs("mcp,serve", "an MCP server"):
            import mcp.server  # noqa: F401
    with needs("serve", "this server"):
        from ..serving.apps import serve_agent, serve_embedded
    return anyio.run(serve_agent if options.agent else serve_embedded, options)


def _check_stdio(options: dict[str, Any]) -> None:
    """Raises ConfigurationError for options of a server that listens."""
    if idle := [name for name, value in options.items() if value]:
        raise ConfigurationError(f"{idle[0]} is for servers that listen; leave it out, or use --agent --mcp-http")


def _check(
    checkpoint: str | None,
    *,
    runs_vllm: bool,
    agent: bool,
    endpoint: bool,
    needs_vllm: dict[str, Any],
    needs_agent: dict[str, Any],
    needs_endpoint: dict[str, Any],
    own_servers: dict[str, Any],
) -> None:
    """Raises ConfigurationError for options that would do nothing."""

    def refuse(options: dict[str, Any], reason: str) -> None:
        if idle := [name for name, value in options.items() if value]:
            raise ConfigurationError(f"{idle[0]} {reason}")

    if not agent:
        refuse(needs_agent, "works only with --agent: add --agent, or leave it out")
    if not endpoint:
        refuse(needs_endpoint, "names the model at --base-url, so give --base-url too")
    if endpoint and checkpoint is not None:
        raise ConfigurationError("give either the model to start or the --base-url of a running server, not both")
    if not endpoint and checkpoint is None:
        raise ConfigurationError("say what to serve: rao serve MODEL, or rao serve --agent --base-url URL --model NAME")
    if not runs_vllm:
        refuse(needs_vllm, "belongs to vLLM, which is not started here; leave it out")
    elif not agent:
        set_here = {name: value is not None for name, value in own_servers.items()}
        refuse(
            set_here,
            "belongs to --agent and --engine embedded; vLLM has options of its own, which come after --",
        )


def _keys() -> list[str]:
    # vLLM's own variable too: a user who sets it relies on it.
    key = os.environ.get(_KEY) or os.environ.get("VLLM_API_KEY")
    return [key] if key else []


def _server_settings(**options: Any) -> ServerSettings:
    from rao_rl.serve.http.settings import ServerSettings, check_exposure

    if not str(options["host"]).strip():
        raise ConfigurationError("--host is empty; give 127.0.0.1, or 0.0.0.0 for all addresses of this machine")
    settings = ServerSettings(**{name: value for name, value in options.items() if value is not None})
    check_exposure(settings)
    return settings
