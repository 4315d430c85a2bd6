"""Arguments of environments as texts: on the command line (`NAME=VALUE`), and in what a job records of its environment."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias, get_args, get_type_hints
from urllib.parse import parse_qsl, urlencode

from pydantic import TypeAdapter, ValidationError

from recursive_agent.errors import ConfigurationError

from ..bounds import fault

Plain: TypeAlias = str | int | float | bool | None
"""What an argument of an environment can be, so that a command line, `agent.json` and a log can hold it."""
_NONE = "null"
_WORDS: Mapping[str, bool] = {"true": True, "false": False}


def plain_value(text: str) -> Plain:
    """A text as a value: a number, `true` or `false`; anything else, and what stands in quotes, is a text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = json.loads(text, parse_constant=lambda name: name)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)) else text


def as_text(value: Plain) -> str:
    """The text that `plain_value` reads as this value."""
    if isinstance(value, str) and value != _NONE and plain_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def as_texts(arguments: Mapping[str, Plain]) -> list[str]:
    """Arguments as `NAME=VALUE`, sorted by name: equal lists are equal arguments."""
    return [f"{name}={as_text(value)}" for name, value in sorted(arguments.items())]


def read_arguments(name: str, factory: Callable[..., Any], texts: Sequence[str], *, option: str) -> dict[str, Plain]:
    """The arguments that texts such as `scoring=strict` say, for the environment `name` that `factory` makes.

    A value is read as the factory annotates its parameter; without an annotation as in `plain_value`. Raises
    ConfigurationError, naming the command-line `option`, for a text of another form, a name that the factory does not take
    or that comes twice, and a value that does not fit the annotation.
    """
    parameters = _parameters(factory)
    hints = _hints(factory)
    arguments: dict[str, Plain] = {}
    for text in texts:
        argument, equals, value = text.partition("=")
        argument = argument.strip()
        if not equals or not argument.isidentifier():
            raise ConfigurationError(f"{option} takes NAME=VALUE, not {text!r}")
        if argument in arguments:
            raise ConfigurationError(f"{option} gives {argument} twice; leave out one of them")
        if parameters is not None and argument not in parameters:
            raise ConfigurationError(f"{option}: {name} has no argument {argument!r}; {_choice(argument, parameters)}")
        hint = hints.get(argument, Any)
        try:
            arguments[argument] = _read(value.strip(), hint)
        except ValidationError as error:
            said = fault(error.errors()[-1])
            raise ConfigurationError(f"{option} {argument}={value}: {said[0].lower()}{said[1:]}") from None
    return arguments


def label(name: str, arguments: Mapping[str, Plain]) -> str:
    """The name of an environment with its arguments, in one word: `oolong?data=%2Fdata&scoring=strict`."""
    pairs = {argument: as_text(value) for argument, value in sorted(arguments.items())}
    return f"{name}?{urlencode(pairs)}" if pairs else name


def from_label(text: str) -> tuple[str, dict[str, Plain]]:
    """Name and arguments of a `label`."""
    name, _, query = text.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    return name, {argument: None if value == _NONE else plain_value(value) for argument, value in pairs}


def _read(text: str, hint: Any) -> Plain:
    """The value as annotated: first as a plain value, then as the text that it is (`data=2024` is a folder)."""
    if text.lower() == "none" and type(None) in get_args(hint):
        return None
    value = plain_value(text)
    if hint is Any:
        return value
    reader: TypeAdapter[Any] = TypeAdapter(hint)
    try:
        reader.validate_python(value, strict=True)
    except ValidationError:
        fits = reader.validate_python(text if isinstance(value, int | float) else value)
        return fits if isinstance(fits, bool | int | float) else text if isinstance(value, int | float) else value
    return value


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """The parameters by name; None where any name is taken, or none can be read."""
    try:
        found = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return None
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in found.values()):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    return {name: each for name, each in found.items() if each.kind not in positional}


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that can be checked, by parameter."""
    function = factory.__init__ if inspect.isclass(factory) else factory
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # names that exist for type checkers only
        return {}
    checked = {}
    for name, hint in hints.items():
        try:
            TypeAdapter(hint)
        except Exception:  # a type that pydantic does not know
            continue
        checked[name] = hint
    return checked


def _choice(argument: str, parameters: Mapping[str, object]) -> str:
    if not parameters:
        return "it takes none"
    close = get_close_matches(argument, parameters, 1)
    return f"did you mean {close[0]}?" if close else f"it takes {', '.join(parameters)}"
