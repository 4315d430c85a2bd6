"""A server held open for a run: one connection that all agents use, opened again if the server ends."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import Client, MCPError, types

from .._version import __version__
from ..concurrency import race, the_cause
from ..errors import ConfigurationError, ToolServerError, described
from ..tools import ToolFailed
from ..trace.redact import Redactor
from .http import http_streams
from .server import MCPServer
from .stdio import StdioLog, stdio_streams
from .texts import lines

_log = logging.getLogger("recursive_agent.mcp")
_MOST_PAGES = 100
_MOST_TOOLS = 1_000
_MOST_PAUSE = 30.0
"""Seconds until a server that could not be started again is tried once more."""
_MODERN = "2026"
_CLOSE_SECONDS = 3.0
_SESSION_LOST = "Session terminated"


class Connection:
    """The connection to one server. `run` holds it, in a task of its own; agents `call` from theirs."""

    def __init__(self, server: MCPServer) -> None:
        self.server = server
        self.origin = server.name
        self.redactor = Redactor(server.secrets)
        self.tools: list[types.Tool] = []
        """What the server offers, as far as `server` takes it."""
        self.listeners: list[Callable[[], None]] = []
        """Called when `tools` has changed."""
        self._client: Client | None = None
        self._needed = anyio.Event()
        self._pending = False
        """Whether somebody waits for a connection that is not there yet."""
        self._settled = anyio.Event()
        """Set when the attempt that is waited for has come to an end: connected, or not."""
        self._over = anyio.Event()
        """Set to end the connection."""
        self._closed = anyio.Event()
        """Set when it has ended, and all that is known of its end is there."""
        self._relist = anyio.Event()
        self._leaving = False
        self._held = False
        """Whether the connection of now, or the last one, was there."""
        self._failure: Exception | None = None
        self._failures = 0
        self._not_before = 0.0
        self._process = StdioLog()

    # -- held -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect whenever somebody needs that, until `close` or cancelled."""
        while True:
            await self._needed.wait()
            if self._leaving:
                return
            self._needed, self._over, self._closed = anyio.Event(), anyio.Event(), anyio.Event()
            self._process, self._failure = StdioLog(), None
            self._held = False
            try:
                await self._hold()
            except Exception as error:
                cause = the_cause(error) if isinstance(error, BaseExceptionGroup) else error
                self._failure = cause if isinstance(cause, Exception) else error
            finally:
                self._client = None
                self._closed.set()
                if not self._held:
                    self._failures += 1
                    pause = min(2.0 ** (self._failures - 1), _MOST_PAUSE) if self._failures > 1 else 0.0
                    self._not_before = anyio.current_time() + pause
                    self._settle()

    def close(self) -> None:
        """End the connection, and `run`."""
        self._leaving = True
        self._over.set()
        self._needed.set()

    def _settle(self) -> None:
        self._pending = False
        self._settled.set()

    async def _hold(self) -> None:
        """Connect, and stay connected until the connection is over. Raises what went wrong while connecting."""
        seconds, process = self.server.connect_timeout, self._process
        with anyio.CancelScope(deadline=anyio.current_time() + seconds) as scope:
            client = Client(
                _Streams(self._streams()),
                message_handler=self._received,
                client_info=types.Implementation(name="rao", version=__version__),
                cache=None,
            )
            async with client:
                self.tools = await self._listed(client)
                scope.deadline = math.inf
                self._client, self._failures, self._held = client, 0, True
                self._settle()
                self._changed()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._follow, client)
                    await race(self._over.wait, process.ended.wait)
                    self._client = None
                    tasks.cancel_scope.cancel()
        if scope.cancelled_caught and not self._held:
            raise ToolServerError(
                f"the MCP server {self.server.name!r} ({self.server.place}) was not ready after {seconds:g} seconds"
                f"{self._known()}; is it the right command or URL? If it only starts slowly, set connect_timeout"
            )

    def _changed(self) -> None:
        for listener in list(self.listeners):
            listener()

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[tuple[Any, Any]]:
        opened = (
            stdio_streams(self.server, self._process) if self.server.transport == "stdio" else http_streams(self.server)
        )
        async with opened as streams:
            yield streams

    async def _listed(self, client: Client) -> list[types.Tool]:
        tools: dict[str, types.Tool] = {}
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools.update({tool.name: tool for tool in page.tools if self.server.takes(tool.name)})
            cursor = page.next_cursor
            if cursor is None or len(tools) > _MOST_TOOLS:
                break
        return list(tools.values())[:_MOST_TOOLS]

    async def _received(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._relist.set()

    async def _follow(self, client: Client) -> None:
        """Keep `tools` what the server offers, where it says that this changes."""
        offered = client.server_capabilities.tools
        if offered is None or not offered.list_changed:
            return
        async with anyio.create_task_group() as tasks:
            if client.protocol_version.startswith(_MODERN):
                tasks.start_soon(self._listen, client)
            while True:
                await self._relist.wait()
                self._relist = anyio.Event()
                try:
                    self.tools = await self._listed(client)
                except Exception as error:
                    _log.warning(
                        "the changed tools of the MCP server %s cannot be read: %s", self.origin, self._said(error)
                    )
                else:
                    self._changed()

    async def _listen(self, client: Client) -> None:
        try:
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._relist.set()
        except Exception as error:  # such a server changes its tools unnoticed
            _log.debug("the MCP server %s does not tell of changes: %s", self.origin, self._said(error))

    # -- used -----------------------------------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait until it is connected. Raises ConfigurationError or ToolServerError with what to do."""
        await self._connected()
        if self._client is not None:
            return
        error = self._failure
        if isinstance(error, ConfigurationError | ToolServerError):
            raise error
        where = f"the MCP server {self.server.name!r} ({self.server.place})"
        if self.server.transport == "stdio":
            raise ToolServerError(
                f"{where} did not start{self._known()}; run its command by hand to see what is wrong: it must speak MCP over "
                f"stdin and stdout ({self._said(error)})"
            ) from error
        raise ToolServerError(
            f"{where} cannot be reached ({self._said(error)}); is it running, and is this the URL of its MCP endpoint?"
        ) from error

    async def call(self, tool: str, arguments: dict[str, Any], shown: str) -> types.CallToolResult:
        """Call a tool. Raises ToolFailed for whatever goes wrong, which costs this call alone."""
        for again in (True, False):
            try:
                return await self._call(tool, arguments, shown)
            except _NotCarriedOut:
                if not again:
                    raise ToolFailed(
                        f"{shown}() got no answer: its MCP server {self.origin} ends every session"
                    ) from None
        raise AssertionError

    async def _call(self, tool: str, arguments: dict[str, Any], shown: str) -> types.CallToolResult:
        await self._connected()
        client = self._client
        if client is None:
            raise ToolFailed(
                f"{shown}() cannot be called: its MCP server {self.origin} does not run{self._known(self._failure)}"
            )
        timeout = self.server.timeout
        try:
            with anyio.fail_after(timeout):
                return await client.call_tool(tool, arguments)
        except TimeoutError:
            raise ToolFailed(f"{shown}() gave no answer within {timeout or 0:g} seconds") from None
        except MCPError as error:
            if error.message == _SESSION_LOST:  # a server that was started anew does not know us, and did nothing
                await self._ended(client)
                raise _NotCarriedOut from None
            if error.code != types.CONNECTION_CLOSED:
                raise ToolFailed(f"{shown}() failed: {self._said(error)}") from None
            failure: Exception = error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, ConnectionError) as error:
            failure = error
        except Exception as error:  # an answer that is none, say: the library's own checks
            if self._client is client:
                raise ToolFailed(f"{shown}() gave an answer that cannot be used: {self._said(error)}") from None
            failure = error
        await self._ended(client)
        raise ToolFailed(
            f"{shown}() got no answer: the connection to its MCP server {self.origin} ended{self._known(failure)}. The call "
            "may have been carried out. The next call connects again"
        )

    async def _connected(self) -> None:
        """Wait for a connection, or for the attempt to get one to fail."""
        if self._client is not None or (self._failure is not None and anyio.current_time() < self._not_before):
            return
        if not self._pending:
            self._pending, self._settled = True, anyio.Event()
            self._needed.set()
        await self._settled.wait()

    async def _ended(self, client: Client) -> None:
        """Leave a connection that is of no more use; wait until what is known of its end is there."""
        if self._client is client:
            self._client = None
            self._over.set()
        with anyio.move_on_after(_CLOSE_SECONDS):
            await self._closed.wait()

    def _known(self, error: Exception | None = None) -> str:
        """What is known of the server's end, as a part of a sentence."""
        told = str(self._process) or ("" if error is None else self._said(error))
        return f" ({self.redactor.text(told)})" if told else ""

    def _said(self, error: Exception | None) -> str:
        if error is None:
            return "no reason is known"
        text = error.message if isinstance(error, MCPError) else described(error)
        return self.redactor.text(lines(text, 600, 6)).replace("\n", " ")


class _NotCarriedOut(Exception):
    """A call that did not reach its server."""


class _Streams:
    """A context manager of streams, in the shape of the package's transports."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    async def __aenter__(self) -> tuple[Any, Any]:
        streams: tuple[Any, Any] = await self._opened.__aenter__()
        return streams

    async def __aexit__(self, *exc: Any) -> Any:
        return await self._opened.__aexit__(*exc)
