"""A node's REPL, opened while the model works on its first answer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from .concurrency import settled
from .errors import SandboxError, described
from .repl.base import Repl

CLOSE_SECONDS = 5.0
"""How long a node waits for its REPL to close; what still hangs then (a tool that takes no cancellation) is left."""


class Workplace:
    """The node's REPL, opened while the model works on its first answer."""

    def __init__(self, tasks: TaskGroup, open_repl: Callable[[], Awaitable[Repl]]) -> None:
        self._tasks = tasks
        self._open_repl = open_repl
        self._repl: Repl | None = None
        self._ready: anyio.Event | None = None
        self._failure: SandboxError | None = None

    def prepare(self) -> None:
        """Begin to open the REPL, once."""
        if self._ready is None:
            self._ready = anyio.Event()
            self._tasks.start_soon(self._open, self._ready)

    async def _open(self, ready: anyio.Event) -> None:
        try:
            self._repl = await self._open_repl()
        except SandboxError as error:
            self._failure = error
        except Exception as error:  # a sandbox may be anybody's
            self._failure = SandboxError(f"the sandbox could not open an interpreter ({described(error)})")
            self._failure.__cause__ = error
        finally:
            ready.set()

    async def repl(self) -> Repl:
        """The REPL. Raises SandboxError if none could be opened."""
        self.prepare()
        if self._ready is not None:
            await self._ready.wait()
        if self._repl is not None:
            return self._repl
        if self._failure is None and anyio.current_effective_deadline() == -math.inf:
            await (
                anyio.sleep_forever()
            )  # the opening was cancelled, and so is this; the cancellation is still to arrive
        raise self._failure or SandboxError("the sandbox gave no interpreter")

    async def aclose(self) -> None:
        """Close the REPL if there is one, within `CLOSE_SECONDS`. Never raises: the agent has ended as it has."""
        if self._repl is None:
            return
        # In a task of its own, for closing is shielded from cancellation.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await settled(self._repl.aclose, grace=0)
