"""The actor: it holds an open sandbox, an environment and a model, and runs attempts one beside the other.

Ray runs its methods on an event loop of the actor's own. Nothing is imported from Ray here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread

from recursive_agent import Result
from recursive_agent.errors import RaoError, documented
from recursive_agent.model.base import Model
from recursive_agent.repl import Sandbox, make_sandbox
from recursive_agent.sizes import rare_collections
from recursive_agent.trace.folder import SUFFIX

from ...envs.base import Environment, Session
from ...scoring.attempts import questions_of
from ..many import PlannedAttempt, run_attempt
from ..measuring import measured
from .job import Ended, Failed, Job, Opened, Order, Policy
from .recipe import adopt


class AttemptActor:
    """Runs the attempts of one job. `open` comes first, `close` last."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._number = 0
        self._adopting = asyncio.Lock()
        self._closing = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"rao attempts at {self._job.environment.name}"

    async def open(self, policy: Policy) -> Opened | Failed:
        """Make the environment and the model, and open the sandbox."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # What is opened in a task must be closed in the same one, and Ray gives each call its own.
        self._life = asyncio.create_task(self._live(policy, ready))
        try:
            await ready
        except RaoError as error:
            return Failed.of(error)
        return Opened(host=socket.gethostname(), pid=os.getpid())

    async def attempt(self, order: Order, policy: Policy) -> Ended | Failed:
        """Run one attempt, by the newest policy that is known here."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            await self.adopt(policy)
            return await self._run(order, folder)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))

    async def adopt(self, policy: Policy) -> None:
        """Go on with this policy, attempts under way included, unless a newer one is known."""
        async with self._adopting:
            if policy.number <= self._number:
                return
            weights = None if policy.weights is None else await policy.weights
            await adopt(self._model, policy.states, weights)
            self._number = policy.number

    async def close(self) -> None:
        """Close the sandbox and the model."""
        self._closing.set()
        if self._life is not None:
            await self._life

    async def _live(self, policy: Policy, ready: asyncio.Future[None]) -> None:
        try:
            here = self._job.directory
            with suppress(OSError):  # a machine that does not have it has installed what it needs
                os.chdir(here)
                if here not in sys.path:
                    sys.path.insert(0, here)
            with tempfile.TemporaryDirectory(prefix="rao-ray-") as folder:
                self._folder = Path(folder)
                self._environment: Environment = self._job.environment.make()
                self._model: Model = await self._make_model(policy)
                try:
                    async with make_sandbox(self._job.sandbox, require=self._job.require) as sandbox:
                        self._sandbox: Sandbox = sandbox
                        ready.set_result(None)
                        with rare_collections():
                            await self._closing.wait()
                finally:
                    await self._model.aclose()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(documented(error))

    async def _make_model(self, policy: Policy) -> Model:
        folder = self._folder / "model"
        folder.mkdir()
        weights = None if policy.weights is None else await policy.weights
        model = self._job.recipe.make(folder, weights)
        await adopt(model, policy.states, None)
        self._number = policy.number
        return model

    async def _run(self, order: Order, folder: Path) -> Ended | Failed:
        sessions: list[Session] = []
        plan = PlannedAttempt(task=order.task, group=order.group, seed=order.seed)
        settings = replace(order.settings, trace_dir=folder, sandbox=self._sandbox)
        try:
            result: Result = await run_attempt(
                self._environment, plan, self._model, settings, on_session=lambda _, session: sessions.append(session)
            )
        except Exception as error:
            return Failed.of(documented(error), *await anyio.to_thread.run_sync(_trace_in, folder))
        file, trace = await anyio.to_thread.run_sync(_trace_in, folder)
        if file is None:
            raise RuntimeError("the attempt left no trace")
        return Ended(
            file=file,
            trace=trace,
            metrics={} if result.status.external else measured(sessions[0], result.tree.root),
            questions=questions_of(sessions[0], result.tree.root) if order.judged else {},
            reason=result.reason,
            trace_error=result.trace_error,
        )


def _trace_in(folder: Path) -> tuple[str | None, bytes]:
    for path in folder.glob(f"*{SUFFIX}"):
        return path.name, path.read_bytes()
    return None, b""
