"""`returns=` of `launch_subagent`: a type that the agent's code can name becomes a JSON schema and a way back."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Union

from .fits import MAX_BYTES, MAX_DEPTH, MAX_VALUES, check_schema, show
from .outgoing import plain_copy

Build = Callable[[Any], Any]

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


class Returned(NamedTuple):
    """What a sub-agent is to return: the schema of its plain value, and the way from there to the agent's type."""

    schema: dict[str, Any]
    build: Build


def read_returns(wanted: Any) -> Returned:
    """`returns=` as the agent gave it, checked, with a schema of plain data alone. Raises TypeError with what is wrong."""
    try:
        described, build = describe_type(wanted)
        schema = plain_copy("returns", described, MAX_BYTES, MAX_VALUES, MAX_DEPTH)
    except ValueError as error:
        raise TypeError(str(error)) from None
    check_schema(schema)
    return Returned(schema, build)


def _same(value: Any) -> Any:
    return value


def describe_type(wanted: Any, path: tuple[Any, ...] = ()) -> tuple[dict[str, Any], Build]:
    """`(JSON schema, function that makes the host's plain value into one of the type)`.

    Raises TypeError for what has no JSON schema.
    """
    if isinstance(wanted, Mapping):
        if any(isinstance(value, type) or typing.get_origin(value) is not None for value in wanted.values()):
            raise TypeError(
                "returns: a dict is a JSON schema, such as {'type': 'object', 'properties': {'n': {'type': 'integer'}}}; to "
                "name types write a dataclass"
            )
        return dict(wanted), _same
    if isinstance(wanted, str) and wanted in _NAMES:  # an annotation given as text; never evaluated
        wanted = _NAMES[wanted]
    if isinstance(wanted, str):
        raise TypeError(
            f"returns: {show(wanted)} is text, and text is never evaluated: give the type itself, without quotes"
        )
    if _is_hashable(wanted) and wanted in _PRIMITIVES:
        return dict(_PRIMITIVES[wanted]), _SEQUENCES.get(wanted, tuple if wanted is tuple else _same)
    if wanted in path:
        raise TypeError(f"returns={_short(wanted)} contains itself: give a JSON schema instead")
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    inner = (*path, wanted)
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
    if isinstance(wanted, type):
        return _class(wanted, inner)
    raise TypeError(
        f"returns={_short(wanted)} is not a type that can be described: use list[str], a dataclass or a JSON schema"
    )


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


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


def _class(wanted: type, path: tuple[Any, ...]) -> tuple[dict[str, Any], Build]:
    if issubclass(wanted, enum.Enum):
        return {"enum": [member.value for member in wanted]}, wanted
    if dataclasses.is_dataclass(wanted):
        fields = [field for field in dataclasses.fields(wanted) if field.init]
        annotations = {field.name: field.type for field in fields}
        optional = {
            f.name
            for f in fields
            if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        }
    elif typing.is_typeddict(wanted) or (issubclass(wanted, tuple) and hasattr(wanted, "_fields")):
        annotations = dict(wanted.__annotations__) or dict.fromkeys(getattr(wanted, "_fields", ()), Any)
        optional = set(getattr(wanted, "__optional_keys__", ())) | set(getattr(wanted, "_field_defaults", ()))
    else:
        raise TypeError(f"returns={wanted.__name__:.200} is no dataclass: use list[str], a dataclass or a JSON schema")
    parts = {name: describe_type(_unwrap(annotation), path) for name, annotation in annotations.items()}
    schema = {
        "type": "object",
        "title": wanted.__name__,
        "properties": {name: part for name, (part, _) in parts.items()},
        "required": [name for name in parts if name not in optional],
        "additionalProperties": False,
    }
    return schema, lambda value: wanted(**{name: parts[name][1](item) for name, item in value.items()})


def _unwrap(annotation: Any) -> Any:
    """The type itself where typing made a forward reference or a Required[...] of it."""
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if typing.get_origin(annotation) in (typing.Required, typing.NotRequired, typing.ClassVar, typing.Final):
        return typing.get_args(annotation)[0]
    return annotation
