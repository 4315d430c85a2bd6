"""Checks of a caller's settings; each raises ConfigurationError in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ConfigurationError
from .limits import Limits, Prices
from .model.base import Sampling


def check_prices(limits: Limits, prices: Prices | None) -> None:
    """A limit of cost needs prices."""
    if limits.max_cost is not None and prices is None:
        raise ConfigurationError("Limits.max_cost needs prices={'prompt': …, 'completion': …} (per million tokens)")


def sampling_over(own: Sampling, changes: Mapping[str, Any] | None) -> Sampling:
    """`own` with the settings of a plain mapping on top."""
    try:
        sampling = own.updated(changes)
        json.dumps(sampling.extra)  # goes into every request
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"sampling: {error}") from error
    return sampling


def seconds(name: str, value: float | None) -> float | None:
    """A number of seconds above 0, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name} must be a number of seconds above 0, not {value!r}")
    return float(value)


def of_kind(name: str, value: Any, kind: Any, meant: str) -> None:
    """None, or an instance of `kind`; `meant` describes that in words."""
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be {meant}, not {value!r:.80}")


def is_whole(value: Any) -> bool:
    """Whether a value is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """One of these values."""
    if value not in (known := tuple(choices)):
        raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
