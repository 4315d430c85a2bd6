"""The tools of a run: the caller's functions, and what the MCP servers offer at the moment."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
from mcp import types

from ..concurrency import task_group
from ..tools import RESERVED, Tool
from .connection import Connection
from .described import identifier
from .server import MCPServer
from .tool import RemoteTool

_log = logging.getLogger("recursive_agent.mcp")
_CLOSE_SECONDS = 5.0
_MANY = 40
"""Tools of servers from which on prompts say little of each."""


@asynccontextmanager
async def connected(servers: Sequence[MCPServer]) -> AsyncIterator[dict[MCPServer, Connection]]:
    """Connections to all servers, open while the block lasts. Raises ConfigurationError, ToolServerError."""
    connections = [Connection(server) for server in servers]
    async with task_group() as holders:
        try:
            for connection in connections:
                holders.start_soon(connection.run)
            async with task_group() as openings:
                for connection in connections:
                    openings.start_soon(connection.opened)
            yield dict(zip(servers, connections, strict=True))
        except BaseException:
            holders.cancel_scope.cancel()
            raise
        for connection in connections:
            connection.close()
        holders.cancel_scope.deadline = anyio.current_time() + _CLOSE_SECONDS


class Toolbox(Mapping[str, Tool]):
    """Tools by name. It lists what there is now; a tool that a server has withdrawn can still be looked up, and says so.

    Names that several servers use, or a function has, are preceded by the server's name.
    """

    def __init__(self, functions: Mapping[str, Tool], connections: Sequence[Connection]) -> None:
        self._functions = functions
        self._connections = connections
        self._names: dict[tuple[int, str], str] = {}
        """Of connection and the server's name for a tool: the name that agents use, for the whole run."""
        self._current: dict[str, Tool] = {}
        self._all: dict[str, Tool] = {}
        for connection in connections:
            connection.listeners.append(self.refresh)
        self.refresh()

    def detach(self) -> None:
        """Follow the servers no more."""
        for connection in self._connections:
            connection.listeners.remove(self.refresh)

    def refresh(self) -> None:
        """Take in what the servers offer now."""
        offered = [(at, each, tool) for at, each in enumerate(self._connections) for tool in each.tools]
        self._name(offered)
        brief = len(offered) > _MANY
        current = dict(self._functions)
        for at, connection, tool in offered:
            name = self._names[at, tool.name]
            current[name] = RemoteTool(connection, tool, name, brief=brief)
        self._current = current
        self._all = {**self._all, **current}

    def _name(self, offered: Sequence[tuple[int, Connection, types.Tool]]) -> None:
        wished = {
            (at, tool.name): identifier(f"{each.server.prefix}{tool.name}", RESERVED) for at, each, tool in offered
        }
        several = Counter(wished.values())
        taken = {*self._functions, *self._names.values()}
        for key, name in wished.items():
            if key in self._names:
                continue
            if several[name] > 1 or name in taken:
                name = identifier(f"{self._connections[key[0]].server.name}_{name}", RESERVED)
                base, number = name, 1
                while name in taken:
                    number += 1
                    name = f"{base}_{number}"
                _log.debug("the tool %s of the MCP server %s is called %s", key[1], key[0], name)
            taken.add(name)
            self._names[key] = name

    def __getitem__(self, name: str) -> Tool:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current)

    def __len__(self) -> int:
        return len(self._current)

    def __contains__(self, name: object) -> bool:
        return name in self._current
