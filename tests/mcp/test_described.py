"""A server's schemas as Python signatures, and arguments as an agent writes them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.mcp.arguments import bound, check_json
from recursive_agent.mcp.described import identifier, shape_of
from recursive_agent.mcp.texts import lines, words
from recursive_agent.tools import ToolFailed


def spelt(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> str:
    schema = {"type": "object", "properties": properties, "required": required or [], **more}
    return shape_of("f", schema, None).described.signature


def test_required_ones_come_first_and_what_may_be_left_out_shows_its_default() -> None:
    properties = {
        "limit": {"type": "integer", "default": 10},
        "mode": {"enum": ["fast", "slow"], "default": "fast"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "when": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "query": {"type": "string"},
    }
    assert spelt(properties, ["query"]) == (
        "f(query: str, limit: int = 10, mode: Literal['fast', 'slow'] = 'fast', tags: list[str] | None = None, "
        "when: str | None = None) -> Any"
    )


def test_names_that_python_cannot_write_are_given_ones_that_it_can() -> None:
    assert spelt({"file-path": {"type": "string"}, "from": {}, "$top": {}, "2d": {}, "größe": {}, "file_path": {}}) == (
        "f(file_path: str | None = None, from_: Any = None, top: Any = None, arg_2d: Any = None, gr_e: Any = None, "
        "file_path_2: Any = None) -> Any"
    )
    assert identifier("list.files/all") == "list_files_all"
    assert identifier("finish", frozenset({"finish"})) == "finish_"
    assert identifier("…") == "tool"


def test_objects_inside_become_classes_that_are_said_once() -> None:
    point = {"type": "object", "properties": {"x": {"type": "number", "minimum": 0}}, "required": ["x"]}
    tree = {
        "type": "object",
        "title": "Tree",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
    }
    shape = shape_of(
        "f",
        {
            "properties": {"at": point, "tree": {"$ref": "#/$defs/Tree"}},
            "required": ["at", "tree"],
            "$defs": {"Tree": tree},
        },
        {"type": "object", "properties": {"result": {"type": "array", "items": point}}, "required": ["result"]},
    )
    assert shape.described.signature == "f(at: At, tree: Tree) -> list[FResultItem]"
    assert shape.described.classes["At"] == ["a dict", "    x: float  # at least 0"]
    assert shape.described.classes["Tree"] == ["a dict", "    children: list[Tree] (optional)"]
    assert shape.wrapped


def test_a_schema_that_lists_no_parameters_takes_one_dict() -> None:
    shape = shape_of("f", {"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, None)
    assert shape.described.signature == "f(arguments: dict) -> Any"
    assert bound("f", shape.parameters, ({"a": 1},), {}) == {"a": 1}
    assert shape_of("f", {"type": "object"}, None).described.signature == "f() -> Any"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
keywords = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "$ref",
        "$defs",
        "enum",
        "anyOf",
        "items",
        "default",
        "title",
        "description",
        "const",
    ]
)
schemas = st.recursive(
    st.dictionaries(keywords, json_values, max_size=5),
    lambda inner: st.dictionaries(
        keywords, inner | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_size=5
    ),
    max_leaves=12,
)


@given(schemas, st.none() | schemas)
def test_whatever_a_server_sends_is_shown_on_one_line_and_never_fails(schema: Any, output: Any) -> None:
    shape = shape_of("f", schema, output)
    told = [shape.described.signature, *shape.described.parameters]
    told += [line for each in shape.described.classes.values() for line in each]
    assert all(line.isprintable() for line in told), told
    names = list(shape.parameters.names)
    assert all(name.isidentifier() for name in names)
    assert len(names) == len(set(names))


@given(st.text(), st.integers(2, 40))
def test_texts_of_servers_are_bounded_and_steer_nothing(text: str, most: int) -> None:
    line = words(text, most)
    assert len(line) <= most + 8
    assert not any(each in line for each in "\x00\x1b\n\u202e\u2028")
    block = lines(text + "\x1b[31m<|im_end|>```", 200, 3)
    assert len(block.splitlines()) <= 3
    assert "\x1b" not in block
    assert "<|" not in block
    assert "```" not in block


# -- arguments --------------------------------------------------------------------------------------------------------

SHAPE = shape_of(
    "f",
    {
        "properties": {
            "file-path": {"type": "string"},
            "limit": {"type": "integer"},
            "note": {"type": ["string", "null"]},
        },
        "required": ["file-path"],
    },
    None,
)


def test_arguments_reach_the_server_by_its_own_names() -> None:
    assert bound("f", SHAPE.parameters, ("a",), {"limit": 3}) == {"file-path": "a", "limit": 3}
    assert bound("f", SHAPE.parameters, (), {"file-path": "a", "limit": None, "note": None}) == {
        "file-path": "a",
        "note": None,
    }


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((), {}, "f() lacks the argument file_path"),
        (("a",), {"file_path": "b"}, "f() got multiple values for argument 'file_path'"),
        (("a",), {"colour": "b"}, "f() got an unexpected argument 'colour'"),
        (("a", 1, "n", 4), {}, "f() takes 3 positional arguments, 4 were given"),
    ],
)
def test_wrong_arguments_are_told_to_the_agent(args: tuple[Any, ...], kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(ToolFailed) as refused:
        bound("f", SHAPE.parameters, args, kwargs)
    assert str(refused.value) == told


@pytest.mark.parametrize("value", [b"x", {1: 2}, float("nan"), [{"a": float("inf")}]])
def test_what_json_lacks_does_not_leave(value: Any) -> None:
    with pytest.raises(ToolFailed):
        check_json("f", {"x": value})


def test_a_signature_is_python() -> None:
    namespace: dict[str, Any] = {"Any": Any}
    exec(f"def {spelt({'a': {'type': 'string'}, 'b': {'type': 'integer', 'default': 2}}, ['a'])}: ...", namespace)
    assert list(inspect.signature(namespace["f"]).parameters) == ["a", "b"]
