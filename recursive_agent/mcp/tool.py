"""One tool of an MCP server, as agents see and call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pickle import PicklingError
from typing import Any, Protocol

from mcp import types

from ..signatures import Described
from ..sizes import is_large
from ..threads import call_in_thread
from ..tools import Tool, ToolContext, ToolFailed
from ..trace.redact import Redactor
from .arguments import bound, check_json, schema_for
from .described import shape_of
from .results import result_of
from .texts import lines, words

_MOST_TEXT = 1_200
_MOST_LINES = 16
_BRIEF = 140
"""Characters of a description where an agent has many tools."""


class Caller(Protocol):
    """Sends calls to a server; see `Connection`."""

    origin: str
    redactor: Redactor

    async def call(self, tool: str, arguments: dict[str, Any], shown: str) -> types.CallToolResult:
        """The server's answer. Raises ToolFailed."""


class RemoteTool(Tool):
    """A tool of a server under the name that agents use. With `brief`, prompts say little of it."""

    def __init__(self, caller: Caller, tool: types.Tool, name: str, *, brief: bool = False) -> None:
        self._caller = caller
        self._remote = tool.name
        self.name = name
        self.origin = caller.origin
        hints = tool.annotations
        # Hints come from the server: they decide about repeating its own calls, never about approval.
        self.repeat = (
            True if hints and hints.read_only_hint else False if hints and hints.destructive_hint is True else None
        )
        shape = shape_of(name, tool.input_schema, tool.output_schema)
        self._parameters = shape.parameters
        self._positional = list(shape.parameters.names)
        self._by_position_only = []
        self._wrapped = shape.wrapped
        self._schema = schema_for(tool.input_schema)
        self._described = Described(shape.described.signature, [], {}) if brief else shape.described
        self.signature = shape.described.signature
        told = caller.redactor.text(tool.description or tool.title or "")
        self.description = words(told, _BRIEF) if brief else lines(told, _MOST_TEXT, _MOST_LINES)

    async def call(self, context: ToolContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call it with checked arguments; the result is plain data. Raises ToolFailed with what to tell the agent."""
        try:
            arguments = bound(self.name, self._parameters, args, kwargs)
            if is_large(arguments):
                await call_in_thread(self._check, arguments)
            else:
                self._check(arguments)
        except ToolFailed as error:
            raise ToolFailed(f"{error}; the signature is {self.signature}") from None
        answer = await self._caller.call(self._remote, arguments, self.name)
        return await call_in_thread(self._result, answer)

    def _check(self, arguments: dict[str, Any]) -> None:
        check_json(self.name, arguments)
        if self._schema is None:
            return
        try:
            self._schema.check(arguments)
        except ValueError as error:
            raise ToolFailed(f"{self.name}(): {str(error).replace('value[', 'argument [', 1):.600}") from None

    def _result(self, answer: types.CallToolResult) -> Any:
        return result_of(self.name, answer, self._caller.redactor, wrapped=self._wrapped)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise PicklingError(f"the tool {self.name} belongs to a connection, which another process cannot have")
