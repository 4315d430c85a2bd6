"""`rao serve`: a checkpoint, or the recursive agent over it, behind an OpenAI-compatible API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from recursive_agent.errors import ConfigurationError
from recursive_agent.limits import Limits

from .isolation import RequireOption, SandboxOption, parse_require
from .models import attempts, endpoint_is_configured, refuse_idle

if TYPE_CHECKING:
    from rao_rl.serve.settings import ServerSettings

KEYS = "RAO_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be served, and how; options of the command line that have been checked."""

    checkpoint: str | None
    adapter: Path | None
    engine: Literal["vllm", "embedded"]
    agent: bool
    endpoint: bool
    """Whether the model runs already, at `base_url` or where the environment says."""
    base_url: str | None
    model: str | None
    interface: Literal["chat", "tokens"]
    settings: ServerSettings
    python: str | None
    weight_updates: bool
    trace_dir: Path | None
    limits: dict[str, Any]
    isolation: dict[str, Any]
    """The agent's `sandbox` and `require`."""
    request_timeout: float | None
    quiet: bool
    more: tuple[str, ...]


def serve(
    checkpoint: Annotated[str | None, typer.Argument(metavar="CHECKPOINT", hidden=True)] = None,
    more: Annotated[list[str] | None, typer.Argument(metavar="-- VLLM OPTIONS", hidden=True)] = None,
    engine: Annotated[str, typer.Option(help="vllm, or embedded (small policies).", metavar="KIND")] = "vllm",
    adapter: Annotated[Path | None, typer.Option(help="A LoRA of peft on CHECKPOINT.", metavar="DIR")] = None,
    agent: Annotated[bool, typer.Option("--agent", help="Serve the recursive agent over it.")] = False,
    base_url: Annotated[
        str | None, typer.Option(help="Where the model of --agent runs already.", metavar="URL")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Its name there [RAO_MODEL].", metavar="NAME")] = None,
    interface: Annotated[str, typer.Option(help="How it is talked to.", metavar="KIND", hidden=True)] = "chat",
    host: Annotated[str, typer.Option(help="Address to listen on.", metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.", metavar="N")] = 8000,
    api_key: Annotated[list[str] | None, typer.Option(help=f"Clients need it (repeat) [{KEYS}].", metavar="K")] = None,
    python: Annotated[str | None, typer.Option(help="Interpreter with vLLM [RAO_VLLM_PYTHON].", metavar="PATH")] = None,
    weight_updates: Annotated[bool, typer.Option("--weight-updates", help="Let a trainer push weights.")] = False,
    trace_dir: Annotated[Path | None, typer.Option(help="Where the agent's traces go.", metavar="DIR")] = None,
    max_concurrency: Annotated[int | None, typer.Option(help="Requests at a time.", metavar="N")] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(help="Web pages that may ask (CORS; repeat; *: all).", metavar="URL"),
    ] = None,
    queue: Annotated[int | None, typer.Option(help="Requests that may wait.", metavar="N", hidden=True)] = None,
    max_depth: Annotated[int | None, typer.Option(hidden=True)] = None,
    max_agents: Annotated[int | None, typer.Option(help="Ceiling of a request: agents.", metavar="N")] = None,
    max_steps: Annotated[int | None, typer.Option(hidden=True)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Ceiling of a request: tokens.", metavar="N")] = None,
    timeout: Annotated[float | None, typer.Option(help="Ceiling of a request: seconds.", metavar="S")] = None,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
    request_timeout: Annotated[
        float | None, typer.Option(help="For one attempt at an answer.", metavar="S", hidden=True)
    ] = None,
    drain: Annotated[float | None, typer.Option(hidden=True)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", hidden=True)] = False,
) -> None:
    """Serve a checkpoint as an OpenAI-compatible API; options after -- are vLLM's.

    rao serve policy/ --port 8000 -- --max-num-seqs 64
    """
    more = more or []
    if checkpoint is not None and checkpoint.startswith("-"):
        more = [checkpoint, *more]
        checkpoint = None
    if more and not more[0].startswith("-"):
        raise ConfigurationError(f"one checkpoint can be served; {more[0]} is one too many (options of vLLM follow --)")
    given = {
        "max_depth": max_depth,
        "max_agents": max_agents,
        "max_steps": max_steps,
        "max_tokens": max_tokens,
        "timeout": timeout,
    }
    limits: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    Limits(**limits)  # raises where one makes no sense, before anything is started
    if interface not in ("chat", "tokens"):
        raise ConfigurationError(f"--interface is chat or tokens, not {interface!r}")
    if engine not in ("vllm", "embedded"):
        raise ConfigurationError(f"--engine is vllm or embedded, not {engine!r}")
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
            "--sandbox": sandbox != "process",
            "--require": require,
            "--request-timeout": request_timeout,
            **{f"--{name.replace('_', '-')}": value for name, value in limits.items()},
        },
        needs_endpoint={"--model": model},
        ours={
            "--max-concurrency": max_concurrency,
            "--queue": queue,
            "--drain": drain,
            "--allowed-origin": allowed_origin or None,
        },
    )
    attempts(request_timeout)
    if agent and engine == "embedded" and not endpoint:
        refuse_idle(request_timeout)
    if agent and weight_updates:
        raise ConfigurationError("--weight-updates is for a model that is trained, so leave --agent out")
    wanted = Wanted(
        checkpoint=checkpoint,
        adapter=adapter,
        engine="embedded" if engine == "embedded" else "vllm",
        agent=agent,
        endpoint=endpoint,
        base_url=base_url,
        model=model,
        interface="tokens" if interface == "tokens" else "chat",
        settings=_settings(
            host=host,
            port=port,
            api_keys=tuple(api_key or _keys()),
            max_concurrency=max_concurrency,
            max_queue=queue,
            drain_seconds=drain,
            allowed_origins=tuple(origin.rstrip("/") for origin in allowed_origin or ()) or None,
        ),
        python=python,
        weight_updates=weight_updates,
        trace_dir=trace_dir,
        limits=limits,
        isolation={"sandbox": sandbox, "require": parse_require(require, sandbox)},
        request_timeout=request_timeout,
        quiet=quiet,
        more=tuple(more),
    )
    from .serving import run

    raise typer.Exit(run(wanted))


def _check(
    checkpoint: str | None,
    *,
    runs_vllm: bool,
    agent: bool,
    endpoint: bool,
    needs_vllm: dict[str, Any],
    needs_agent: dict[str, Any],
    needs_endpoint: dict[str, Any],
    ours: dict[str, Any],
) -> None:
    """Raises ConfigurationError for options that would do nothing."""

    def refuse(options: dict[str, Any], reason: str) -> None:
        if idle := [name for name, value in options.items() if value]:
            raise ConfigurationError(f"{idle[0]} {reason}")

    if not agent:
        refuse(needs_agent, "belongs to --agent")
    if not endpoint:
        refuse(needs_endpoint, "names the model at --base-url")
    if endpoint and checkpoint is not None:
        raise ConfigurationError("give a checkpoint or the --base-url of a model that already runs, not both")
    if not endpoint and checkpoint is None:
        raise ConfigurationError(
            "say what to serve: rao serve CHECKPOINT, or rao serve --agent --base-url URL --model NAME"
        )
    if not runs_vllm:
        refuse(needs_vllm, "belongs to vLLM, which is not started here")
    elif not agent:
        set_here = {name: value is not None for name, value in ours.items()}
        refuse(set_here, "is of rao's own servers (--agent, --engine embedded); vLLM has options of its own, after --")


def _keys() -> list[str]:
    # vLLM's own variable too: whoever sets it relies on it.
    key = os.environ.get(KEYS) or os.environ.get("VLLM_API_KEY")
    return [key] if key else []


def _settings(**given: Any) -> ServerSettings:
    from rao_rl.serve.settings import ServerSettings, check_exposure

    if not str(given["host"]).strip():
        raise ConfigurationError("--host is empty; give 127.0.0.1, or 0.0.0.0 for all addresses of this machine")
    settings = ServerSettings(**{name: value for name, value in given.items() if value is not None})
    check_exposure(settings)
    return settings
