"""A tool's JSON schema as a Python signature: what a prompt shows, and the names that an agent writes."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..signatures import Described, bounds_of, class_lines, schema_name, shown_default
from .texts import words

_DEEPEST = 8
_MOST_PARTS = 1_500
"""Schemas and values inside one schema that are shown."""
_MOST_TEXT = 300
"""Characters of a description inside a schema."""
_MOST_CLASSES = 30
_SHOWN_KEYS = frozenset(
    {
        "type",
        "enum",
        "const",
        "default",
        "description",
        "items",
        "prefixItems",
        "properties",
        "required",
        "anyOf",
        "oneOf",
    }
    | {"allOf", "additionalProperties", "$ref", "title", "format", "pattern", "minimum", "maximum", "exclusiveMinimum"}
    | {"exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems"}
)
_PARTS = ("items", "additionalProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_ALL = "arguments"
"""The one parameter of a tool whose schema does not list them."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """How an agent writes the arguments of a tool, and what the server calls them."""

    names: Mapping[str, str]
    """Python's name to the server's, the required ones first."""
    required: frozenset[str]
    """Python's names."""
    nullable: frozenset[str]
    """Optional ones for which None is a value, and not only a way to leave them out."""
    more: bool
    """Whether others are taken too, by any name."""
    whole: bool
    """Whether the one parameter is the object of all arguments."""


@dataclass(frozen=True, slots=True)
class ToolShape:
    """A tool as it is shown and called."""

    described: Described
    parameters: Parameters
    wrapped: bool
    """Whether results stand under "result" in an object, which agents do not see."""


def shape_of(name: str, schema: Mapping[str, Any], output: Mapping[str, Any] | None) -> ToolShape:
    """From the schemas that a server gives for a tool. Raises nothing, whatever they hold."""
    shown = _Shown()
    root = _resolved(schema)
    properties = _mapping(root.get("properties"))
    listed = bool(properties) or not any(key in root for key in (*_LISTS[:3], "$ref", "patternProperties"))
    more = root.get("additionalProperties")
    if not listed:
        parameters = Parameters({_ALL: _ALL}, frozenset({_ALL}), frozenset(), more=False, whole=True)
        spelt, notes = [f"{_ALL}: dict"], [f"{_ALL}: {words(root.get('description'), _MOST_TEXT)}".rstrip(": ")]
        notes = [note for note in notes if ":" in note]
    else:
        parameters = _parameters(root, properties, more is True or (isinstance(more, Mapping) and bool(more)))
        spelt, notes = [], []
        for python, original in parameters.names.items():
            part = shown.part(properties[original], python, _definitions(schema))
            kind = schema_name(part)
            if python in parameters.required:
                spelt.append(f"{python}: {kind}")
            elif "default" in part:
                spelt.append(f"{python}: {kind} = {shown_default(part['default'])}")
            else:
                spelt.append(
                    f"{python}: {kind if 'None' in kind.split(' | ') or kind == 'Any' else f'{kind} | None'} = None"
                )
            texts = [part.get("description"), *bounds_of(part)]
            if texts := [text for text in texts if text]:
                notes.append(f"{python}: {'; '.join(texts)}")
        if parameters.more:
            spelt.append(f"**more: {schema_name(shown.part(more, 'More', _definitions(schema)))}")
    returns, wrapped = "Any", False
    if output:
        result = _resolved(output)
        fields = _mapping(result.get("properties"))
        wrapped = set(fields) == {"result"} and "result" in (result.get("required") or ())
        part = shown.part(fields["result"] if wrapped else result, f"{name}_result", _definitions(output))
        returns = schema_name(part)
    signature = f"{name}({', '.join(spelt)}) -> {returns}"
    classes = {key: list(class_lines(part)) for key, part in shown.classes.items()}
    return ToolShape(Described(signature, notes, classes), parameters, wrapped)


def identifier(name: str, taken: frozenset[str] = frozenset(), *, prefix: str = "tool") -> str:
    """A name that Python can write, as near to the server's as that goes."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:64]
    if not plain or plain[0].isdigit():
        plain = f"{prefix}_{plain}".rstrip("_")
    if keyword.iskeyword(plain) or plain in taken:
        plain += "_"
    return plain


def _parameters(root: Mapping[str, Any], properties: Mapping[str, Any], more: bool) -> Parameters:
    listed = root.get("required")
    required = {name for name in listed if isinstance(name, str)} if isinstance(listed, list | tuple) else set()
    names: dict[str, str] = {}
    for original in sorted(properties, key=lambda name: name not in required):
        python = base = identifier(original, prefix="arg")
        number = 1
        while python in names:
            number += 1
            python = f"{base}_{number}"
        names[python] = original
    return Parameters(
        names,
        frozenset(python for python, original in names.items() if original in required),
        frozenset(python for python, original in names.items() if _takes_none(properties[original])),
        more=more,
        whole=False,
    )


def _takes_none(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return True
    if "type" in schema:
        kind = schema["type"]
        return kind == "null" or (isinstance(kind, list) and "null" in kind)
    if "enum" in schema:
        return isinstance(schema["enum"], list) and None in schema["enum"]
    options = schema.get("anyOf", schema.get("oneOf"))
    return isinstance(options, list) and any(_takes_none(option) for option in options if option)


class _Shown:
    """Copies schemas for showing: cleaned, bounded, and with a name for each object that lists its fields."""

    def __init__(self) -> None:
        self.classes: dict[str, Mapping[str, Any]] = {}
        self._parts = 0
        self._named: dict[str, str] = {}

    def part(self, schema: Any, name: str, definitions: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
        """A copy of a schema; `name` is for the class that it describes, if it does."""
        self._parts += 1
        if not isinstance(schema, Mapping) or depth > _DEEPEST or self._parts > _MOST_PARTS:
            return {}
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, definitions, depth) | self._texts(schema)
        kept = {key: schema[key] for key in schema if key in _SHOWN_KEYS}
        copy: dict[str, Any] = self._texts(kept)
        for key in ("type", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
            if key in kept:
                copy[key] = _value(kept[key])
        copy |= {
            key: kept[key] for key in ("minLength", "maxLength", "minItems", "maxItems") if _is_number(kept.get(key))
        }
        for key in ("default", "const"):
            if key in kept:
                copy[key] = _value(kept[key])
        if isinstance(kept.get("enum"), list):
            copy["enum"] = [_value(each) for each in kept["enum"][:200]]
        for key in _PARTS:
            if isinstance(kept.get(key), Mapping):
                copy[key] = self.part(kept[key], f"{name}_item", definitions, depth + 1)
        for key in _LISTS:
            if isinstance(kept.get(key), list):
                copy[key] = [self.part(each, name, definitions, depth + 1) for each in kept[key][:20]]
        fields = kept.get("properties")
        if not isinstance(fields, Mapping) or not fields:
            return copy
        copy["properties"] = {
            words(str(key), 60): self.part(field, f"{name}_{key}", definitions, depth + 1)
            for key, field in list(fields.items())[:60]
        }
        title = kept.get("title")
        return self._class(title if isinstance(title, str) and title else name, copy) | self._texts(kept)

    def _reference(self, reference: str, definitions: Mapping[str, Any], depth: int) -> dict[str, Any]:
        name = reference.rpartition("/")[2]
        if reference in self._named:
            return {"$ref": self._named[reference]}
        target = definitions.get(name)
        if not reference.startswith(("#/$defs/", "#/definitions/")) or not isinstance(target, Mapping):
            return {}
        self._named[reference] = _class_name(name)  # a type that holds itself ends here
        copy = self.part({**target, "title": name}, name, definitions, depth + 1)
        if "$ref" in copy:
            self._named[reference] = copy["$ref"]
        else:
            del self._named[reference]
        return copy

    def _class(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        name = base = _class_name(name)
        number = 1
        while name in self.classes and self.classes[name] != schema:
            number += 1
            name = f"{base}{number}"
        if name not in self.classes and len(self.classes) >= _MOST_CLASSES:
            return {"type": "object"}
        self.classes[name] = schema
        return {"$ref": name}

    def _texts(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        texts = {key: words(schema[key], _MOST_TEXT) for key in ("description", "format", "pattern") if key in schema}
        return {key: text for key, text in texts.items() if text}


def _class_name(name: str) -> str:
    plain = identifier(name, prefix="Type")
    return "".join(part[:1].upper() + part[1:] for part in plain.split("_"))[:60]


def _value(value: Any, depth: int = 0) -> Any:
    """A value of a schema for showing; None where it is too large or no JSON."""
    if isinstance(value, str):
        return words(value, 120)
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, list) and len(value) <= 60 and depth < 3:
        return [_value(each, depth + 1) for each in value]
    if isinstance(value, Mapping) and len(value) <= 20 and depth < 3:
        return {words(str(key), 60): _value(each, depth + 1) for key, each in value.items()}
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _definitions(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**_mapping(schema.get("definitions")), **_mapping(schema.get("$defs"))}


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference at the top refers to."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or "properties" in schema:
        return schema
    return _mapping(_definitions(schema).get(reference.rpartition("/")[2]))
