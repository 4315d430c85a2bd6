"""`--returns TYPE`: a type as people write it, or a JSON schema."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, Literal, Optional, Union

from recursive_agent.errors import ConfigurationError

_NAMES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "None": None,
    "Any": Any,
    "Literal": Literal,
    "Optional": Optional,
    "Union": Union,
}


def parse_type(text: str) -> Any:
    """A type such as `int`, `list[str]`, `dict[str, int] | None`, a JSON schema, or a .json file that holds one.

    Nothing is evaluated. Raises ConfigurationError for anything else.
    """
    text = text.strip()
    if text.startswith("{"):
        return _schema(text, "--returns")
    if text.endswith(".json"):
        try:
            return _schema(Path(text).read_text("utf-8"), text)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise ConfigurationError(f"--returns: {text} cannot be read ({reason})") from error
    try:
        return _build(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, ValueError, KeyError, RecursionError):
        raise ConfigurationError(
            f"--returns takes a type such as int, list[str] or 'dict[str, int] | None', or a JSON schema, not {text!r}"
        ) from None


def _schema(text: str, where: str) -> dict[str, Any]:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{where} is not a JSON schema: {error}") from error
    if not isinstance(schema, dict):
        raise ConfigurationError(f"{where} is not a JSON schema: it must be a JSON object")
    return schema


def _build(node: ast.expr) -> Any:
    match node:
        case ast.Name(id=name):
            return _NAMES[name]
        case ast.Constant(value=None):
            return None
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return Literal[tuple(ast.literal_eval(item) for item in items)]
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, ast.Constant(value=value)])) if (
            value is ...
        ):
            return _NAMES["tuple"][_build(item), ...]
        case ast.Subscript(value=outer, slice=ast.Tuple(elts=items)):
            return _build(outer)[tuple(_build(item) for item in items)]
        case ast.Subscript(value=outer, slice=inner):
            return _build(outer)[_build(inner)]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_build(left), _build(right)]  # noqa: UP007 - built at run time, from any two types
    raise ValueError(f"{ast.dump(node)} is no type")
