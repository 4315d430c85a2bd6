"""What both interfaces to an endpoint share: one client, retries, errors, the context window, and the way of calls."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

from anyio.lowlevel import EventLoopToken, current_token

from ..errors import CapabilityMissing, ConfigurationError, ModelError, ModelNotFound
from .base import Conversation, Message, OnLost, OnText, OnWait, Sampling, Waiting
from .dialect import Trouble
from .endpoint import Endpoint
from .failures import Failure, Rejected, explain
from .gate import Gate, Listeners
from .providers import NO_SESSION, provider_of, session_of
from .retry import Answered, Exhausted, Retries, call_with_retries
from .stream import assemble
from .wire import Wire

if TYPE_CHECKING:
    from ..checkpoint import CheckpointSettings

MODELS = "/models"
MODELS_TIMEOUT = 10.0
_OURS = frozenset({"best_of", "max_completion_tokens", "messages", "model", "n", "prompt", "stream", "tools"})


M = TypeVar("M", bound="RemoteModel")
M_co = TypeVar("M_co", bound="RemoteModel", covariant=True)
T = TypeVar("T")


class RemoteModel:
    """A model at an OpenAI-compatible endpoint. `timeout` is for one attempt, in seconds."""

    interface: Literal["chat", "tokens"]
    path: str
    settings: CheckpointSettings | None = None
    """The `agent.json` of the checkpoint that the endpoint serves, where it is known."""

    def __init__(self, endpoint: Endpoint, *, sampling: Sampling, timeout: float, retries: Retries) -> None:
        _check(sampling)
        self.name = endpoint.model
        self.endpoint = endpoint
        self.sampling = sampling
        self.retries = retries
        self.wire = Wire(endpoint, timeout=timeout)
        self._named = session_of(endpoint.base_url, endpoint.session_header)
        self.answered = False
        """Whether the endpoint has answered a call: what it refuses afterwards is not because of the key or the model."""
        self._listeners = Listeners()
        self._gates: dict[EventLoopToken, Gate] = {}
        self._window: int | None = None
        self._window_known = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, base_url={self.endpoint.shown_url!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not enter a trace."""
        return self.endpoint.secrets

    @property
    def provider(self) -> str:
        """Whose the endpoint is."""
        return provider_of(self.endpoint.base_url)

    @property
    def gate(self) -> Gate:
        """All calls from this event loop go through it, so that a refusal of one slows all of them."""
        token = current_token()
        gate = self._gates.get(token)
        if gate is None:
            gate = self._gates[token] = Gate(self._listeners)
        return gate

    @property
    def waiting(self) -> Waiting | None:
        """What calls wait for now (a rate limit, an endpoint that is overloaded), None where they do not."""
        return next((gate.waiting for gate in self._gates.values() if gate.waiting is not None), None)

    @property
    def trouble(self) -> str | None:
        """Why the last attempt at a call failed, while none has been answered since."""
        return next((gate.trouble for gate in self._gates.values() if gate.trouble is not None), None)

    def on_wait(self, listener: OnWait) -> AbstractContextManager[None]:
        """While the block lasts, call `listener` when calls have to wait, and with None when they flow again."""
        return self._listeners.added(listener)

    def open_gates(self) -> None:
        """Let the calls go on that wait for their turn."""
        for gate in tuple(self._gates.values()):
            gate.open()

    async def context_length(self) -> int | None:
        """`max_model_len` of /v1/models (vLLM and alike), asked once; None where the endpoint does not say."""
        if not self._window_known:
            try:
                cards = await self._cards()
            except Failure as failure:
                # An endpoint without the path will not grow one; one that is down may come back.
                self._window_known = not failure.retryable
                return None
            self._window, self._window_known = window_of(cards, self.name), True
        return self._window

    async def aclose(self) -> None:
        """Close connections. Safe to call twice; the next call opens new ones."""
        self._gates.pop(current_token(), None)
        await self.wire.aclose()

    def sampling_or_own(self, sampling: Sampling | None) -> Sampling:
        """What a conversation samples with. Raises ConfigurationError for settings that are not the caller's to make."""
        if sampling is None:
            return self.sampling
        _check(sampling)
        return sampling

    def body(self, sampling: Sampling, *, seed: int | None) -> dict[str, Any]:
        """What every request says: model and sampling."""
        body: dict[str, Any] = {**sampling.extra, "model": self.name}
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if seed is not None:
            body["seed"] = seed
        return body

    def conversation(
        self,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        sampling: Sampling | None = None,
        route: Route[Self] | None = None,
    ) -> Conversation:
        """A new, empty conversation, whose calls go by `route` (default: to this model)."""
        raise NotImplementedError

    async def ask(
        self, body: dict[str, Any], on_text: OnText | None, *, with_usage: bool = True, session: str | None = None
    ) -> dict[str, Any]:
        """One attempt at an answer, streamed where somebody listens; `session` is of the conversation. Raises Failure."""
        named = self._named if session is not None else NO_SESSION
        headers = {named.header: session} if named.header and session else None
        if named.field and session:
            body = {named.field: session, **body}
        if on_text is None:
            return await self.wire.post(self.path, body, headers=headers)
        streamed = {**body, "stream": True} | ({"stream_options": {"include_usage": True}} if with_usage else {})
        async with self.wire.stream(self.path, streamed, headers=headers) as chunks:
            return await assemble(chunks, on_text)

    async def failed(self, exhausted: Exhausted) -> ModelError:
        """The error that says what happened."""
        failure, lost = exhausted.failure, exhausted.unconfirmed
        if isinstance(failure, Rejected) and failure.is_unknown_model:
            if not self.answered:
                return await self._unknown(failure, lost)
            failure.trouble = Trouble.REQUEST  # it has answered before, so this is about the one call
        return explain(failure, self.endpoint, attempts=exhausted.attempts, unconfirmed=lost)

    async def _unknown(self, failure: Rejected, lost: int) -> ModelError:
        at = self.endpoint.shown_url
        try:
            names = [str(card["id"])[:200] for card in await self._cards() if "id" in card]
        except Failure:
            hint = "" if at.endswith("/v1") else "; most endpoints want a base URL that ends in /v1"
            failure_text = failure.reason.rstrip(".")
            return ModelNotFound(
                f"{at} knows neither the model {self.name!r} nor a list of models ({failure_text}){hint}.",
                unconfirmed=lost,
            )
        if self.name in names:
            return CapabilityMissing(
                f"{at} serves {self.name!r} but not {self.path} ({failure.reason.rstrip('.')}), which "
                f"interface={self.interface!r} needs.",
                unconfirmed=lost,
            )
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return ModelNotFound(
            f"{at} has no model {self.name!r}; on offer: {shown or 'nothing'}.",
            unconfirmed=lost,
        )

    async def _cards(self) -> list[Mapping[str, Any]]:
        return cards_of(await self.wire.get(MODELS, timeout=MODELS_TIMEOUT))


class Route(Protocol[M_co]):
    """Chooses the model for every attempt at a call of one conversation."""

    session: str
    """An opaque name of the conversation, the same for all its calls; see `providers.session_of`."""

    @property
    def model(self) -> M_co:
        """The model that the conversation is at: the one that calls go to as long as it answers."""

    @property
    def endpoint(self) -> str | None:
        """The URL that answered last, for the record; None where there is only one."""

    def open(self, messages: Sequence[Message]) -> None:
        """Tell the route how the conversation begins, before its first call; later calls of this change nothing."""

    async def context_length(self) -> int | None:
        """The context window in tokens, wherever the calls go; None if it is not known."""

    async def call(
        self,
        attempt: Callable[[M_co], Awaitable[T]],
        *,
        bound: int,
        on_lost: OnLost | None,
        explain: Callable[[M_co, Exhausted], Awaitable[ModelError]] | None = None,
    ) -> Answered[T]:
        """Run `attempt` with the model of each attempt until it gives a value; see `call_with_retries`.

        Raises the ModelError that `explain` makes of the last failure; by default `RemoteModel.failed`.
        """


class Direct(Route[M]):
    """The route to one model."""

    def __init__(self, model: M) -> None:
        self.session = uuid.uuid4().hex
        self._model = model

    @property
    def model(self) -> M:
        """The model."""
        return self._model

    @property
    def endpoint(self) -> str | None:
        """None: there is only one."""
        return None

    def open(self, messages: Sequence[Message]) -> None:
        """Nothing depends on it here."""

    async def context_length(self) -> int | None:
        """The model's."""
        return await self._model.context_length()

    async def call(
        self,
        attempt: Callable[[M], Awaitable[T]],
        *,
        bound: int,
        on_lost: OnLost | None,
        explain: Callable[[M, Exhausted], Awaitable[ModelError]] | None = None,
    ) -> Answered[T]:
        """See `Route.call`."""
        model = self._model
        try:
            return await call_with_retries(
                lambda: attempt(model), model.retries, bound=bound, on_lost=on_lost, gate=model.gate
            )
        except Exhausted as exhausted:
            raise await (model.failed(exhausted) if explain is None else explain(model, exhausted)) from None


async def list_models(endpoint: Endpoint) -> list[Mapping[str, Any]]:
    """The cards of all models that an endpoint lists. Raises Failure."""
    wire = Wire(endpoint, timeout=MODELS_TIMEOUT)
    try:
        return cards_of(await wire.get(MODELS, timeout=MODELS_TIMEOUT))
    finally:
        await wire.aclose()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started


def first_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    """The first choice, {} where there is none."""
    choices = body.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def cards_of(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What /v1/models lists."""
    data = body.get("data")
    return [card for card in data if isinstance(card, dict)] if isinstance(data, list) else []


def window_of(cards: Sequence[Mapping[str, Any]], name: str) -> int | None:
    """Context window of a model in the list; vLLM says that of a LoRA adapter on the card of its base model only."""
    named = {card["id"]: card for card in reversed(cards) if isinstance(card.get("id"), str)}
    card = named.get(name, {})
    parent = card.get("parent")
    base = named.get(parent, {}) if isinstance(parent, str) else {}
    for length in (card.get("max_model_len"), base.get("max_model_len")):
        if isinstance(length, int) and not isinstance(length, bool) and 0 < length < 10**9:
            return length
    return None


def _check(sampling: Sampling) -> None:
    if ours := sorted(_OURS & set(sampling.extra)):
        raise ConfigurationError(f"sampling must not set {', '.join(ours)}: the conversation and the budget do.")
