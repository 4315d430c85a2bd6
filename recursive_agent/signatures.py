"""A tool in Python's words: its signature, what its parameters mean, and the classes it takes, field by field.

Agents have none of the caller's classes: they pass dicts, and the values of enums. So what a prompt must say of a class is
its fields, their types and their bounds.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_MOST_CHARS = 120
"""Characters of a default."""
_MOST_CHOICES = 40
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "matching {}",
    "format": "{}",
}
_NAMES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None", "array": "list",
          "object": "dict"}  # fmt: skip


class Described(typing.NamedTuple):
    """What a prompt says of a tool."""

    signature: str
    parameters: list[str]
    """A line for each parameter that has more to it than its type."""
    classes: dict[str, list[str]]
    """Of each class that the tool takes or gives, by its name: the lines that say what it holds."""


def describe_function(
    name: str, signature: inspect.Signature, hints: Mapping[str, Any], hidden: str | None
) -> Described:
    """The signature of a function as agents are to see it, without the parameter `hidden`."""
    shown, notes = [], []
    found: dict[str, list[str]] = {}
    for parameter in signature.parameters.values():
        if parameter.name == hidden:
            continue
        hint = hints.get(parameter.name, parameter.annotation)
        default = parameter.default
        if isinstance(default, FieldInfo):
            hint, default = typing.Annotated[hint, default], _default_of(default)
        elif default is not inspect.Parameter.empty:
            default = _Text(shown_default(default))
        texts = _notes(hint)
        if texts:
            notes.append(f"{parameter.name}: {'; '.join(texts)}")
        _collect(hint, found)
        shown.append(parameter.replace(annotation=_annotation(hint), default=default))
    returned = hints.get("return", signature.return_annotation)
    _collect(returned, found)
    spelt = signature.replace(parameters=shown, return_annotation=_annotation(returned))
    return Described(f"{name}{spelt}", notes, found)


class _Text:
    """Shows as a text without quotes, as an annotation and as a default."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _annotation(hint: Any) -> Any:
    return hint if hint is inspect.Parameter.empty else _Text(type_name(hint))


def type_name(hint: Any) -> str:
    """A type as an agent would write it: without modules, and without what only describes it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is None or hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if isinstance(hint, str):
        return hint
    if isinstance(hint, typing.ForwardRef):
        return hint.__forward_arg__
    if isinstance(hint, list):  # the arguments of a Callable
        return f"[{', '.join(map(type_name, hint))}]"
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(repr(_plain_choice(item)) for item in arguments)}]"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(type_name, arguments)))
    if origin is not None and arguments:
        return f"{getattr(origin, '__name__', str(origin))}[{', '.join(map(type_name, arguments))}]"
    if isinstance(hint, type):
        return hint.__name__
    return getattr(hint, "__name__", None) or str(hint).removeprefix("typing.")


def _default_of(field: FieldInfo) -> Any:
    if field.default_factory is not None:
        return _Text("…")
    required = field.default is PydanticUndefined or field.default is Ellipsis
    return inspect.Parameter.empty if required else _Text(shown_default(field.default))


def shown_default(value: Any) -> str:
    """A value in Python's words, if it has such; an object of another kind is only said to be there."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if type(value) not in (bool, int, float, str, bytes, list, tuple, dict, set, frozenset, type(None)):
        return "…"
    try:
        text = repr(value)
    except Exception:  # something inside has a repr of its own
        return "…"
    return text if len(text) <= _MOST_CHARS and " object at 0x" not in text else "…"


def _notes(hint: Any) -> list[str]:
    """What stands beside a type in `Annotated[...]`: descriptions and bounds."""
    if get_origin(hint) is not typing.Annotated:
        return []
    texts = []
    for item in get_args(hint)[1:]:
        text = (
            item
            if isinstance(item, str)
            else getattr(item, "description", None) or getattr(item, "documentation", None)
        )
        if isinstance(text, str) and text.strip():
            texts.append(" ".join(text.split()))
    return [*texts, *bounds_of(_schema(hint) or {})]


# -- classes ----------------------------------------------------------------------------------------------------------


def _collect(hint: Any, found: dict[str, list[str]]) -> None:
    """The classes inside a type, each once, with those inside them."""
    if get_origin(hint) is typing.Annotated:
        hint = get_args(hint)[0]
    if isinstance(hint, type) and not get_args(hint) and _has_fields(hint):
        schema = _schema(hint)
        if schema is None:
            return
        known = dict(schema.get("$defs", {}))
        if "$ref" not in schema:
            known = {hint.__name__: {key: value for key, value in schema.items() if key != "$defs"}, **known}
        for name, part in known.items():
            found.setdefault(_plain_name(name, part), list(class_lines(part)))
        return
    for argument in get_args(hint):
        if not isinstance(argument, str):
            _collect(argument, found)


def _has_fields(kind: type) -> bool:
    return (
        issubclass(kind, BaseModel | enum.Enum)
        or is_dataclass(kind)
        or typing.is_typeddict(kind)
        or _is_typeddict(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    )


def _is_typeddict(kind: type) -> bool:
    import typing_extensions

    return typing_extensions.is_typeddict(kind)


def _schema(hint: Any) -> dict[str, Any] | None:
    """The JSON schema of a type, None where it has none."""
    try:
        return TypeAdapter(hint).json_schema()
    except Exception:  # pydantic says in many ways that a type is not for JSON
        return None


def _plain_name(name: str, schema: Mapping[str, Any]) -> str:
    """`Report`, not `__main____Report`: pydantic's own names where two classes share one."""
    return name if name.isidentifier() and "__" not in name else str(schema.get("title", name))


def class_lines(schema: Mapping[str, Any]) -> Iterator[str]:
    """Lines that say what a class holds; the first ends the line with its name."""
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if choices is not None:
        more = ", …" if len(choices) > _MOST_CHOICES else ""
        yield f"one of {', '.join(map(repr, choices[:_MOST_CHOICES]))}{more}"
        return
    fields = schema.get("properties")
    if not isinstance(fields, Mapping):
        yield schema_name(schema)
        return
    about = schema.get("description")
    yield f"a dict{f': {_first_line(about)}' if about and not about.startswith('!') else ''}"
    required = set(schema.get("required", ()))
    for name, field in fields.items():
        default = (
            f" = {shown_default(field['default'])}"
            if "default" in field
            else ("" if name in required else " (optional)")
        )
        texts = [_first_line(field["description"])] if "description" in field else []
        texts += bounds_of(field)
        comment = f"  # {'; '.join(texts)}" if texts else ""
        yield f"    {name}: {schema_name(field)}{default}{comment}"


def schema_name(schema: Any) -> str:
    """A JSON schema as a type of Python."""
    if not isinstance(schema, Mapping) or not schema:
        return "Any"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema or "const" in schema:
        choices: Sequence[Any] = schema.get("enum", [schema.get("const")])
        return (
            f"Literal[{', '.join(map(repr, choices[:_MOST_CHOICES]))}{', …' if len(choices) > _MOST_CHOICES else ''}]"
        )
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return " | ".join(dict.fromkeys(map(schema_name, schema[key])))
    if isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1:
        return schema_name(schema["allOf"][0])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_NAMES.get(str(item), str(item)) for item in kind)
    if kind == "array":
        if isinstance(schema.get("prefixItems"), list):
            return f"tuple[{', '.join(map(schema_name, schema['prefixItems']))}]"
        return f"list[{schema_name(schema['items'])}]" if schema.get("items") else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"dict[str, {schema_name(schema['additionalProperties'])}]"
    return _NAMES.get(str(kind), "Any")


def bounds_of(schema: Mapping[str, Any]) -> Iterator[str]:
    """What a schema asks of a value beside its type, in words."""
    for part in [schema, *(item for item in schema.get("anyOf", ()) if isinstance(item, Mapping))]:
        for key, words in _BOUNDS.items():
            if key in part:
                yield words.format(part[key])


def _first_line(text: str) -> str:
    return " ".join(str(text).split("\n\n")[0].split())


def _plain_choice(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value
