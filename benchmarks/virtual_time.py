"""A clock that nobody waits for: an event loop whose time jumps to the next thing that is to happen."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class _NoWaiting(selectors.DefaultSelector):
    """Moves the clock on instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and timeout is not None:
            self.now += max(0.0, timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next thing that happens; for code without threads and sockets."""

    def __init__(self) -> None:
        self._virtual = _NoWaiting()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run_virtually(function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function on a clock of its own, in no time."""
    return anyio.run(function, backend_options={"loop_factory": VirtualLoop})
