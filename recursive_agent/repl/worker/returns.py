"""`returns=` of `launch_subagent`: converts a type that the agent's code can name to a JSON schema, and results to the type."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union

from .caches import is_plain
from .calls import ReturnType
from .exact import exact
from .fits import MAX_BYTES, MAX_DEPTH, MAX_VALUES, check_schema, show
from .outgoing import plain_copy

Build = Callable[[Any], Any]
"""Builds a value of the agent's type from the plain value that the host sends."""

_PRIMITIVES: dict[Any, dict[str, Any]] = {
    Any: {},
    object: {},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    set: {"type": "array"},
    frozenset: {"type": "array"},
    dict: {"type": "object"},
}
_NAMES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict, "Any": Any, "None": None}
_SEQUENCES: dict[Any, Build] = {list: list, set: set, frozenset: frozenset}


def read_returns(annotation: Any) -> ReturnType:
    """Check the argument `returns=` of a launch and describe it by a schema of plain data. Raises TypeError with the reason."""
    try:
        described, build = describe_type(annotation)
        schema = plain_copy("returns", described, MAX_BYTES, MAX_VALUES, MAX_DEPTH)
    except ValueError as error:
        raise TypeError(str(error)) from None
    check_schema(schema)
    return ReturnType(schema, build)


def _same(value: Any) -> Any:
    return value


def describe_type(annotation: Any, path: tuple[Any, ...] = ()) -> tuple[dict[str, Any], Build]:
    """`(JSON schema of the type, function that builds a value of the type from plain data)`.

    Raises TypeError for what has no JSON schema.
    """
    if isinstance(annotation, Mapping):
        if any(isinstance(value, type) or typing.get_origin(value) is not None for value in annotation.values()):
            raise TypeError(
                "returns: a dict is a JSON schema, such as {'type': 'object', 'properties': {'n': {'type': 'integer'}}}; to "
                "name types write a dataclass"
            )
        return dict(annotation), _same
    annotation = exact(annotation)  # the tables are asked about no object of an agent's class
    if isinstance(annotation, str) and annotation in _NAMES:  # an annotation given as text; never evaluated
        annotation = _NAMES[annotation]
    if isinstance(annotation, str):
        raise TypeError(
            f"returns: {show(annotation)} is text, and text is never evaluated: give the type itself, without quotes"
        )
    if is_plain(annotation) and annotation in _PRIMITIVES:
        return dict(_PRIMITIVES[annotation]), _SEQUENCES.get(annotation, tuple if annotation is tuple else _same)
    if annotation in path:
        raise TypeError(f"returns={_short(annotation)} contains itself: give a JSON schema instead")
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    inner = (*path, annotation)
    if origin is typing.Annotated:
        return describe_type(arguments[0], path)
    if origin is Literal:
        return {"enum": list(arguments)}, _same
    if origin in (Union, types.UnionType):
        return _union(arguments, inner)
    if origin in _SEQUENCES:
        schema, build = describe_type(arguments[0], inner)
        make = _SEQUENCES[origin]
        unique = {} if origin is list else {"uniqueItems": True}
        return {"type": "array", "items": schema} | unique, lambda value: make(build(item) for item in value)
    if origin is tuple:
        return _tuple(arguments, inner)
    if origin is dict:
        schema, build = describe_type(arguments[1], inner)
        return {"type": "object", "additionalProperties": schema}, lambda value: {k: build(v) for k, v in value.items()}
    if isinstance(annotation, type):
        return _class(annotation, inner)
    raise TypeError(
        f"returns={_short(annotation)} is not a type that can be described: use list[str], a dataclass or a JSON schema"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _union(arguments: tuple[Any, ...], path: tuple[Any, ...]) -> tuple[dict[str, Any], Build]:
    parts = [describe_type(argument, path) for argument in arguments]
    builders = [build for (schema, build) in parts if schema != {"type": "null"}]

    def make(value: Any) -> Any:
        if value is None:
            return None
        for build in builders:
            try:
                return build(value)
            except (TypeError, ValueError, KeyError, AttributeError):
                continue
        return value

    return {"anyOf": [schema for schema, _ in parts]}, make


def _tuple(arguments: tuple[Any, ...], path: tuple[Any, ...]) -> tuple[dict[str, Any], Build]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        schema, build = describe_type(arguments[0], path)
        return {"type": "array", "items": schema}, lambda value: tuple(build(item) for item in value)
    parts = [describe_type(argument, path) for argument in arguments]
    schema = {"type": "array", "prefixItems": [s for s, _ in parts], "minItems": len(parts), "maxItems": len(parts)}
    return schema, lambda value: tuple(build(item) for (_, build), item in zip(parts, value, strict=True))


def _class(cls: type, path: tuple[Any, ...]) -> tuple[dict[str, Any], Build]:
    if issubclass(cls, enum.Enum):
        return {"enum": [member.value for member in cls]}, cls
    if dataclasses.is_dataclass(cls):
        fields = [field for field in dataclasses.fields(cls) if field.init]
        annotations = {field.name: field.type for field in fields}
        optional = {
            f.name
            for f in fields
            if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        }
    elif typing.is_typeddict(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        annotations = dict(cls.__annotations__) or dict.fromkeys(getattr(cls, "_fields", ()), Any)
        optional = set(getattr(cls, "__optional_keys__", ())) | set(getattr(cls, "_field_defaults", ()))
    else:
        raise TypeError(f"returns={cls.__name__:.200} is no dataclass: use list[str], a dataclass or a JSON schema")
    parts = {name: describe_type(_unwrap(annotation), path) for name, annotation in annotations.items()}
    schema = {
        "type": "object",
        "title": cls.__name__,
        "properties": {name: part for name, (part, _) in parts.items()},
        "required": [name for name in parts if name not in optional],
        "additionalProperties": False,
    }
    return schema, lambda value: cls(**{name: parts[name][1](item) for name, item in value.items()})


def _unwrap(annotation: Any) -> Any:
    """The type itself where typing made a forward reference or a Required[...] of it."""
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if typing.get_origin(annotation) in (typing.Required, typing.NotRequired, typing.ClassVar, typing.Final):
        return typing.get_args(annotation)[0]
    return annotation
