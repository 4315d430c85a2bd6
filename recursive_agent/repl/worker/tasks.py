"""The tasks of the agent's code."""

from __future__ import annotations

import asyncio
from typing import Any


class Task(asyncio.Task[Any]):
    """A task whose hash is its number, not its address: sets of tasks have the same order in a replay."""

    def __init__(self, coro: Any, *, number: int = 0, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        """Its number."""
        return self._number
