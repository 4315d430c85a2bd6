"""A server as a process: its standard input and output as the streams of a session, bounded, and never left behind.

The official package has such a transport too. This one also bounds the size of a message, keeps the last lines that the
server wrote to stderr for error messages, and ends the server when this program is killed.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from mcp import types
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage

from ..errors import ConfigurationError
from .server import MCPServer
from .texts import words

_log = logging.getLogger("recursive_agent.mcp")
_GUARD = Path(__file__).with_name("guard.py")
_PATIENCE = 1.0
"""Seconds that a server has to end after its input has, and again after SIGTERM."""
_SEEN = 65_536
_LAST_LINES = 6
_LINE = 300
_ID = re.compile(rb'"id"\s*:\s*(\d{1,15})')
_HEAD = 1_024
"""Bytes of a message that is too large in which its id is looked for."""


class StdioLog:
    """What is known of a server's process beside its messages."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        """Set when the server says nothing more."""
        self.status: int | None = None
        """Its exit status, once it has ended."""
        self.garbage: str | None = None
        """The first line on its standard output that was no message."""
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)

    def wrote(self, line: bytes) -> None:
        """A line of its standard error."""
        text = words(line.decode("utf-8", "replace"), _LINE)
        if text:
            self._lines.append(text)
            _log.debug("%s", text)

    def __str__(self) -> str:
        parts = []
        if self.status is not None:
            parts.append(
                f"it ended with exit status {self.status}"
                if self.status >= 0
                else f"it was ended by signal {-self.status}"
            )
        if self.garbage is not None:
            parts.append(f"it wrote {self.garbage!r} to its standard output, which is no message of the protocol")
        if self._lines:
            parts.append(f"the last lines of its stderr: {' / '.join(self._lines)}")
        return "; ".join(parts)


def check_command(server: MCPServer) -> None:
    """Raises ConfigurationError where the command of a server cannot be run."""
    path = server.env.get("PATH", os.environ.get("PATH"))
    if server.cwd is not None and not Path(server.cwd).is_dir():
        raise ConfigurationError(
            f"the MCP server {server.name!r} is to run in {server.cwd}, and there is no such folder: correct cwd"
        )
    command = Path(server.cwd or "", server.command) if os.sep in server.command else server.command
    if shutil.which(command, path=path) is None:
        raise ConfigurationError(
            f"the MCP server {server.name!r} cannot be started: the command {server.command!r} was not found; install it, "
            "or give its full path"
        )


@asynccontextmanager
async def stdio_streams(server: MCPServer, log: StdioLog) -> AsyncIterator[tuple[Any, Any]]:
    """The process of a server, as the streams that a session reads and writes; ended with the block, whatever happens."""
    check_command(server)
    from_server, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, to_server = anyio.create_memory_object_stream[SessionMessage](0)
    errors, written = os.pipe()
    process: Process | None = None
    try:
        os.set_blocking(errors, False)
        try:
            process = await anyio.open_process(
                [sys.executable, "-I", "-S", str(_GUARD), server.command, *server.args],
                env=get_default_environment() | dict(server.env),
                cwd=server.cwd,
                stderr=written,
                start_new_session=True,
            )
        finally:
            os.close(written)
        most = int(server.max_message_mb * 1024**2)
        async with anyio.create_task_group() as tasks, from_server, incoming, outgoing, to_server:
            tasks.start_soon(_read_errors, errors, log)
            tasks.start_soon(_read, process, from_server, log, most)
            tasks.start_soon(_write, process, to_server, from_server)
            try:
                yield incoming, outgoing
            finally:
                with anyio.CancelScope(shield=True):
                    incoming.close()
                    await _stop(process)
                    log.status = process.returncode
                tasks.cancel_scope.cancel()
    finally:
        if process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await process.aclose()
        os.close(errors)


async def _read(process: Process, sink: Any, log: StdioLog, most: int) -> None:
    """Pass the server's messages on, until it closes its output. A message that is too large becomes an error."""
    assert process.stdout is not None
    line, size, head = bytearray(), 0, b""
    async with sink:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream):
            while True:
                chunk = await process.stdout.receive(_SEEN)
                while chunk:
                    part, newline, chunk = chunk.partition(b"\n")
                    size += len(part)
                    if size <= most:
                        line += part
                    elif line:
                        head = bytes(line[:_HEAD])
                        line.clear()
                    if newline:
                        message = _message(bytes(line), log) if size <= most else _too_large(head, size, log)
                        line, size = bytearray(), 0
                        if message is not None:
                            await sink.send(message)
        with anyio.move_on_after(_PATIENCE):  # its status says more than that its output has ended
            log.status = await process.wait()
    log.ended.set()


def _message(line: bytes, log: StdioLog) -> SessionMessage | None:
    if not line.strip():
        return None
    try:
        return SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        if log.garbage is None:
            log.garbage = words(line[:_LINE].decode("utf-8", "replace"), 120)
        return None


def _too_large(head: bytes, size: int, log: StdioLog) -> SessionMessage | None:
    found = _ID.search(head)
    if found is None:
        _log.warning("an MCP server sent a message of %s bytes, which is not read", f"{size:,}")
        return None
    error = types.ErrorData(
        code=types.INTERNAL_ERROR,
        message=f"the answer has {size:,} bytes, more than max_message_mb allows: ask for less",
    )
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=int(found[1]), error=error))


async def _write(process: Process, source: Any, incoming: Any) -> None:
    """Send the session's messages, until it ends or the server takes no more."""
    assert process.stdin is not None
    try:
        async for message in source:
            await process.stdin.send(
                message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
            )
    except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        await incoming.aclose()


async def _read_errors(pipe: int, log: StdioLog) -> None:
    rest = b""
    while True:
        await anyio.wait_readable(pipe)
        try:
            chunk = os.read(pipe, _SEEN)
        except BlockingIOError:
            continue
        if not chunk:
            return
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[:_SEEN]
        for line in whole:
            log.wrote(line)


async def _stop(process: Process) -> None:
    """Close the server's input, and end it with all that it started if that is not enough."""
    assert process.stdin is not None
    with anyio.move_on_after(_PATIENCE), suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        with anyio.move_on_after(_PATIENCE):
            await process.wait()
            return
