"""The driver's end: actors on a Ray cluster, and the attempts that they have."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError, TaskCancelledError

from recursive_agent import Result
from recursive_agent.errors import ConfigurationError, RaoError, RunFailed, described
from recursive_agent.model.base import Model
from recursive_agent.repl import UNSET, Require, Unset
from recursive_agent.trace.node import Node
from recursive_agent.trace.store import append_events
from recursive_agent.trace.tree import ExecutionTree

from ...envs.base import Environment, Task
from ...errors import RolloutsFailed
from ...scoring.attempts import AttemptJudge
from ..attempt import AttemptSettings, RanElsewhere
from .actor import AttemptActor
from .job import Ended, EnvironmentSource, Failed, Job, Opened, Order, Policy
from .recipe import EndpointRecipe, PoolRecipe, Recipe, ServedRecipe, recipe_of, states_of, weights_of

MOST_REPEATS = 3
"""How often an attempt is rolled out again that was lost together with its actor; the bound for opening an actor, too."""
_FIELD = re.compile(r"[a-z_]+: ")
"""A line such as `class_name: AttemptActor` in Ray's description of a dead actor."""
_PATIENCE = 60.0
"""Seconds without any actor after which that is said."""
_CLOSE_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class _Actor:
    """An actor, and how many attempts it has."""

    handle: Any
    host: str
    running: int = 0
    lost: bool = False


@dataclass(frozen=True, slots=True)
class _EndedSession:
    """Stands for the session of an attempt that an actor ran."""

    measured: Mapping[str, float]
    tools: tuple[()] = ()

    async def score(self, node: Node) -> float | None:
        """The score that its own session gave."""
        return node.score

    def metrics(self, node: Node) -> Mapping[str, float]:
        """What its own session measured."""
        return self.measured


class RayAttempts:
    """Runs attempts on the Ray cluster that this process is connected to (`cluster.connected`); an `AttemptRunner`.

    An async context manager on asyncio. `actors` processes, one CPU each, share at most `concurrency` attempts; None: as
    many as the cluster has CPUs for, or units of `resource`, and no more than `concurrency`. Each actor takes one unit of
    the custom resource `resource`, if it is given. An attempt whose actor or node is lost is rolled out again by
    another actor, up to MOST_REPEATS times; `say` is told.

    Raises ConfigurationError for a model that only this process has, and for a cluster without room for an actor.
    """

    def __init__(
        self,
        model: Model,
        environment: EnvironmentSource,
        *,
        concurrency: int,
        sandbox: str = "process",
        require: Require | Unset = UNSET,
        actors: int | None = None,
        resource: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._job = Job(
            environment=environment,
            recipe=recipe_of(model),
            sandbox=sandbox,
            require=require,
            directory=str(Path.cwd()),
        )
        self._resource = resource
        self._count = min(concurrency, _room(resource)) if actors is None else actors
        if self._count < 1:
            lacking = "CPU" if resource is None else f"resource {resource!r}"
            raise ConfigurationError(
                f"the Ray cluster has no {lacking} for an actor; start nodes that have it, or say how many actors to wait "
                "for (--ray-actors)"
            )
        self._most = math.ceil(concurrency / self._count)
        """Attempts of one actor at a time."""
        self._say = say
        self._actors: list[_Actor] = []
        self._failure: RaoError | None = None
        self._replaced = 0
        self._pushes = 0
        _check_reach(self._job.recipe)

    async def __aenter__(self) -> RayAttempts:
        self._changed = anyio.Event()
        self._job_ref: Any = ray.put(self._job)
        self._policy = await self._present_policy()
        self._group = anyio.create_task_group()
        self._tasks = await self._group.__aenter__()
        for number in range(self._count):
            self._tasks.start_soon(self._start, number)
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._tasks.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(_CLOSE_SECONDS):
                    async with anyio.create_task_group() as closing:
                        for actor in self._actors:
                            closing.start_soon(_close, actor.handle)
                for actor in self._actors:
                    ray.kill(actor.handle)
                self._actors.clear()

    async def publish(self) -> None:
        """Tell the actors what was pushed into the model: attempts under way go on with it, and later ones begin with it."""
        self._policy = policy = await self._present_policy()

        async def tell(actor: _Actor) -> None:
            with suppress(RayError):  # the attempts of an actor that is lost will notice
                await actor.handle.adopt.remote(policy)

        async with anyio.create_task_group() as telling:
            for actor in list(self._actors):
                telling.start_soon(tell, actor)

    async def run(
        self,
        environment: Environment,
        task: Task,
        model: Model,
        settings: AttemptSettings,
        *,
        seed: int,
        group: str,
    ) -> RanElsewhere:
        """See `AttemptRunner`. Raises RolloutsFailed for an attempt that was lost more than MOST_REPEATS times."""
        if model is not self._model:
            raise ConfigurationError(
                f"the actors on Ray have the model {self._model.name}, and {model.name} is another one"
            )
        plain = replace(settings, trace_dir=None, sandbox=self._job.sandbox, places=None, judge=None, runner=None)
        order = Order(task=task, settings=plain, judged=settings.judge is not None, seed=seed, group=group)
        reason = ""
        for _ in range(1 + MOST_REPEATS):
            actor = await self._take()
            try:
                answer = await self._asked(actor, order)
            except _Lost as lost:
                reason = str(lost)
                self._lose(actor, reason)
                continue
            finally:
                actor.running -= 1
                self._wake()
            return await _received(answer, settings.trace_dir, settings.judge)
        raise RolloutsFailed(
            f"an attempt at {task.id} was lost {1 + MOST_REPEATS} times together with its Ray actor ({reason}); see the log of "
            "its node, and run the command again (training: with --resume)"
        )

    async def _asked(self, actor: _Actor, order: Order) -> Ended | Failed:
        """The answer of an actor. Raises _Lost if there will be none."""
        name = f"rao attempt {self._job.environment.name}"
        try:
            ref = actor.handle.attempt.options(name=name).remote(order, self._policy)
        except RayError as error:
            raise _Lost(_line(error)) from None
        except Exception as error:  # of pickle, and of what is pickled
            raise ConfigurationError(
                f"the task {order.task.id} cannot be sent to Ray's actors ({described(error)}); its data must be picklable"
            ) from error
        try:
            answer: Ended | Failed = await ref
        except RayTaskError as error:
            if isinstance(error, TaskCancelledError):
                raise _Lost("the attempt was cancelled") from None
            raise RunFailed(f"an attempt on {actor.host} failed: {described(error.cause)}") from error
        except RayError as error:
            raise _Lost(_line(error)) from None
        except BaseException:
            ray.cancel(ref)
            raise
        return answer

    async def _take(self) -> _Actor:
        """The actor with the fewest attempts, as soon as there is one with room. It has one more from now on."""
        while True:
            if self._failure is not None:
                raise self._failure
            free = [actor for actor in self._actors if actor.running < self._most]
            if free:
                chosen = min(free, key=lambda actor: actor.running)
                chosen.running += 1
                return chosen
            await self._changed.wait()

    def _wake(self) -> None:
        """Let all who wait for an actor look again."""
        self._changed.set()
        self._changed = anyio.Event()

    def _lose(self, actor: _Actor, reason: str) -> None:
        """Take an actor out, and start another in its place. The first of its attempts that notices does it."""
        if actor.lost:
            return
        actor.lost = True
        self._actors.remove(actor)
        self._say(
            f"an actor on {actor.host} was lost ({reason}); its attempts are rolled out again elsewhere "
            f"({actor.running:,} of them)"
        )
        ray.kill(actor.handle)  # one that cannot be reached may still be at work
        self._tasks.start_soon(self._start, self._count + self._replaced)
        self._replaced += 1

    async def _start(self, number: int) -> None:
        """Start an actor, wherever Ray finds room for it."""
        remote = ray.remote(AttemptActor)
        resources = {} if self._resource is None else {self._resource: 1}
        reason = ""
        for _ in range(1 + MOST_REPEATS):
            name = f"rao {self._job.environment.name} {number} {os.urandom(4).hex()}"
            handle = remote.options(name=name, num_cpus=1, resources=resources, max_restarts=0).remote(self._job_ref)
            try:
                opened = await self._opened(handle.open.remote(self._policy))
            except RayError as error:
                reason = _line(error)
                ray.kill(handle)  # one that cannot be reached would keep its CPU
                continue
            except BaseException:
                ray.kill(handle)
                raise
            if isinstance(opened, Failed):
                ray.kill(handle)
                self._fail(opened.error)
                return
            self._actors.append(_Actor(handle, opened.host))
            self._wake()
            return
        self._fail(RolloutsFailed(f"no actor can be started on the Ray cluster: {reason}"))

    async def _opened(self, ref: Any) -> Opened | Failed:
        with anyio.move_on_after(_PATIENCE):
            opened: Opened | Failed = await ref
            return opened
        if not self._actors:
            self._say(
                f"no actor could be started on the Ray cluster for {_PATIENCE:.0f} s; it has no room (ray status)"
            )
        opened = await ref
        return opened

    def _fail(self, error: RaoError) -> None:
        self._failure = self._failure or error
        self._wake()

    async def _present_policy(self) -> Policy:
        model = self._model
        self._pushes += 1
        weights = await anyio.to_thread.run_sync(weights_of, model)
        return Policy(
            number=self._pushes,
            states=states_of(model),
            weights=None if weights is None else ray.put(weights),
        )


class _Lost(Exception):
    """An actor will not answer."""


def _room(resource: str | None) -> int:
    """How many actors the cluster has room for."""
    everything = ray.cluster_resources()
    room = everything.get("CPU", 0.0)
    return int(room if resource is None else min(room, everything.get(resource, 0.0)))


def _check_reach(recipe: Recipe) -> None:
    """Raises ConfigurationError for an endpoint on this machine, if the cluster has others: they would ask their own."""
    models = recipe.models if isinstance(recipe, PoolRecipe) else (recipe,)
    hosts = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    for model in models:
        if isinstance(model, EndpointRecipe | ServedRecipe) and model.endpoint.is_loopback and len(hosts) > 1:
            raise ConfigurationError(
                f"{model.endpoint.shown_url} is another machine on each node of the Ray cluster; name the endpoint by an "
                "address that all nodes reach (--base-url)"
            )


async def _close(handle: Any) -> None:
    with suppress(RayError):
        await handle.close.remote()


def _line(error: RayError) -> str:
    """Why Ray lost something, as the end of a line: the first of its lines that is neither a title nor a field."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and line != RayActorError.BASE_ERROR_MSG and not _FIELD.match(line)]
    text = next((line for line in telling if line != ActorDiedError.BASE_ERROR_MSG), type(error).__name__)
    return text.partition(". ")[0].rstrip(".")[:200]


async def _received(answer: Ended | Failed, folder: Path | None, judge: AttemptJudge | None) -> RanElsewhere:
    """The attempt as its trace has it, judged; the file goes into `folder`.

    Raises the error of an attempt that failed, and ModelError if the judge fails every call.
    """
    if isinstance(answer, Failed):
        if answer.file is not None and folder is not None:
            arriving = await anyio.to_thread.run_sync(_write, folder, answer.file, answer.trace)
            arriving.replace(folder / answer.file)
        raise answer.error
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        arriving = await anyio.to_thread.run_sync(_write, Path(place), answer.file, answer.trace)
        try:
            tree = await anyio.to_thread.run_sync(ExecutionTree.load, arriving)
            if judge is not None and (events := await judge.judge_recorded(tree.root, answer.questions)):
                await anyio.to_thread.run_sync(partial(append_events, arriving, events, secrets=judge.secrets))
                tree = await anyio.to_thread.run_sync(ExecutionTree.load, arriving)
        except BaseException:
            arriving.unlink()
            raise
        path = arriving.replace(Path(place) / answer.file)
    if judge is not None:
        judge.check()
    result = Result(tree.status, tree, answer.reason, path if folder else None, answer.trace_error, tree.root.result)
    return RanElsewhere(result, _EndedSession(answer.metrics))


def _write(folder: Path, name: str, trace: bytes) -> Path:
    """Write a trace beside its place, where readers do not see it until it is moved there."""
    folder.mkdir(parents=True, exist_ok=True)
    arriving = folder / f".{name}.partial"
    arriving.write_bytes(trace)
    arriving.chmod(0o600)
    return arriving
