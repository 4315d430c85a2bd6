"""The arguments of a call: by the server's names, and checked against its schema before they leave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..schemas import Schema
from ..tools import ToolFailed
from .described import Parameters


def bound(tool: str, parameters: Parameters, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by the server's names. Raises ToolFailed with what is wrong in an agent's words."""
    names = list(parameters.names)
    if len(args) > len(names):
        raise ToolFailed(f"{tool}() takes {len(names)} positional arguments, {len(args)} were given")
    given = dict(zip(names, args, strict=False))
    originals = {original: python for python, original in parameters.names.items()}
    others: dict[str, Any] = {}
    for name, value in kwargs.items():
        python = name if name in parameters.names else originals.get(name)
        if python is None:
            if not parameters.more:
                raise ToolFailed(f"{tool}() got an unexpected argument {name!r:.80}")
            others[name] = value
        elif python in given:
            raise ToolFailed(f"{tool}() got multiple values for argument {name!r:.80}")
        else:
            given[python] = value
    if missing := [name for name in names if name in parameters.required and name not in given]:
        raise ToolFailed(f"{tool}() lacks the argument {', '.join(missing)}")
    if parameters.whole:
        (whole,) = given.values()
        if not isinstance(whole, dict):
            raise ToolFailed(f"{tool}() takes one dict with all arguments")
        return whole
    return {
        parameters.names[name]: value
        for name, value in given.items()
        if value is not None or name in parameters.required or name in parameters.nullable
    } | others


def check_json(tool: str, arguments: Mapping[str, Any]) -> None:
    """Raises ToolFailed where arguments hold what JSON cannot say."""
    waiting: list[tuple[str, Any]] = list(arguments.items())
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ToolFailed(f"{tool}(): the dict in {where} has keys that are no texts")
            waiting.extend((where, each) for each in value.values())
        elif isinstance(value, list | tuple):
            waiting.extend((where, each) for each in value)
        elif isinstance(value, bytes):
            raise ToolFailed(f"{tool}(): {where} holds bytes, which cannot be sent: decode them, or use base64")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ToolFailed(f"{tool}(): {where} holds {value}, which JSON does not have")
        elif not (value is None or isinstance(value, str | int | float)):
            raise ToolFailed(f"{tool}(): {where} holds a {type(value).__name__}, which cannot be sent")


def schema_for(schema: Mapping[str, Any]) -> Schema | None:
    """The schema to check arguments against; None where it cannot be used here, and the server alone checks."""
    try:
        return Schema(dict(schema))
    except ValueError:
        return None
