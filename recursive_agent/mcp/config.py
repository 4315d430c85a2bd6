"""The `mcpServers` file that assistants share, as servers."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from .server import MCPServer

_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}")
_TRANSPORTS = {"stdio": "stdio", "http": "http", "streamable-http": "http", "streamableHttp": "http", "sse": "sse"}


def read_config(path: str | Path) -> list[MCPServer]:
    """The servers of a JSON file such as `{"mcpServers": {"git": {"command": "uvx", "args": ["mcp-server-git"]}}}`.

    A server has `command` with `args`, `env` and `cwd`, or `url` with `headers` and `type` ("http" or "sse"). `${NAME}` stands
    for a variable of the environment. `disabled`, `prefix`, `include` and `exclude` are optional; other keys are not read.
    Raises ConfigurationError.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON ({error})") from None
    entries = content.get("mcpServers", content.get("servers")) if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise ConfigurationError(
            f'{path} names no MCP server: write {{"mcpServers": {{"NAME": {{"command": "…", "args": []}}}}}}'
        )
    return [
        server for name, entry in entries.items() if (server := _server(f"{path}: {name}", name, entry)) is not None
    ]


def server_of(text: str) -> list[MCPServer]:
    """The servers that a command line names: by a file of `read_config`, a URL, or a command. Raises ConfigurationError."""
    if text.startswith(("http://", "https://")):
        legacy = urlsplit(text).path.rstrip("/").endswith("/sse")
        return [MCPServer.sse(text) if legacy else MCPServer.http(text)]
    if text.endswith(".json") or Path(text).suffix == ".json":
        return read_config(text)
    try:
        command, *args = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r:.80} is no command of an MCP server ({error})") from None
    return [MCPServer.stdio(command, args)]


def _server(where: str, name: str, entry: Any) -> MCPServer | None:
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"{where}: must be an object with a command or a url")
    if entry.get("disabled") is True or entry.get("enabled") is False:
        return None
    entry = _expanded(where, dict(entry))
    url = entry.get("url", entry.get("serverUrl", entry.get("httpUrl")))
    kind = entry.get("type", entry.get("transport", "stdio" if url is None else None))
    if kind is None:
        kind = "sse" if urlsplit(str(url)).path.rstrip("/").endswith("/sse") else "http"
    if not isinstance(kind, str) or kind not in _TRANSPORTS:
        raise ConfigurationError(f"{where}: type must be stdio, http or sse, not {kind!r:.40}")
    selection: dict[str, Any] = {
        "name": name,
        "prefix": entry.get("prefix"),
        "include": entry.get("include", entry.get("includeTools")),
        "exclude": entry.get("exclude", entry.get("excludeTools")),
    }
    try:
        if _TRANSPORTS[kind] == "stdio":
            if "command" not in entry:
                raise ConfigurationError("it has neither command nor url")
            return MCPServer.stdio(
                entry["command"], entry.get("args") or (), env=entry.get("env"), cwd=entry.get("cwd"), **selection
            )
        make = MCPServer.http if _TRANSPORTS[kind] == "http" else MCPServer.sse
        return make(url, headers=entry.get("headers"), **selection)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _expanded(where: str, value: Any) -> Any:
    """`value` with the variables of the environment in its texts."""
    if isinstance(value, str):

        def variable(found: re.Match[str]) -> str:
            text = os.environ.get(found[1], found[2])
            if text is None:
                raise ConfigurationError(f"{where}: the environment variable {found[1]} is not set")
            return text

        return _VARIABLE.sub(variable, value)
    if isinstance(value, dict):
        return {key: _expanded(where, item) for key, item in value.items()}
    return [_expanded(where, item) for item in value] if isinstance(value, list) else value
