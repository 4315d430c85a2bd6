"""The MCP servers of an agent: held open, and what agents get of them. The package `mcp` is imported only if there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..tools import Tool
from .server import MCPServer

if TYPE_CHECKING:
    from .connection import Connection


def split_tools(tools: Iterable[Any]) -> tuple[Iterable[Callable[..., Any]], tuple[MCPServer, ...]]:
    """Functions and servers apart. Raises ConfigurationError where servers cannot be used."""
    if isinstance(tools, str | Mapping) or not isinstance(tools, Iterable):
        return tools, ()  # type: ignore[return-value]  # `tool_set` says what is wrong
    listed = list(tools)
    servers = tuple(each for each in listed if isinstance(each, MCPServer))
    if servers and find_spec("mcp") is None:
        raise ConfigurationError("tools of MCP servers need the package mcp: pip install 'rao[mcp]'")
    if MCPServer in listed:
        raise ConfigurationError(
            "tools has MCPServer itself: write MCPServer.stdio(command, args) or MCPServer.http(url)"
        )
    if len({server.name for server in servers}) < len(servers):
        raise ConfigurationError("two MCP servers have one name; give them names of their own: name='...'")
    return [each for each in listed if not isinstance(each, MCPServer)], servers


class Connected:
    """The servers that an agent holds open."""

    def __init__(self) -> None:
        self._connections: dict[MCPServer, Connection] = {}

    async def connect(self, stack: AsyncExitStack, servers: Sequence[MCPServer]) -> None:
        """Connect to servers, until the stack is closed. Raises ConfigurationError, ToolServerError."""
        if servers:
            from .toolbox import connected

            self._connections |= await stack.enter_async_context(connected(servers))

    async def toolbox(
        self, stack: AsyncExitStack, functions: Mapping[str, Tool], servers: Sequence[MCPServer]
    ) -> Mapping[str, Tool]:
        """The tools of one run. Servers that are not open yet (those of a variant) are opened for the run."""
        from .toolbox import Toolbox

        own = Connected()
        await own.connect(stack, [server for server in servers if server not in self._connections])
        there = self._connections | own._connections
        tools = Toolbox(functions, [there[server] for server in servers])
        stack.callback(tools.detach)
        return tools
