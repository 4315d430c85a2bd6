"""Settings of training by name: `--set credit.baseline=depth`, checked against the dataclasses they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from recursive_agent.errors import ConfigurationError


def parse(given: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` (section name to dataclass instance) with what `section.name=value` texts say.

    Raises ConfigurationError for an unknown name and for a value of another kind.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in defaults}
    for text in given:
        name, equals, value = text.partition("=")
        section, _, field = name.strip().partition(".")
        known = [item.name for item in fields(defaults[section])] if section in defaults else []
        if not equals or field not in known:
            raise ConfigurationError(
                f"--set takes NAME=VALUE, and {name!r} is no setting; `rao train --settings` lists them"
            )
        changes[section][field] = None if value.strip().lower() == "none" else value.strip()
    made = {}
    for section, default in defaults.items():
        kept = {item.name: getattr(default, item.name) for item in fields(default)}
        try:
            made[section] = TypeAdapter(type(default)).validate_python({**kept, **changes[section]})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, (section, *first["loc"])))
            raise ConfigurationError(f"--set {place}: {first['msg']}, not {first['input']!r}") from None
    return made


def listing(defaults: Mapping[str, Any]) -> str:
    """Every setting with its default, a line each."""
    return "\n".join(
        f"{section}.{item.name}={'none' if (value := getattr(default, item.name)) is None else value}"
        for section, default in defaults.items()
        for item in fields(default)
    )
