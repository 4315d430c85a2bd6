"""The tools of a taskset, called in this process as its tool server would call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, validate_call

from .refusals import Refused, check_tools


class ToolRaised(Exception):
    """A tool refused its arguments or raised: for the agent to read, as in its own harness."""


class _Registered:
    """Collects what a toolset registers at its server."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.tools: dict[str, tuple[Callable[..., Any], str]] = {}

    def add_tool(self, function: Callable[..., Any], name: str | None = None, description: str | None = None) -> None:
        """As of an MCP server; the name gets the toolset's prefix, as the model would see it."""
        full = f"{self.prefix}_{name or function.__name__}" if self.prefix else name or function.__name__
        self.tools[full] = (function, description or "")


class Tools:
    """The tools of one attempt."""

    def __init__(self, toolsets: Sequence[Any]) -> None:
        self._toolsets = toolsets
        self._functions: dict[str, tuple[Callable[..., Any], str]] = {}

    @classmethod
    async def ready(cls, vf: Any, *, shared: Sequence[Any], own: Sequence[Any], data: Any) -> Tools:
        """Toolsets that are set up: those of the task for its `data`, those of the taskset as such. Raises Refused."""
        made = cls([*shared, *own])
        for toolset in made._toolsets:
            check_tools(vf, toolset)
            await toolset.setup()
            if any(toolset is each for each in own):
                await toolset.setup_task(data)
            registered = _Registered(toolset.server_name)
            try:
                toolset.register(registered)
            except AttributeError as error:
                raise Refused(f"its tools ({type(toolset).__name__}) are more than functions ({error})") from error
            for name, tool in registered.tools.items():
                if name in made._functions:
                    raise Refused(f"two of its tools are called {name}")
                made._functions[name] = tool
        return made

    def described(self) -> list[dict[str, Any]]:
        """Name, description and parameters of each tool. Raises Refused where they cannot be said."""
        found = []
        for name, (function, description) in self._functions.items():
            try:
                signature: Any = function
                schema = TypeAdapter(signature).json_schema()
            except Exception as error:
                raise Refused(f"what its tool {name} takes cannot be read ({type(error).__name__}: {error})") from error
            if schema.get("type") != "object":
                raise Refused(f"its tool {name} takes arguments without names")
            found.append({"name": name, "description": description, "schema": schema})
        return found

    async def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """What a tool returns. Raises ToolRaised."""
        function, _ = self._functions[name]
        try:
            result = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)(**arguments)
            return await result if inspect.isawaitable(result) else result
        except ValidationError as error:
            raise ToolRaised("; ".join(f"{_place(each)}{each['msg']}" for each in error.errors())) from error
        except Exception as error:
            raise ToolRaised(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Release what the toolsets hold."""
        for toolset in self._toolsets:
            stack = getattr(toolset, "_exit_stack", None)
            if stack is not None:
                await stack.aclose()


def _place(error: Any) -> str:
    return "".join(f"{part}: " for part in error["loc"])
