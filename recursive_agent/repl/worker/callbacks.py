"""Callbacks that agents add to tasks and futures.

asyncio keeps them beside its own, and compares them with its own when it takes one away. So each is wrapped in an object
of ours: no `__eq__` of an agent's class is asked about a callback of asyncio's, and none that lies takes one away.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


class Callback:
    """A function of the agent's, equal to another callback of the same function alone."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function

    def __call__(self, future: Any) -> None:
        """Call the function, as asyncio does when the future is done."""
        self._function(future)

    def __eq__(self, other: object) -> bool:
        return type(other) is Callback and _same(self._function, other._function)

    def __hash__(self) -> int:
        return id(self._function)

    def __repr__(self) -> str:
        return "<callback>"


def _same(one: Any, other: Any) -> bool:
    """Whether two functions are the same: by identity, and methods by what they are made of."""
    if type(one) is types.MethodType and type(other) is types.MethodType:
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    if type(one) is types.BuiltinMethodType and type(other) is types.BuiltinMethodType:
        return one.__self__ is other.__self__ and one.__name__ == other.__name__
    return one is other


def _callback(function: Any) -> Callback:
    if not callable(function):
        raise TypeError(f"a callback must be a function or a method, not {type(function).__name__}")
    return Callback(function)


def add_done_callback(future: Any) -> Callable[[Any], None]:
    """What agents read as `future.add_done_callback`."""

    def add_done_callback(function: Any, /) -> None:
        future.add_done_callback(_callback(function))

    return add_done_callback


def remove_done_callback(future: Any) -> Callable[[Any], int]:
    """What agents read as `future.remove_done_callback`."""

    def remove_done_callback(function: Any, /) -> int:
        removed: int = future.remove_done_callback(_callback(function))
        return removed

    return remove_done_callback
