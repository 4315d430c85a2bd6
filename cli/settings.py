"""Settings of training by name: `--set credit.baseline=depth`, checked against the dataclasses they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rao_rl.bounds import fault
from rao_rl.config import current_name
from recursive_agent.errors import ConfigurationError


def parse(given: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` (section name to dataclass instance) with what `section.name=value` texts say.

    Raises ConfigurationError for an unknown name and for a value of another kind.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in defaults}
    for text in given:
        name, equals, value = text.partition("=")
        section, _, field = current_name(name.strip()).partition(".")
        known = [item.name for item in fields(defaults[section])] if section in defaults else []
        if not equals or field not in known:
            raise ConfigurationError(
                f"--set takes NAME=VALUE, and {name!r} is not a setting; `rao train --settings` lists them"
                + _suggestion(name.strip(), defaults)
            )
        changes[section][field] = _read(value.strip(), get_type_hints(type(defaults[section]))[field])
    made = {}
    for section, default in defaults.items():
        kept = {item.name: getattr(default, item.name) for item in fields(default)}
        try:
            made[section] = TypeAdapter(type(default)).validate_python({**kept, **changes[section]})
        except ValidationError as error:
            raise ConfigurationError(_refusal(section, error)) from None
    return made


def _refusal(section: str, error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, (section, *first["loc"])))
    if first["type"] == "value_error":  # of the configuration itself, whose sentence names the setting
        return f"--set {place}: {first['ctx']['error']}"
    return f"--set {place}: {fault(first)}, not {first['input']!r}"


def _suggestion(name: str, defaults: Mapping[str, Any]) -> str:
    """The setting that was probably meant, where there is one."""
    known = [f"{section}.{item.name}" for section, default in defaults.items() for item in fields(default)]
    bare = {full.partition(".")[2]: full for full in reversed(known)}
    close = get_close_matches(name, known, 1, 0.75) or [bare[each] for each in get_close_matches(name, bare, 1, 0.75)]
    if not close:  # the right name in another section
        close = [bare[each] for each in get_close_matches(name.partition(".")[2], bare, 1, 0.85)]
    return f" (did you mean {close[0]}?)" if close else ""


def listing(defaults: Mapping[str, Any]) -> str:
    """Every setting with its default, a line each."""
    return "\n".join(
        f"{section}.{item.name}={_shown(getattr(default, item.name))}"
        for section, default in defaults.items()
        for item in fields(default)
    )


def _read(text: str, kind: Any) -> Any:
    """`none` stands for None where a setting may be None; several values stand behind each other, with commas."""
    if text.lower() == "none" and type(None) in get_args(kind):
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip()) if get_origin(kind) is tuple else text


def _shown(value: Any) -> str:
    """What `_read` reads."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)
