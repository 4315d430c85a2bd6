"""A JSON schema in Python's words: models that echo a schema as if it were the answer read `list[str]` rightly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_PRIMITIVES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_SILENT = frozenset({"title", "description", "$defs", "definitions", "default", "$schema", "examples", "discriminator"})
"""Keywords that ask nothing of the value. (A description is written beside what it describes.)"""
_FORMATS = {
    "date": "a date such as 2026-01-31",
    "date-time": "a time such as 2026-01-31T12:30:00Z",
    "time": "a time such as 12:30:00",
    "duration": "a duration such as PT1H30M",
    "email": "an e-mail address",
    "uri": "a URL",
    "uuid": "a UUID",
}
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matching the regular expression {}",
}
_DEEPEST = 6
_MOST_PARTS = 60
"""Schemas inside one schema that are put in words: agents write schemas too, with references that multiply."""
_LONGEST = 600


class _Unclear(Exception):
    """The schema says something that has no short word."""


def type_words(schema: Mapping[str, Any]) -> str | None:
    """Such as `list[int]` or `a dict {"name": str, "age": int (at least 0)}`; None where the words would lose something."""
    definitions = schema.get("$defs", {})
    try:
        words = _Words(definitions if isinstance(definitions, Mapping) else {}).of(schema, 0)
    except (_Unclear, ValueError):  # Python refuses to spell the longest numbers
        return None
    words = f"a dict {words}" if words.startswith("{") else f"a list {words}" if words.startswith("[") else words
    return words if len(words) <= _LONGEST else None


class _Words:
    """Goes through a schema, with the definitions that it refers to."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._parts = 0

    def of(self, schema: Any, depth: int, notes: Sequence[str] = ()) -> str:
        """The words for a schema, with what else is to be said of it in brackets."""
        self._parts += 1
        if not isinstance(schema, Mapping) or depth > _DEEPEST or self._parts > _MOST_PARTS:
            raise _Unclear
        description = schema.get("description")
        if isinstance(description, str):
            notes = (*notes, " ".join(description.split()))
        name = schema.get("$ref")
        if isinstance(name, str):
            name = name.removeprefix("#/$defs/")
            if name not in self._definitions or set(schema) - _SILENT != {"$ref"}:
                raise _Unclear
            return self.of(self._definitions[name], depth + 1, notes)
        said = set(schema) - _SILENT
        bounds = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in said]
        if isinstance(schema.get("prefixItems"), list):  # a tuple: its length is seen
            bounds = []
        if "format" in said:
            bounds.append(_format(schema["format"]))
        if schema.get("uniqueItems") is True:
            bounds.append("no item twice")
        words = self._plain(schema, said - set(_BOUNDS) - {"format", "uniqueItems"}, depth)
        remarks = "; ".join([*bounds, *notes])
        return f"{words} ({remarks})" if remarks else words

    def _plain(self, schema: Mapping[str, Any], said: set[str], depth: int) -> str:
        kind = schema.get("type")
        if not said:
            return "Any"
        if said <= {"enum", "type"} and isinstance(schema.get("enum"), list) and schema["enum"]:
            return " or ".join(map(repr, schema["enum"]))
        if said <= {"const", "type"} and "const" in said:
            return repr(schema["const"])
        for key in ("anyOf", "oneOf", "allOf"):
            options = schema.get(key)
            if said == {key} and isinstance(options, list) and options and (key != "allOf" or len(options) == 1):
                return " | ".join(self.of(option, depth + 1) for option in options)
        if (
            said == {"type"}
            and isinstance(kind, list)
            and kind
            and all(isinstance(each, str) and each in _PRIMITIVES for each in kind)
        ):
            return " | ".join(_PRIMITIVES[each] for each in kind)
        if said == {"type"} and isinstance(kind, str) and kind in _PRIMITIVES:
            return _PRIMITIVES[kind]
        if kind == "array":
            return self._array(schema, said, depth)
        if kind == "object":
            return self._object(schema, said, depth)
        raise _Unclear

    def _array(self, schema: Mapping[str, Any], said: set[str], depth: int) -> str:
        if said == {"type"}:
            return "list"
        if said == {"type", "items"}:
            return f"list[{self.of(schema['items'], depth + 1)}]"
        if said == {"type", "prefixItems"} and isinstance(schema["prefixItems"], list):
            count = len(schema["prefixItems"])
            if schema.get("minItems") == schema.get("maxItems") == count:
                return f"[{', '.join(self.of(item, depth + 1) for item in schema['prefixItems'])}]"
        raise _Unclear

    def _object(self, schema: Mapping[str, Any], said: set[str], depth: int) -> str:
        more = schema.get("additionalProperties", True)
        fields = schema.get("properties")
        if fields is None:
            if said == {"type"} or (said == {"type", "additionalProperties"} and more is True):
                return "dict"
            if said == {"type", "additionalProperties"} and isinstance(more, Mapping):
                return f"dict[str, {self.of(more, depth + 1)}]"
            raise _Unclear
        if not isinstance(fields, Mapping) or said - {"type", "properties", "required", "additionalProperties"}:
            raise _Unclear
        if isinstance(more, Mapping):
            raise _Unclear
        required = schema.get("required", ())
        if not isinstance(required, list | tuple):
            raise _Unclear
        parts = [
            f'"{name}": {self.of(field, depth + 1, () if name in required else ("may be left out",))}'
            for name, field in fields.items()
        ]
        return "{" + ", ".join(parts) + "}"


def _format(name: Any) -> str:
    if not isinstance(name, str) or name not in _FORMATS:
        raise _Unclear
    return _FORMATS[name]
