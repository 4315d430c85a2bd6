"""One model at several endpoints: conversations are spread over them, and an endpoint that dies costs its calls alone."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Generic, Literal

import anyio

from ..checkpoint import CheckpointSettings
from ..errors import ConfigurationError, EndpointUnavailable, ModelError
from ..messages import Message
from .base import Conversation, OnLost, OnWait, Sampling, Waiting
from .failures import Failure
from .gate import Gate
from .remote import M, Route, T
from .replicas import AllOut, Moved, Replica, Replicas, opening_of
from .retry import Answered, Exhausted, call_with_retries
from .template import EndpointRenderer
from .tokens import TokensModel, tokenize


class PoolModel(Generic[M]):
    """One model at several endpoints. `connect` makes it of several base URLs, `served_checkpoint` of a checkpoint.

    Where calls go:

    1. An agent's calls go to one replica, whose prefix cache holds what they have in common: the agent's conversation.
    2. A new conversation goes to the replica that rendezvous hashing gives for its opening: the first 256 characters of the
       message that holds the goal (what stands before it is the same for all agents). So attempts at one task, and siblings
       whose goals begin with the same long text, meet in one cache, whichever process they run in.
    3. If that replica has more calls in flight than 1.25 × the mean + 4, or makes calls wait (a rate limit), the
       conversation goes to the next one in the order of the hash. It then stays there.
    4. A failed attempt is made again at another replica, within the retries of the one call. A replica that cannot be reached,
       or whose last three attempts failed, is put aside: its conversations move, by rules 2 and 3. After 1 s, and then at
       intervals that double up to 60 s, one call asks it for /models first; if it answers, it is in use again.
    5. Refusals that are the call's own fault (status 400, a context overflow, a key) are final, wherever they come from.

    Rate limits and retries are those of the models (`models`), which must share one `Retries`; all must have one interface.
    """

    def __init__(self, models: Sequence[M], *, replicas: Replicas[M] | None = None) -> None:
        if len(models) < 2:
            raise ConfigurationError("a pool needs at least two endpoints")
        first = models[0]
        self.models = tuple(models)
        self.replicas = replicas or Replicas(models)
        self.name = first.name
        self.interface: Literal["chat", "tokens"] = first.interface
        self.sampling: Sampling = first.sampling
        self.settings: CheckpointSettings | None = first.settings
        """The `agent.json` of the checkpoint that the endpoints serve, where it is known."""

    def __repr__(self) -> str:
        return f"PoolModel({self.name!r}, {[replica.url for replica in self.replicas.all]!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not enter a trace."""
        return tuple(dict.fromkeys(secret for model in self.models for secret in model.secrets))

    @property
    def provider(self) -> str:
        """Whose the endpoints are."""
        return self.models[0].provider

    @property
    def waiting(self) -> Waiting | None:
        """What calls wait for now at one of the replicas in use."""
        return next((waiting for model in self._used() if (waiting := model.waiting) is not None), None)

    @property
    def trouble(self) -> str | None:
        """Why the last attempt at a call failed, while none has been answered since."""
        return next((trouble for model in self._used() if (trouble := model.trouble) is not None), None)

    @contextmanager
    def _heard(self, listener: OnWait) -> Iterator[None]:
        def heard(waiting: Waiting | None) -> None:
            listener(self.waiting if waiting is None else waiting)

        with ExitStack() as stack:
            for model in self.models:
                stack.enter_context(model.on_wait(heard))
            yield

    def on_wait(self, listener: OnWait) -> AbstractContextManager[None]:
        """While the block lasts, call `listener` when calls have to wait, and with None when they flow again."""
        return self._heard(listener)

    def _used(self) -> Sequence[M]:
        return [replica.model for replica in self.replicas.in_use] or self.models

    async def context_length(self) -> int | None:
        """The smallest context window of the replicas in use, as far as they say."""
        return await self.replicas.window()

    def conversation(
        self, *, tools: Sequence[Mapping[str, Any]] = (), sampling: Sampling | None = None
    ) -> Conversation:
        """A new, empty conversation; its replica is chosen with its first call."""
        own = self.sampling if sampling is None else sampling
        return self.models[0].conversation(tools=tools, sampling=own, route=PoolRoute(self))

    async def aclose(self) -> None:
        """Close connections. Safe to call twice; the next call opens new ones."""
        for model in self.models:
            await model.aclose()

    def take_out(self, model: M, why: str) -> None:
        """Send no more calls to a replica; those in flight are made again elsewhere. `why` stands in errors if none is left."""
        replica = self.replicas.of(model)
        replica.out = why
        replica.model.open_gates()
        for scope in tuple(replica.scopes):
            scope.cancel()

    def bring_back(self, model: M) -> None:
        """Use a replica again that was taken out, or put aside."""
        replica = self.replicas.of(model)
        replica.out, replica.due, replica.failures = None, None, 0

    @contextmanager
    def holding(self, model: M) -> Iterator[None]:
        """While the block lasts, new attempts that would go to a replica wait; those in flight go on."""
        replica = self.replicas.of(model)
        replica.held = held = anyio.Event()
        try:
            yield
        finally:
            replica.held = None
            held.set()


class PoolRoute(Route[M]):
    """The way of one conversation through a pool; without `samples` it is one of calls that no weights answer."""

    def __init__(self, pool: PoolModel[M], *, samples: bool = True) -> None:
        self.session = uuid.uuid4().hex
        self._pool = pool
        self._samples = samples
        self._opening: str | None = None
        self._home: Replica[M] | None = None
        self._answered: Replica[M] | None = None

    @property
    def model(self) -> M:
        """The replica that the conversation is at, if it is in use; otherwise any that is."""
        if self._home is not None and self._home.in_use:
            return self._home.model
        return next(iter(self._pool.replicas.in_use), self._pool.replicas.all[0]).model

    @property
    def endpoint(self) -> str | None:
        """The URL that answered last."""
        return None if self._answered is None else self._answered.url

    def open(self, messages: Sequence[Message]) -> None:
        """See `Route.open`."""
        if self._opening is None:
            self._opening = opening_of(messages)

    async def context_length(self) -> int | None:
        """The pool's: a call may be moved."""
        return await self._pool.context_length()

    async def call(
        self,
        attempt: Callable[[M], Awaitable[T]],
        *,
        bound: int,
        on_lost: OnLost | None,
        explain: Callable[[M, Exhausted], Awaitable[ModelError]] | None = None,
    ) -> Answered[T]:
        """See `Route.call`."""
        call = _Call(self._pool.replicas, self._chosen, waits=self._samples)
        try:
            answered = await call_with_retries(
                partial(call.attempt, attempt),
                self._pool.models[0].retries,
                bound=bound,
                on_lost=on_lost,
                gate=call.choose,
            )
        except Exhausted as exhausted:
            model = (call.at or self._pool.replicas.all[0]).model
            raise await self._explained(model, exhausted, call.failed, explain) from None
        finally:
            call.leave()
        self._answered = call.at
        return answered

    def _chosen(self, failed: Mapping[Replica[M], str]) -> Replica[M]:
        """The replica of the next attempt of a call that has failed at some already."""
        replicas = self._pool.replicas
        if self._home is None or not self._home.in_use:
            self._home = replicas.place(self._opening or "", avoid=failed)
        if self._home in failed:
            return replicas.place(self._opening or "", avoid=failed)
        return self._home

    async def _explained(
        self,
        model: M,
        exhausted: Exhausted,
        failed: Mapping[Replica[M], str],
        explain: Callable[[M, Exhausted], Awaitable[ModelError]] | None,
    ) -> ModelError:
        failure = exhausted.failure
        if isinstance(failure, AllOut) or (failure.retryable and not failure.throttled):
            reasons = {
                replica: failed.get(replica) or replica.out or replica.trouble
                for replica in self._pool.replicas.all
                if replica in failed or not replica.in_use
            }
            if len(reasons) > 1:
                which = "None of" if len(reasons) == len(self._pool.models) else f"{len(reasons)} of"
                listed = "; ".join(f"{replica.url} ({reason})" for replica, reason in reasons.items())
                tried = f" in {exhausted.attempts} attempts" if exhausted.attempts else ""
                return EndpointUnavailable(
                    f"{which} the {len(self._pool.models)} endpoints of {self._pool.name} gave a usable answer{tried}: "
                    f"{listed}; check that they are running.",
                    unconfirmed=exhausted.unconfirmed,
                )
        return await (model.failed(exhausted) if explain is None else explain(model, exhausted))


def tokens_pool(
    models: Sequence[TokensModel], *, replicas: Replicas[TokensModel] | None = None
) -> PoolModel[TokensModel]:
    """A pool of `tokens` models whose conversations are rendered by the /tokenize of whichever endpoint answers."""
    pool = PoolModel(models, replicas=replicas)
    source = f"{pool.name} at {len(models)} endpoints"
    renderer = EndpointRenderer(partial(tokenize, PoolRoute(pool, samples=False)), source=source)
    for model in models:
        model.renderer = renderer
    return pool


class _Call(Generic[M]):
    """One call on its way: where its present attempt is, and where others have failed."""

    def __init__(
        self, replicas: Replicas[M], chosen: Callable[[Mapping[Replica[M], str]], Replica[M]], *, waits: bool
    ) -> None:
        self.at: Replica[M] | None = None
        self.failed: dict[Replica[M], str] = {}
        self._replicas = replicas
        self._chosen = chosen
        self._waits = waits
        """Whether it waits for a replica that is held."""

    async def choose(self) -> Gate:
        """Choose the replica of the next attempt; its gate."""
        self.leave()
        await self._replicas.look()
        at = self._chosen(self.failed)
        while self._waits and at.held is not None:
            await at.held.wait()
            at = self._chosen(self.failed)
        self.at = at
        at.calls.add(self)
        return at.model.gate

    async def attempt(self, once: Callable[[M], Awaitable[T]]) -> T:
        """One attempt at the replica that was chosen. Raises Failure."""
        at = self.at
        assert at is not None
        try:
            value = await self._made(at, once)
        except Failure as failure:
            self._replicas.failed(at, failure)
            if failure.retryable and not failure.throttled:
                self.failed[at] = failure.reason.rstrip(".")
            raise
        self._replicas.answered(at)
        return value

    async def _made(self, at: Replica[M], once: Callable[[M], Awaitable[T]]) -> T:
        while self._waits and at.held is not None:  # since it waited at the gate
            await at.held.wait()
        if not self._replicas.may_begin(at):
            raise Moved(_why_moved(at))
        with anyio.CancelScope() as scope:
            at.scopes.add(scope)
            try:
                return await once(at.model)
            finally:
                at.scopes.discard(scope)
        raise Moved(_why_moved(at), lost=True)

    def leave(self) -> None:
        """The attempt is over."""
        if self.at is not None:
            self.at.calls.discard(self)


def _why_moved(replica: Replica[Any]) -> str:
    return replica.trouble if replica.out is None else f"it was taken out: {replica.out}"
