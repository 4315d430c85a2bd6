"""Tools that another package describes by a JSON schema."""

from __future__ import annotations

from typing import Any

import pytest

from rao_rl.envs.schema_tools import schema_tool
from recursive_agent import ConfigurationError
from recursive_agent.tools import Tool, ToolFailed

from .worlds import caller

SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {"Way": {"enum": ["up", "down"]}, "Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
    "properties": {
        "kind": {"const": "move"},
        "way": {"$ref": "#/$defs/Way"},
        "speed": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
        "times": {"type": "integer", "default": 1, "description": "how often"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "more": {"type": ["object", "string"]},
        "odd": {"not": {"type": "string"}},
        "metadata": {"type": "object"},
    },
    "required": ["kind", "way"],
}


def made(schema: dict[str, Any], name: str = "move") -> Tool:
    return Tool(schema_tool("env", name, "Move.", schema, lambda given, ctx: [given, ctx.node], hidden=["metadata"]))


@pytest.mark.anyio
async def test_parameters_are_typed_and_what_is_not_said_is_left_to_the_other_side() -> None:
    tool = made(SCHEMA)
    assert tool.signature == (
        "move(way: Literal['up', 'down'], speed: float | None = None, times: int = 1, tags: list[str] | None = None, "
        "more: dict[str, Any] | str | None = None, odd: Any = None) -> Any"
    )
    assert tool.parameters == ["times: how often"]
    assert await tool.call(caller("0.1"), ("up",), {}) == [{"kind": "move", "way": "up", "times": 1}, "0.1"]
    given, _ = await tool.call(caller(), ("down",), {"speed": 2, "tags": ["a"], "more": {"x": 1}, "odd": 3})
    assert given == {"kind": "move", "way": "down", "speed": 2.0, "times": 1, "tags": ["a"], "more": {"x": 1}, "odd": 3}
    for wrong in ({"way": "left"}, {"way": "up", "times": "often"}, {"way": "up", "height": 3}, {}):
        with pytest.raises(ToolFailed):
            await tool.call(caller(), (), wrong)


def test_a_type_that_holds_itself_ends() -> None:
    assert "branches: list[" in made({**SCHEMA, "properties": {"branches": {"$ref": "#/$defs/Tree"}}}).signature


@pytest.mark.parametrize("name", ["finish", "two words", "class", "_hidden", "launch_subagent", ""])
def test_names_that_agents_cannot_write_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="which agents cannot write in Python or which rao uses itself"):
        made(SCHEMA, name)
    if name not in ("finish", "launch_subagent"):
        with pytest.raises(ConfigurationError, match="a parameter of the tool move"):
            made({"properties": {name: {"type": "string"}}})
