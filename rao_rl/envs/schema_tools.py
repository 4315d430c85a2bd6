"""Tools that another package describes by a JSON schema, as typed functions that agents can call."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from recursive_agent.errors import ConfigurationError
from recursive_agent.tools import RESERVED, ToolContext

Call: TypeAlias = Callable[[dict[str, Any], ToolContext], Any]
"""Carries out a call of a tool: its arguments by name, and the agent that calls it."""
_PLAIN: Mapping[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
_CONTEXT = "tool_context"


def schema_tool(
    environment: str, name: str, description: str, schema: Mapping[str, Any], call: Call, *, hidden: Sequence[str] = ()
) -> Callable[..., Any]:
    """A function `name` whose parameters are the properties of `schema`, without the `hidden` ones.

    Types that Python can say are checked before `call`; anything else is left to the other side. Raises ConfigurationError
    where agents could not call it: by its name, or by that of a parameter.
    """
    _check_name(environment, "a tool", name, RESERVED)
    properties = {key: part for key, part in _object(schema.get("properties")).items() if key not in hidden}
    required = [key for key in schema.get("required") or () if key in properties]
    fixed = {key: part["const"] for key, part in properties.items() if isinstance(part, Mapping) and "const" in part}
    parameters, hints = [], {}
    for key in sorted(
        properties.keys() - fixed.keys(), key=lambda key: (key not in required, list(properties).index(key))
    ):
        _check_name(environment, f"a parameter of the tool {name}", key, {_CONTEXT})
        part = _object(properties[key])
        hint: Any = _annotation(part, schema)
        default: Any = inspect.Parameter.empty
        if key not in required:
            default = part.get("default")
            if default is None and hint is not Any:
                hint = hint | None
        if text := part.get("description"):
            hint = Annotated[hint, Field(description=str(text))]
        hints[key] = hint
        parameters.append(
            inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=hint)
        )
    hints[_CONTEXT] = ToolContext
    parameters.append(inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=ToolContext))
    signature = inspect.Signature(parameters, return_annotation=Any)

    def function(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs).arguments
        context = bound.pop(_CONTEXT)
        # What was left out, or None where nothing else was to be said, is the other side's default.
        said = {key: value for key, value in bound.items() if key in required or value is not None}
        return call({**fixed, **said}, context)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = description
    function.__annotations__ = {**hints, "return": Any}
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _check_name(environment: str, what: str, name: object, taken: Sequence[str] | frozenset[str] | set[str]) -> None:
    if (
        not isinstance(name, str)
        or not name.isidentifier()
        or keyword.iskeyword(name)
        or name.startswith("_")
        or name in taken
    ):
        raise ConfigurationError(
            f"{environment}: {what} is called {name!r:.80}, which agents cannot write in Python or which rao uses itself; "
            "rename it in that package"
        )


def _annotation(part: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Any:
    """The Python type of a schema, as far as there is one; Any elsewhere."""
    if depth > 8:  # a type that holds itself
        return Any
    if isinstance(reference := part.get("$ref"), str):
        return _annotation(_resolved(reference, root), root, depth + 1)
    choices = part.get("enum")
    if isinstance(choices, list) and choices and all(isinstance(each, str | int | bool | None) for each in choices):
        return Literal[tuple(choices)]
    for key in ("anyOf", "oneOf"):
        if isinstance(options := part.get(key), list) and options:
            return _union([_annotation(_object(each), root, depth + 1) for each in options])
    kind = part.get("type")
    if isinstance(kind, list) and kind:
        return _union([_annotation({**part, "type": each}, root, depth + 1) for each in kind])
    if kind == "array":
        item = _annotation(_object(part.get("items")), root, depth + 1)
        return list[item]  # type: ignore[valid-type]
    if kind == "object":
        return dict[str, Any]
    return _PLAIN.get(kind, Any) if isinstance(kind, str) else Any


def _union(hints: Sequence[Any]) -> Any:
    return Any if Any in hints else reduce(or_, (type(None) if hint is None else hint for hint in hints))


def _resolved(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = _object(found).get(step)
    return _object(found)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
