"""Waiting in tests: for a condition, and never for a time."""

import inspect
import time
from collections.abc import Callable

import anyio

PATIENCE = 60.0
"""Seconds for what must happen, however busy the machine: too many to be reached, few enough for a test that hangs to end."""
_PAUSE = 0.005


async def until(condition: Callable[[], object]) -> None:
    """Return once `condition()` holds; it may be a coroutine function."""
    with anyio.fail_after(PATIENCE):
        while True:
            held = condition()
            if inspect.isawaitable(held):
                held = await held
            if held:
                return
            await anyio.sleep(_PAUSE)


def wait_until(condition: Callable[[], object]) -> None:
    """The same where no event loop runs, or where it may stand still meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {condition}"
        time.sleep(_PAUSE)
