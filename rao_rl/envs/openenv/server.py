"""What an OpenEnv server says of its environment: its name, and the actions that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recursive_agent.errors import ConfigurationError

from .connection import ActionRefused, Connection, ServerFailed, is_local

if TYPE_CHECKING:
    import httpx2

_OF_TOOLS = ("Action", "CallToolAction", "ListToolsAction")
"""Titles of the action schemas of environments whose actions are calls of tools (MCP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTool:
    """A tool of an environment whose actions are calls of tools."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """An environment, as its server describes it."""

    name: str
    description: str
    action: Mapping[str, Any]
    """JSON schema of an action."""
    tools: Sequence[ServedTool] | None
    """The tools, if actions are calls of tools; `action` says nothing then."""


def describe(url: str, timeout: float) -> Description:
    """Ask a server. Raises ConfigurationError where it is down, slow, or not one of OpenEnv."""
    import httpx2

    try:
        with httpx2.Client(timeout=timeout, trust_env=not is_local(url)) as client:
            schema, metadata = (_json(client, f"{url}/{path}") for path in ("schema", "metadata"))
    except httpx2.HTTPError as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigurationError(
            f"openenv: there is no server at {url} ({said}); start it, or name another with --env-set url=…"
        ) from error
    action = schema.get("action")
    if not isinstance(action, Mapping):
        raise ConfigurationError(f"openenv: the server at {url} is not one of OpenEnv: its /schema has no action")
    of_tools = action.get("title") in _OF_TOOLS
    return Description(
        name=str(metadata.get("name") or "environment"),
        description=" ".join(str(metadata.get("description") or "").split()),
        action=action,
        tools=_tools(url, timeout) if of_tools else None,
    )


def _json(client: httpx2.Client, url: str) -> Mapping[str, Any]:
    response = client.get(url)
    try:
        found = response.json() if response.status_code == 200 else None
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise ConfigurationError(
            f"openenv: the server is not one of OpenEnv: {url} answers {response.status_code} and no JSON object"
        )
    return found


def _tools(url: str, timeout: float) -> list[ServedTool]:
    connection = Connection(url, timeout)
    try:
        listed = connection.step({"type": "list_tools"}).observation.get("tools")
        if not isinstance(listed, list):
            raise ServerFailed("it lists none")
        return [
            ServedTool(
                name=each["name"], description=str(each.get("description") or ""), schema=dict(each["input_schema"])
            )
            for each in listed
        ]
    except (ActionRefused, ServerFailed, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"openenv: the tools of the environment at {url} cannot be listed ({error})"
        ) from error
    finally:
        connection.close()
