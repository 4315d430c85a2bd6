"""The check of values in the sandbox: the verdicts of the reference implementation, and no keyword silently unchecked."""

from __future__ import annotations

import math
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recursive_agent.repl.worker.fits import check_schema, misfit

KINDS = ["null", "boolean", "integer", "number", "string", "array", "object"]
names = st.sampled_from(["a", "b", "c", "d"])
numbers = st.integers(-6, 6) | st.sampled_from([0.5, -0.5, 1.0, 2.0, 2.5, 1e300, -3.0])
atoms = st.none() | st.booleans() | numbers | st.text("ab", max_size=4)
values = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
counts = st.integers(0, 3)

_alone: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(KINDS) | st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True),
    "enum": st.lists(values, min_size=1, max_size=4),
    "const": values,
    "required": st.lists(names, max_size=3, unique=True),
    "minProperties": counts,
    "maxProperties": counts,
    "minItems": counts,
    "maxItems": counts,
    "uniqueItems": st.booleans(),
    "minLength": counts,
    "maxLength": counts,
    "minimum": numbers,
    "maximum": numbers,
    "exclusiveMinimum": numbers,
    "exclusiveMaximum": numbers,
    "multipleOf": st.sampled_from([1, 2, 3, 0.5, 0.25, 1.5, 1e-300]),
    "pattern": st.sampled_from(["^a", "b$", "a+b", "^(ab)*$", "", "[^a]"]),
    "title": st.just("a note"),
    "description": st.just("a note"),
    "default": values,
    "examples": st.lists(values, max_size=1),
    "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y"]),
}


_KEYWORDS = [*_alone, "properties", "additionalProperties", "items", "prefixItems", "anyOf", "oneOf", "allOf", "not"]


@st.composite
def parts(draw: st.DrawFn, depth: int = 0) -> Any:
    """A schema of few keywords, or nothing would ever fit."""
    if depth == 3 or (depth and draw(st.integers(0, 9)) == 0):
        return draw(st.booleans())
    schema: dict[str, Any] = {}
    for keyword in draw(st.lists(st.sampled_from(_KEYWORDS), min_size=1, max_size=3, unique=True)):
        if keyword in _alone:
            schema[keyword] = draw(_alone[keyword])
        elif keyword == "properties":
            schema[keyword] = {name: draw(parts(depth + 1)) for name in draw(st.lists(names, max_size=2, unique=True))}
        elif keyword in ("additionalProperties", "items", "not"):
            schema[keyword] = draw(parts(depth + 1))
        else:
            schema[keyword] = [draw(parts(depth + 1)) for _ in range(draw(st.integers(1, 2)))]
    return schema


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = draw(parts())
    return {**schema, "$defs": {"x": draw(parts(1)), "y": draw(parts(1))}}


def _agrees(schema: dict[str, Any], value: Any) -> None:
    try:
        check_schema(schema)
    except TypeError as error:  # the reference recurses for ever there
        if "without end" in str(error):
            return
        raise
    reason = misfit(schema, value)
    assert (reason is None) == jsonschema.Draft202012Validator(schema).is_valid(value), reason
    assert reason is None or len(reason) < 2000


@given(schemas(), values)
@settings(max_examples=300, deadline=None)
@example({"enum": [1]}, True)
@example({"enum": [0]}, False)
@example({"const": 1}, 1.0)
@example({"const": [1, {"a": True}]}, [1, {"a": 1}])
@example({"type": "integer"}, 1.0)
@example({"type": "integer"}, True)
@example({"type": "number"}, math.inf)
@example({"uniqueItems": True}, [1, True, 1.0])
@example({"uniqueItems": True}, [1, True])
@example({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1.0}])
@example({"prefixItems": [True], "items": False}, [1, 2])
@example({"multipleOf": 0.5}, 1e308)
@example({"multipleOf": 1e-300}, 1e300)
@example({"pattern": "a"}, 3)
@example({"$ref": "#/$defs/x", "type": "integer", "$defs": {"x": {"minimum": 3}}}, 2)
@example({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, None)
def test_the_verdicts_are_those_of_the_reference(schema: dict[str, Any], value: Any) -> None:
    _agrees(schema, value)


TREE = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
}


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda v: st.dictionaries(st.sampled_from(["n", "next"]), v))
)
def test_schemas_that_refer_to_themselves(value: Any) -> None:
    _agrees(TREE, value)
    _agrees(
        {"$ref": "#/definitions/t", "definitions": {"t": {"items": {"$ref": "#/definitions/t"}, "type": "array"}}},
        value,
    )


REASONS: list[tuple[dict[str, Any], Any, str]] = [
    ({"type": "string"}, 3, "3 is not of type string"),
    ({"properties": {"name": {"type": "string"}}}, {"name": 3}, "value['name']: 3 is not of type string"),
    ({"items": {"items": {"type": "integer"}}}, [[1], [2, "x"]], "value[1][1]: 'x' is not of type integer"),
    ({"required": ["a"]}, {}, "the key 'a' is missing"),
    ({"properties": {}, "additionalProperties": False}, {"b": 1}, "the key 'b' is not expected"),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 3, "3 is not of type string or of type null"),
    (
        {"anyOf": [{"type": "null"}, {"properties": {"x": {"minimum": 5}}, "type": "object"}]},
        {"x": 1},
        "value['x']: 1 is less than 5",
    ),
    ({"enum": ["day", "week"]}, "year", "'year' is not one of 'day', 'week'"),
    ({"maxItems": 2}, [1, 2, 3], "3 items are more than 2"),
    ({"type": "array"}, "x" * 100_000, f"'{'x' * 80}'… is not of type array"),
    ({"type": "string"}, [1] * 100_000, "a list of 100,000 items is not of type string"),
    ({"type": "string"}, 1 << 10_000, "a whole number of 10,001 bits is not of type string"),
]


@pytest.mark.parametrize(("schema", "value", "reason"), REASONS)
def test_reasons_name_the_place_and_what_is_wrong(schema: dict[str, Any], value: Any, reason: str) -> None:
    check_schema(schema)
    assert misfit(schema, value) == reason


REFUSED: list[tuple[Any, str]] = [
    ({"patternProperties": {}}, "'patternProperties' is not supported"),
    ({"properties": {"x": {"if": True}}}, r"returns\['properties'\]\['x'\]: the keyword 'if' is not supported"),
    ({"items": [{"type": "string"}]}, "prefixItems"),
    ({"$schema": 5}, r"\$schema must be text"),
    ({"type": "text"}, "type must be one of null, boolean"),
    ({"type": []}, "type must be"),
    ({"type": ["string", 3]}, "not 3"),
    ({"minLength": -1}, "minLength must be a whole number"),
    ({"minItems": True}, "minItems must be a whole number"),
    ({"maximum": "3"}, "maximum must be a number"),
    ({"multipleOf": 0}, "multipleOf must be"),
    ({"required": "name"}, "required takes a list of names"),
    ({"enum": "abc"}, "enum takes a list"),
    ({"pattern": "("}, "no regular expression"),
    ({"pattern": 3}, "no regular expression"),
    ({"$ref": "http://example.org/x"}, r"\$ref may only name"),
    ({"$ref": "#/$defs/missing"}, r"\$ref may only name"),
    ({"$ref": "#/properties/x", "properties": {"x": {}}}, r"\$ref may only name"),
    ({"$ref": ["#"]}, r"\$ref may only name"),
    ({"$ref": "#"}, "without end"),
    ({"allOf": [{"$ref": "#"}]}, "without end"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"oneOf": [{"$ref": "#"}]}}}, "without end"),
    ({"anyOf": []}, "anyOf takes a list of schemas"),
    ({"anyOf": {}}, "anyOf takes a list of schemas"),
    ({"properties": []}, "properties takes a dict"),
    ({"properties": {"x": 3}}, r"a schema is a dict \(or True or False\), not 3"),
    ({"$defs": {"x": {"nullable": True}}}, "'nullable' is not supported"),
    ({3: 4}, "only JSON"),
    ({"properties": {1: {}}}, "only JSON"),
    ({"const": b"x"}, "only JSON"),
    ({"enum": [1 << 70]}, "only JSON"),
    ({"default": math.nan}, "only JSON"),
    ([], "returns must be a type or a JSON schema"),
    (True, "returns must be a type or a JSON schema"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "why"), REFUSED)
def test_a_schema_that_would_not_be_checked_as_written_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        check_schema(schema)


def test_a_schema_that_doubles_at_every_step_is_read_in_one_pass() -> None:
    definitions = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)} | {"d60": {}}
    check_schema({"$ref": "#/$defs/d0", "$defs": definitions})


def test_a_schema_that_nests_too_deeply_is_refused() -> None:
    schema: Any = {}
    for _ in range(50):
        schema = {"items": schema}
    with pytest.raises(TypeError, match="deeper than 32"):
        check_schema(schema)
