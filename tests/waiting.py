"""Waiting in tests: for a condition, and never for a time."""

from collections.abc import Callable

import anyio

PATIENCE = 60.0
"""Seconds for what must happen, however busy the machine: too many to be reached, few enough for a test that hangs to end."""


async def until(condition: Callable[[], object]) -> None:
    """Return once `condition()` holds."""
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.005)
