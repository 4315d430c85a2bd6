"""What `rao serve` runs: vLLM as a child process, and servers of our own (`serving_apps`)."""

from __future__ import annotations

import shlex
import signal
import socket
import sys
from typing import TYPE_CHECKING

import anyio

from rao_rl.serve.vllm import VllmEnded, VllmServer, vllm_running
from rao_rl.serve.vllm_command import Served, Vllm, VllmCommand
from recursive_agent.errors import ConfigurationError

from .startup import StartupLog
from .text import clean

if TYPE_CHECKING:
    from .serve import Wanted

NEEDS = "this needs more packages: pip install 'rao[serve]'"


def run(wanted: Wanted) -> int:
    """Serve until told to stop; the exit status. Raises ConfigurationError for what cannot be served."""
    if wanted.engine == "vllm" and not wanted.agent:
        return anyio.run(_serve_vllm, wanted)
    try:
        from . import serving_apps
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{NEEDS} ({error.name} is missing)") from error
    return anyio.run(serving_apps.serve_agent if wanted.agent else serving_apps.serve_embedded, wanted)


def announce(url: str, model: str, wanted: Wanted, command: VllmCommand | None = None) -> None:
    """Say that the server is ready: its URL, which ends in /v1, on stdout, and on stderr how it is used."""
    if not wanted.quiet:
        lines = [] if command is None else [f"vLLM runs as\n  {command}\n"]
        lines += ["point an application at it with", f"  export OPENAI_BASE_URL={shlex.quote(url)}"]
        lines += [f"  export RAO_MODEL={shlex.quote(model)}"]
        if wanted.settings.api_keys:
            lines += ["  export OPENAI_API_KEY=…   (a key of the server)"]
        print(f"\nrao: {clean(chr(10).join(lines))}\n", file=sys.stderr, flush=True)
    print(url, flush=True)


def vllm_command(wanted: Wanted, *, host: str, port: int, api_keys: tuple[str, ...]) -> VllmCommand:
    """How vLLM is started for what is wanted. Raises ConfigurationError."""
    assert wanted.checkpoint is not None
    served = Served.find(wanted.checkpoint, wanted.adapter)
    return VllmCommand(
        vllm=Vllm.find(wanted.python),
        served=served,
        host=host,
        port=free_port(host, port),
        api_keys=api_keys,
        weight_updates=wanted.weight_updates,
        more=wanted.more,
    )


def heeded() -> list[signal.Signals]:
    """The signals that are passed on to vLLM. Where SIGHUP is ignored (`nohup`) it stays so."""
    ends = [signal.SIGINT, signal.SIGTERM]
    return ends if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [*ends, signal.SIGHUP]


async def _serve_vllm(wanted: Wanted) -> int:
    settings = wanted.settings
    command = vllm_command(wanted, host=settings.host, port=settings.port, api_keys=settings.api_keys)
    ready = False
    with StartupLog("vLLM", quiet=wanted.quiet) as log:
        async with vllm_running(command, signals=heeded(), on_line=log.line) as server:
            try:
                await server.ready()
            except VllmEnded:
                pass
            else:
                ready = True
                log.ready()
                served = command.served
                ours = served.settings is not None and served.adapter is None
                # `rao run` reads from the directory how the model is prompted; all others may call it so, too.
                announce(command.url, served.model if ours else served.name, wanted, command)
                await server.ended.wait()
        return end(server, log, ready=ready)


def end(server: VllmServer, log: StartupLog, *, ready: bool) -> int:
    """The exit status of a vLLM that has ended; where nobody told it to, its last words are shown."""
    if not server.told:
        log.ended(server.status, list(server.lines), before_ready=not ready)
    return server.status


def free_port(host: str, port: int) -> int:
    """`port`, or a free one where that is 0. Raises ConfigurationError where it cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return int(trial.getsockname()[1])
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({error.strerror}); choose another host or port."
        ) from None
