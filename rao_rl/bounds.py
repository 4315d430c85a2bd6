"""The kinds of numbers that settings hold, declared beside each setting and checked when a configuration is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from recursive_agent.errors import ConfigurationError

Count = Annotated[int, Field(ge=1, le=10**12)]
"""At least 1."""
Whole = Annotated[int, Field(ge=0, le=10**12)]
"""0 or more."""
Few = Annotated[int, Field(ge=1, le=100_000)]
"""At least 1, and not so many that they could not all be held."""
Rank = Annotated[int, Field(ge=1, le=4096)]
"""A rank of a LoRA adapter."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy and torch take for a seed."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number above 0."""
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A number from 0 on."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A number from 0 to 1."""


_SAID = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
}


def check(config: Any) -> None:
    """Raises ConfigurationError, naming the setting, where a field of a dataclass does not fit its annotation."""
    kind: Any = type(config)
    for name, reader in _readers(kind).items():
        value = getattr(config, name)
        try:
            reader.validate_python(value)
        except ValidationError as error:
            said = fault(error.errors()[0])
            space = " " if said.startswith("must") else ": "
            raise ConfigurationError(f"{name}{space}{said}, not {value!r}") from None


def fault(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, of the errors of pydantic, in plain words."""
    said = _SAID.get(error["type"])
    return str(error["msg"]) if said is None else said.format(**error.get("ctx", {}))


@cache
def _readers(kind: Any) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind, include_extras=True)
    return {item.name: TypeAdapter(hints[item.name]) for item in fields(kind)}
