"""`rao serve` with vLLM, which runs as a child process."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import suppress

from rao_rl.errors import VllmEnded
from rao_rl.serve.vllm.command import Served, Vllm, VllmCommand
from rao_rl.serve.vllm.process import VllmServer, vllm_running

from ..text import clean
from .options import ServeOptions
from .ready import announce, free_port
from .startup import StartupLog


async def serve_vllm(options: ServeOptions) -> int:
    """Serve a model until a signal comes or vLLM ends; returns the exit status. Raises ConfigurationError."""
    server_settings = options.server
    command = vllm_command(
        options, host=server_settings.host, port=server_settings.port, api_keys=server_settings.api_keys
    )
    ready = False
    show_choices(command, quiet=options.quiet)
    with StartupLog("vLLM", quiet=options.quiet) as log:
        async with vllm_running(command, signals=signals_to_pass_on(), on_line=log.line) as server:
            try:
                await server.ready()
            except VllmEnded:
                pass
            else:
                ready = True
                log.ready()
                served = command.served
                folder = served.directory
                readable = served.adapter is None and folder is not None and (folder / "tokenizer.json").is_file()
                announce(
                    command.url,
                    # `rao run` reads from the directory how the model is prompted; all others may call it so, too.
                    served.model if readable else served.name,
                    keys=bool(server_settings.api_keys),
                    quiet=options.quiet,
                    about=["vLLM runs as", f"  {command}\n"],
                )
                await server.ended.wait()
        return exit_status(server, log, ready=ready)


def vllm_command(options: ServeOptions, *, host: str, port: int, api_keys: tuple[str, ...]) -> VllmCommand:
    """The command that starts vLLM. Raises ConfigurationError."""
    assert options.checkpoint is not None
    served = Served.find(options.checkpoint, options.adapter)
    return VllmCommand(
        vllm=Vllm.find(options.python),
        served=served,
        host=host,
        port=free_port(host, port),
        api_keys=api_keys,
        keep_alive=options.keep_alive,
        weight_updates=options.weight_updates,
        more=options.vllm_options,
    )


def show_choices(command: VllmCommand, *, quiet: bool) -> None:
    """Say on stderr which options vLLM gets because it runs on a CPU, and why. Raises ConfigurationError."""
    command.start()  # settings that cannot be are refused before anything is said
    if quiet or not command.choices:
        return
    lines = ["vLLM runs on a CPU here (options after -- take the place of these):"]
    lines += [f"  {shlex.join(choice.options) or 'note'}: {choice.reason}" for choice in command.choices]
    with suppress(OSError):
        print(f"rao: {clean(chr(10).join(lines))}", file=sys.stderr, flush=True)


def signals_to_pass_on() -> list[signal.Signals]:
    """The signals that vLLM gets from us. Where SIGHUP is ignored (`nohup`) it stays so."""
    ends = [signal.SIGINT, signal.SIGTERM]
    return ends if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [*ends, signal.SIGHUP]


def exit_status(server: VllmServer, log: StartupLog, *, ready: bool) -> int:
    """The exit status of a vLLM that has ended; if no signal asked it to end, show its last lines."""
    if not server.signals:
        log.ended(server.status, list(server.lines), before_ready=not ready)
    return server.status
