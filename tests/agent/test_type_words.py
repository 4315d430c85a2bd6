"""The type of a result in Python's words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from recursive_agent.prompts import opening
from recursive_agent.type_words import type_words
from tests.agent.test_prompts import situation


@dataclass
class Person:
    name: str
    tags: list[str]
    age: int = 0


class Noted(BaseModel):
    total: float = Field(description="in euro")
    person: Person


class Documented(BaseModel):
    """A part of the bill."""

    share: float = Field(ge=0, le=1)


class Tree(BaseModel):
    children: list[Tree]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


PERSON = '{"name": str, "tags": list[str], "age": int (may be left out)}'


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        (int, "int"),
        (list[str], "list[str]"),
        (dict[str, list[int]], "dict[str, list[int]]"),
        (int | None, "int | None"),
        (Literal["a", "b"], "'a' or 'b'"),
        (Colour, "'red' or 'blue'"),
        (tuple[int, str], "a list [int, str]"),
        (set[int], "list[int] (no item twice)"),
        (date, "str (a date such as 2026-01-31)"),
        (Any, "Any"),
        (Person, f"a dict {PERSON}"),
        (list[Person], f"list[{PERSON}]"),
        (Noted, f'a dict {{"total": float (in euro), "person": {PERSON}}}'),
        (Documented, 'a dict {"share": float (at least 0; at most 1)} (A part of the bill.)'),
        (Tree, None),
        (bytes, None),
    ],
)
def test_a_type_in_pythons_words(returns: Any, words: str | None) -> None:
    assert type_words(TypeAdapter(returns).json_schema()) == words


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "patternProperties": {"^x": {"type": "integer"}}},
        {"not": {"type": "integer"}},
        {"type": "array", "contains": {"type": "integer"}},
        {"type": "string", "format": "isbn"},
        {"$ref": "https://example.org/schema"},
        {"type": "object", "properties": {f"key_{n}": {"type": "integer"} for n in range(100)}},
    ],
)
def test_what_words_would_lose_stays_a_schema(schema: dict[str, Any]) -> None:
    assert type_words(schema) is None
    goal = opening("rich", "fenced", situation(schema=schema))[-1].content
    assert json.dumps(schema) in goal


def test_the_opening_names_the_type_and_not_the_schema() -> None:
    goal = opening("rich", "fenced", situation(schema=TypeAdapter(Person).json_schema()))[-1].content
    assert PERSON in goal
    assert "properties" not in goal


def test_references_that_multiply_are_not_followed() -> None:
    level: dict[str, Any] = {"type": "integer"}
    definitions: dict[str, Any] = {}
    for number in range(6):
        definitions[f"d{number}"] = level
        level = {"anyOf": [{"$ref": f"#/$defs/d{number}"}] * 1_000}
    assert type_words({**level, "$defs": definitions}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "items", "properties", "anyOf", "enum", "$ref", "$defs", "required", "minimum", "prefixItems",
                         "additionalProperties", "description", "format", "const", "uniqueItems"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["type", "items", "properties", "anyOf", "enum", "$defs", "required", "format"]), JSON
    )
)
def test_no_schema_of_anybody_breaks_it(schema: dict[str, Any]) -> None:
    words = type_words(schema)
    assert words is None or 0 < len(words) <= 600
