"""Which MCP server an agent uses, how it is reached, and which of its tools are taken."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import parse_qsl, urlsplit

from ..errors import ConfigurationError

Transport = Literal["stdio", "http", "sse"]
_SECRET_NAME = re.compile(r"key|token|secret|passw|pwd|auth|credential|cookie|bearer|private|signature", re.IGNORECASE)
_SCHEME = re.compile(r"^(?:bearer|basic|token)\s+", re.IGNORECASE)
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.+=~-]{16,}")
"""A value that is neither a word, a path nor a URL: more likely a key than not."""


class Selection(TypedDict, total=False):
    """The options that every kind of server takes; see `MCPServer`."""

    name: str | None
    prefix: str | None
    include: Iterable[str] | None
    exclude: Iterable[str]
    timeout: float | None
    connect_timeout: float
    max_message_mb: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MCPServer:
    """An MCP server whose tools agents may call: `Agent(tools=[MCPServer.stdio("uvx", ["mcp-server-git"])])`.

    Make one with `MCPServer.stdio(command, args)`, `MCPServer.http(url)` (streamable HTTP) or `MCPServer.sse(url)` (the older
    transport). The server is started or connected to when a run begins (with `async with agent:` once for all runs), used
    by all agents of the run at the same time, and closed at the end.

    `include` and `exclude` choose tools by name or pattern (`"read_*"`); `prefix` is put before their names. A call that has
    no answer after `timeout` seconds fails for the agent, which goes on; so does a call whose server ends, and the next call
    starts the server again. `connect_timeout` limits the start. A message of more than `max_message_mb` is refused.

    A process gets a few variables of this process (PATH, HOME, …) and `env`. Values of `env`, `headers`, arguments and URLs
    that look like secrets are redacted in traces and in what agents see. Raises ConfigurationError for invalid settings.
    """

    name: str
    """What errors and the trace call it."""
    transport: Transport
    command: str = ""
    args: Sequence[str] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: Any = field(default=None, repr=False)
    """An `httpx2.Auth`, such as `mcp.client.auth.OAuthClientProvider`."""
    prefix: str = ""
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    timeout: float | None = 120.0
    connect_timeout: float = 60.0
    max_message_mb: float = 16.0

    @classmethod
    def stdio(
        cls,
        command: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        **selection: Unpack[Selection],
    ) -> MCPServer:
        """A server that is started as a process and speaks over its standard input and output."""
        if not isinstance(command, str) or not command.strip():
            raise ConfigurationError(f"command must be the program of an MCP server, as text, not {command!r:.80}")
        if isinstance(args, str) or not all(isinstance(each, str) for each in args):
            raise ConfigurationError(f"args of the MCP server {command!r} must be a list of texts")
        return cls(
            transport="stdio",
            command=command,
            args=tuple(args),
            env=_texts(f"env of the MCP server {command!r}", env),
            cwd=None if cwd is None else str(cwd),
            **_selected(selection, _program_name(command, args)),
        )

    @classmethod
    def http(
        cls, url: str, *, headers: Mapping[str, str] | None = None, auth: Any = None, **selection: Unpack[Selection]
    ) -> MCPServer:
        """A server that runs already, at the URL of its streamable HTTP endpoint (it often ends in /mcp)."""
        return cls._at("http", url, headers, auth, selection)

    @classmethod
    def sse(
        cls, url: str, *, headers: Mapping[str, str] | None = None, auth: Any = None, **selection: Unpack[Selection]
    ) -> MCPServer:
        """A server that runs already and speaks the older HTTP+SSE transport (its URL often ends in /sse)."""
        return cls._at("sse", url, headers, auth, selection)

    @classmethod
    def _at(
        cls, transport: Transport, url: str, headers: Mapping[str, str] | None, auth: Any, selection: Selection
    ) -> MCPServer:
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"url must be the http:// or https:// address of an MCP server, not {str(url).rpartition('@')[2]!r:.80}"
            )
        return cls(
            transport=transport,
            url=url,
            headers=_texts("headers of the MCP server", headers),
            auth=auth,
            **_selected(selection, parts.hostname),
        )

    def takes(self, tool: str) -> bool:
        """Whether agents get a tool of this name."""
        taken = self.include is None or any(fnmatchcase(tool, pattern) for pattern in self.include)
        return taken and not any(fnmatchcase(tool, pattern) for pattern in self.exclude)

    @property
    def place(self) -> str:
        """Where it is, for error messages: its program, or its URL without what may be secret."""
        if self.transport == "stdio":
            return self.command
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be written down."""
        return tuple(dict.fromkeys(secret for secret in self._secrets() if secret))

    def _secrets(self) -> Iterator[str]:
        yield from _hidden(self.env)
        for name, value in self.headers.items():
            if _SECRET_NAME.search(name) or _RANDOM.fullmatch(value) or _SCHEME.match(value):
                yield value
                yield _SCHEME.sub("", value)
        before = ""
        for argument in self.args:  # --api-key KEY, --api-key=KEY
            option, equals, value = argument.partition("=")
            if equals and _SECRET_NAME.search(option):
                yield value
            else:
                follows = before.startswith("-") and not argument.startswith("-") and bool(_SECRET_NAME.search(before))
                if follows or (_RANDOM.fullmatch(argument) and _SECRET_NAME.search(argument)):
                    yield argument
            before = argument
        if self.url:
            parts = urlsplit(self.url)
            yield from (parts.password or "", *_hidden(dict(parse_qsl(parts.query))))


def _hidden(values: Mapping[str, str]) -> Iterator[str]:
    return (value for name, value in values.items() if _SECRET_NAME.search(name) or _RANDOM.fullmatch(value))


def _program_name(command: str, args: Sequence[str]) -> str:
    """`git` for `uvx mcp-server-git`: the last word that names a program, or the command."""
    words = [word for word in args if not word.startswith("-") and re.search(r"mcp|server", word)]
    name = Path(words[0] if words else command).stem
    name = re.sub(r"^(?:mcp[-_])?server[-_]|[-_]mcp(?:[-_]server)?$|^mcp[-_]", "", name.partition("@")[0] or name)
    return name or command


def _texts(what: str, values: Mapping[str, str] | None) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in values.items()
    ):
        raise ConfigurationError(f"{what} must map names to texts")
    return dict(values)


def _selected(selection: Selection, name: str) -> dict[str, Any]:
    """The options that all servers share, checked."""
    if unknown := sorted(set(selection) - Selection.__annotations__.keys()):
        raise ConfigurationError(f"an MCP server takes no option {unknown[0]!r}")
    chosen: dict[str, Any] = {key: value for key, value in selection.items() if value is not None}
    chosen["name"] = str(chosen.get("name") or name)[:60]
    prefix = chosen.get("prefix", "")
    if not isinstance(prefix, str) or (prefix and not re.fullmatch(r"[A-Za-z]\w*", prefix, re.ASCII)):
        raise ConfigurationError(f"prefix must be letters, digits and _, such as 'files_', not {prefix!r:.80}")
    for key in ("include", "exclude"):
        patterns = chosen.get(key, ())
        if isinstance(patterns, str) or not all(isinstance(each, str) for each in patterns):
            raise ConfigurationError(f"{key} must be a list of names or patterns of tools, such as ['read_*']")
        if key in chosen:
            chosen[key] = tuple(patterns)
    if "timeout" in selection and selection["timeout"] is None:
        chosen["timeout"] = None
    for key in ("timeout", "connect_timeout", "max_message_mb"):
        value = chosen.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise ConfigurationError(f"{key} must be a number above 0, not {value!r:.80}")
    return chosen
