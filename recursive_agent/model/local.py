"""Models that are sampled in this process: conversations and turn-taking over any engine, and no arithmetic."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..checkpoint import FILE_NAME, CheckpointSettings, ignored_sampling, positions_of, text_config, window_of
from ..errors import CapabilityMissing, ConfigurationError, ContextOverflow, ModelError
from ..usage import Usage
from .base import Completion, OnLost, OnText, Sampling
from .batching import Request
from .history import TokenHistory
from .template import CheckpointRenderer
from .texts import find_stop
from .thinking import part, why_no_answer

_UNKNOWN_WINDOW = 8192
"""Tokens that a model without any named bound is given."""
_SLICE = 0.02
"""Seconds of sampling between two looks at who was cancelled and who wants to see text."""


class Engine(Protocol):
    """What samples (see `BatchEngine`)."""

    version: str | None

    @property
    def pending(self) -> int:
        """Requests that are queued or being sampled."""

    def submit(self, request: Request) -> None:
        """Queue a request; from any thread."""

    def run(self, seconds: float) -> None:
        """Sample for about `seconds`, or until a request is done or none is left."""


class LocalModel:
    """A `Model` with the interface `tokens` over an engine; tokenizer, template and settings are those in `directory`.

    Conversations that wait at the same time are sampled in one batch. `seed` draws the seeds of calls that name none.
    Raises ConfigurationError where the directory is no such checkpoint.
    """

    interface: Literal["chat", "tokens"] = "tokens"
    provider = "rao"
    engine: Engine
    """Set by the subclass."""

    def __init__(
        self,
        directory: Path,
        settings: CheckpointSettings,
        *,
        sampling: Sampling | None,
        seed: int | None,
        renderer: CheckpointRenderer | None = None,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.sampling = sampling or Sampling.of(self.settings.sampling)
        _check(self.sampling)
        self.name = self.settings.name
        self.renderer = renderer or CheckpointRenderer(self.directory)
        try:
            self.end_ids: list[int] = self.renderer.all_ends
            rewrites, folds = self.renderer.rewrites, self.renderer.folds
        except CapabilityMissing as error:
            raise ConfigurationError(str(error)) from None
        named = self.settings.context_length or window_of(self.directory)
        if named is None and (self.directory / FILE_NAME).is_file():
            raise ConfigurationError(f"{self.directory} names no context window: set context_length in its {FILE_NAME}")
        window = named or _UNKNOWN_WINDOW
        self.window = min(window, positions_of(self.directory) or window)
        """The context window in tokens; what `context_length` gives."""
        self.vocabulary = int(text_config(self.directory).get("vocab_size") or self.renderer.tokenizer.get_vocab_size())
        """The number of token ids that it knows."""
        self.notes = [*self.renderer.mended]
        """What its user should know of a checkpoint that rao did not write, each as the end of a sentence about the model."""
        if named is None:
            self.notes.append(f"names no context window, so {window:,} tokens are used")
        if folds:
            self.notes.append("has a chat template without a system role, so the first message of the user holds it")
        if rewrites:
            self.notes.append(
                "has a chat template that changes earlier turns (or marks no end of an answer), so each prompt is the whole "
                "conversation, read anew"
            )
        if ignored := ignored_sampling(self.directory):
            shown = ", ".join(f"{name}={value}" for name, value in ignored.items())
            self.notes.append(
                f"is sampled without {shown} of its generation_config.json, which training could not account for"
            )
        self._seeds = random.Random(seed)
        self._turns: anyio.lowlevel.RunVar[_Turns] = anyio.lowlevel.RunVar(f"rao-local-{id(self)}")

    @property
    def version(self) -> str | None:
        """Names the weights that calls are now sampled with."""
        return self.engine.version

    async def context_length(self) -> int:
        """The policy's context window in tokens."""
        return self.window

    def conversation(
        self, *, tools: Sequence[Mapping[str, Any]] = (), sampling: Sampling | None = None
    ) -> LocalConversation:
        """A new, empty conversation. Raises ConfigurationError for native tools, and for sampling settings it lacks."""
        if tools:
            raise ConfigurationError("A policy in this process writes fenced code and makes no native tool calls.")
        if sampling is not None:
            _check(sampling)
        return LocalConversation(self, sampling or self.sampling)

    async def aclose(self) -> None:
        """Nothing runs between calls, so there is nothing to stop."""

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        """Run a request to its end in the common batch. Raises ModelError where the engine failed."""
        turns = self._turns.get(None)
        if turns is None:
            turns = _Turns(self.engine)
            self._turns.set(turns)
        shown = _Shown(self.renderer, on_text) if on_text is not None else None
        await turns.wait(request, shown)
        if request.error is not None:
            raise ModelError(f"the policy {self.name} failed: {request.error}") from request.error

    @property
    def pending(self) -> int:
        """Calls that are queued or being sampled."""
        return self.engine.pending

    def next_seed(self) -> int:
        """A seed for a call that names none."""
        return self._seeds.getrandbits(63)


class LocalConversation(TokenHistory):
    """One node's exchange with a policy in this process. Counts are exact."""

    def __init__(self, model: LocalModel, sampling: Sampling) -> None:
        super().__init__(model.renderer)
        self._model = model
        self._sampling = sampling

    async def complete(
        self,
        *,
        max_tokens: int,
        seed: int | None = None,
        on_text: OnText | None = None,
        on_lost: OnLost | None = None,
    ) -> Completion:
        """One model call; see `Conversation.complete`. Nothing is ever lost on the way here, so `on_lost` is not called."""
        started = time.monotonic()
        model, sampling = self._model, self._sampling
        prompt = await self.prompt()
        room = await model.context_length() - len(prompt)
        if room < 1:
            raise ContextOverflow(
                f"The conversation has {len(prompt)} tokens and the context window of {model.name} is {len(prompt) + room}."
            )
        request = Request(
            self,
            prompt,
            max_tokens=max(1, min(max_tokens, sampling.max_tokens, room)),
            seed=model.next_seed() if seed is None else seed,
            temperature=1.0 if sampling.temperature is None else sampling.temperature,
            top_p=1.0 if sampling.top_p is None else sampling.top_p,
            stopped=self._stopped if sampling.stop else None,
        )
        sent = len(self.messages)
        await model.sample(request, on_text)
        text = self._text(request.token_ids)
        self.answered(prompt, sent, text, request.token_ids)
        parted, finish_reason = part(text), request.finish_reason or "stop"
        return Completion(
            text=parted.answer,
            reasoning=parted.draft or None,
            no_answer=why_no_answer(parted, finish_reason),
            finish_reason=finish_reason,
            usage=Usage(calls=1, prompt_tokens=len(prompt), completion_tokens=len(request.token_ids)),
            model=model.name,
            version=request.version,
            prompt_token_ids=tuple(prompt),
            token_ids=tuple(request.token_ids),
            logprobs=tuple(request.logprobs),
            latency=time.monotonic() - started,
        )

    def _stopped(self, ids: list[int]) -> bool:
        return find_stop(self._model.renderer.decode(ids), self._sampling.stop) is not None

    def _text(self, ids: list[int]) -> str:
        """The answer, up to the first stop string."""
        text = self._model.renderer.decode(ids)
        stop = find_stop(text, self._sampling.stop)
        return text if stop is None else text[: stop.start]


class _Shown:
    """Hands text on as it comes, whole characters only."""

    def __init__(self, renderer: CheckpointRenderer, on_text: OnText) -> None:
        self._renderer = renderer
        self._on_text = on_text
        self._done = 0

    def update(self, ids: list[int]) -> None:
        text = self._renderer.decode(ids).rstrip("\ufffd")
        if len(text) > self._done:
            self._on_text(text[self._done :])
            self._done = len(text)


class _Turns:
    """Those who wait for answers in one event loop. One of them at a time keeps the engine running, for all.

    So there is no background task and no thread that could outlive its callers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._limiter = anyio.CapacityLimiter(1)
        self._waiting: dict[Request, _Waiter] = {}
        self._led = False

    async def wait(self, request: Request, shown: _Shown | None) -> None:
        """Until `request` is done. Cancelling drops it from the batch."""
        waiter = self._waiting[request] = _Waiter(streams=shown is not None)
        self._engine.submit(request)
        try:
            while not request.done:
                if self._led:
                    await waiter.event.wait()
                    waiter.event = anyio.Event()
                else:
                    await self._lead()
                if shown is not None:
                    shown.update(request.token_ids)
        finally:
            if not request.done:
                request.cancelled = True
            del self._waiting[request]
            if self._waiting and not self._led:
                next(iter(self._waiting.values())).event.set()

    async def _lead(self) -> None:
        self._led = True
        try:
            await anyio.to_thread.run_sync(self._engine.run, _SLICE, limiter=self._limiter)
        finally:
            self._led = False
            for request, waiter in self._waiting.items():
                if request.done or waiter.streams:
                    waiter.event.set()


@dataclass(slots=True)
class _Waiter:
    """How somebody who waits is woken: at the end, at each slice where text is shown, or in order to lead."""

    streams: bool
    event: anyio.Event = field(default_factory=anyio.Event)


def _check(sampling: Sampling) -> None:
    if unknown := sorted(sampling.extra):
        raise ConfigurationError(f"a policy in this process has no sampling setting {', '.join(unknown)}")
    if sampling.temperature is not None and sampling.temperature < 0:
        raise ConfigurationError(f"temperature must not be negative: {sampling.temperature}")
    if sampling.top_p is not None and not 0 < sampling.top_p <= 1:
        raise ConfigurationError(f"top_p must be more than 0 and at most 1: {sampling.top_p}")
