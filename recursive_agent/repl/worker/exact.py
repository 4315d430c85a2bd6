"""Arguments of library functions that have tables or caches of their own: exact text and numbers, never an agent's subclass.

A table that all code of a process shares must not be handed to a method of an agent's class, nor ask its `__hash__` and
`__eq__`: they could lie, and so change what other code gets from the table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_EXACT: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (bool, lambda value: value),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
)
"""How to make an exact object of a subclass's, without a method of the subclass."""


def exact(value: Any) -> Any:
    """Text or a number of an agent's own class as Python's own; anything else as it is."""
    for cls, convert in _EXACT:
        if isinstance(value, cls):
            return convert(value)
    return value


def exact_text(value: Any, what: str) -> Any:
    """Exact `str` or `bytes`; TypeError for anything else."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str | bytes):
        raise TypeError(f"the {what} must be a string, not {type(value).__name__}")
    return exact(value)


def plain_keywords(options: dict[str, Any]) -> dict[str, Any]:
    """Names of arguments that Python cannot take for others: the equality of an agent's class can lie."""
    if any(type(name) is not str for name in options):
        raise TypeError("keywords must be plain strings")
    return options


def takes_exact(function: Callable[..., Any], *texts: int) -> Callable[..., Any]:
    """`function` for agents: its arguments are exact, and those at the positions `texts` are strings."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        values = [exact(value) for value in args]
        for position in texts:
            if position < len(values):
                values[position] = exact_text(values[position], "text")
        return function(*values, **{name: exact(value) for name, value in plain_keywords(options).items()})

    del wrapped.__wrapped__
    return wrapped
