"""An agent for one MCP client that started this process: requests on stdin, answers on stdout, nothing else there."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from prometheus_client import CollectorRegistry

from recursive_agent import Agent, Limits
from recursive_agent.concurrency import race

from ..http.gate import Gate
from .mcp import agent_server
from .runs import Prepare, Runs
from .traces import Traces

_PIECE = 1 << 16
_MOST_BYTES = 64 << 20
"""Bytes of one message: the context of a goal may be large."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve_stdio(
    agent: Agent,
    *,
    name: str | None = None,
    ceilings: Limits | None = None,
    prepare: Prepare | None = None,
    max_concurrency: int = 32,
    max_queue: int = 256,
    ready: Callable[[], object] | None = None,
) -> None:
    """Serve `agent` until the client closes stdin, or a signal comes; then runs under way are cancelled and awaited.

    The arguments are those of `agent_app`. While it serves, what is printed goes to stderr.
    """
    runs = Runs(agent, ceilings=ceilings or agent.limits, prepare=prepare, registry=CollectorRegistry())
    gate = Gate(max_concurrency, max_queue)
    server = agent_server(
        name or agent.model_name, runs, gate, traces=Traces(agent.trace_dir), goal_only=prepare is not None
    )
    async with agent:
        await race(lambda: _serve(server, ready), _signalled)


async def _serve(server: Server[Any], ready: Callable[[], object] | None) -> None:
    private = os.dup(0)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)  # no child process may read what is meant for us
    os.close(nowhere)
    try:
        async with stdio_server(stdin=_Lines(private)) as (incoming, outgoing):  # type: ignore[arg-type]
            if ready is not None:
                ready()
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        os.dup2(private, 0)
        os.close(private)


async def _signalled() -> None:
    with anyio.open_signal_receiver(*_SIGNALS) as signals:
        async for _ in signals:
            return


class _Lines:
    """The lines of a descriptor, read without a thread, which no signal could end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aiter__(self) -> AsyncIterator[str]:
        rest = bytearray()
        while True:
            try:
                await anyio.wait_readable(self._descriptor)
            except PermissionError:  # a plain file, which is always ready
                await anyio.lowlevel.checkpoint()
            chunk = os.read(self._descriptor, _PIECE)
            if not chunk:
                return
            rest += chunk
            if b"\n" in chunk:
                *lines, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                for line in lines:
                    if line.strip():
                        yield line.decode("utf-8", "replace")
            if len(rest) > _MOST_BYTES:
                raise ValueError(f"a message on stdin has more than {_MOST_BYTES:,} bytes")
