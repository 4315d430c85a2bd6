"""The `tokens` interface: prompt ids in, sampled ids and log-probs out, over /v1/completions of vLLM and alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import CapabilityMissing, ConfigurationError, ContextOverflow
from ..usage import Usage
from .base import Completion, OnLost, OnText, Sampling
from .bill import reported_usage
from .endpoint import Endpoint
from .failures import Failure, Rejected
from .history import TokenHistory
from .logprobs import why_no_logprobs
from .remote import RemoteModel, Stopwatch, first_choice
from .retry import Exhausted, Retries, call_with_retries
from .template import EndpointRenderer, Renderer
from .texts import clean
from .thinking import part, why_no_answer

_WHOLE = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""The whole distribution, bent by nothing: a server may have other defaults from a model's generation_config.json, with which
log-probs would not be those of the policy. Settings of the caller's own have the last word."""
_NO_IDS = "use vLLM 0.10.2 or newer, or interface='chat'"


class TokensModel(RemoteModel):
    """A model behind /v1/completions that gives token ids and log-probs.

    `renderer` applies the chat template; without one the endpoint's /tokenize does.
    """

    interface: Literal["chat", "tokens"] = "tokens"
    path = "/completions"

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        renderer: Renderer | None = None,
        sampling: Sampling | None = None,
        timeout: float = 600.0,
        retries: Retries | None = None,
    ) -> None:
        super().__init__(endpoint, sampling=sampling or Sampling(), timeout=timeout, retries=retries or Retries())
        self.version: str | None = None
        """The version of the weights, set by what pushes them; while None, completions carry `system_fingerprint`."""
        source = f"{self.name} at {endpoint.shown_url}"
        self.renderer: Renderer = renderer or EndpointRenderer(self._tokenize, source=source)

    def conversation(
        self, *, tools: Sequence[Mapping[str, Any]] = (), sampling: Sampling | None = None
    ) -> TokensConversation:
        """A new, empty conversation. Raises ConfigurationError for native tools, which only `chat` has."""
        if tools:
            raise ConfigurationError(
                "Native tool calls need interface='chat'; with interface='tokens' use action_format='fenced' or 'tags'."
            )
        return TokensConversation(self, self.sampling_or_own(sampling))

    async def _tokenize(self, body: dict[str, Any]) -> Mapping[str, Any]:
        try:
            answered = await call_with_retries(
                lambda: self.wire.post(self.endpoint.beside("/tokenize"), {"model": self.name, **body}),
                self.retries,
                bound=0,
                on_lost=None,
                gate=self.gate,
            )
        except Exhausted as exhausted:
            failure = exhausted.failure
            if isinstance(failure, Rejected) and failure.status in (404, 405, 501):
                offered = await self.failed(exhausted)
                if not isinstance(offered, CapabilityMissing):
                    raise offered from None
                raise CapabilityMissing(
                    f"{self.endpoint.shown_url} has no /tokenize, which interface='tokens' needs to apply the chat "
                    f"template: {_NO_IDS}."
                ) from None
            raise await self.failed(exhausted) from None
        return answered.value


@dataclass(frozen=True, slots=True)
class _Sampled:
    """An answer whose every token is accounted for."""

    data: Mapping[str, Any]
    choice: Mapping[str, Any]
    token_ids: list[int]
    logprobs: list[float]


class TokensConversation(TokenHistory):
    """One node's exchange over completions of ids. Counts are exact."""

    def __init__(self, model: TokensModel, sampling: Sampling) -> None:
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
        """One model call; see `Conversation.complete`."""
        model, watch = self._model, Stopwatch()
        version = model.version  # of the beginning: a push may come while the call is under way
        prompt = await self.prompt()
        sent = len(self.messages)
        max_tokens = max(1, min(max_tokens, self._sampling.max_tokens))
        window = await model.context_length()
        if window is not None:
            if len(prompt) + 1 > window:
                raise ContextOverflow(
                    f"The conversation has {len(prompt)} tokens and the context window of {model.name} is {window}."
                )
            max_tokens = min(max_tokens, window - len(prompt))
        body = {
            "stop_token_ids": await model.renderer.end_ids(),
            **_WHOLE,
            **model.body(self._sampling, seed=seed),
            "logprobs": 1,
            "return_token_ids": True,
            "prompt": prompt,
            "max_tokens": max_tokens,
        }
        attempts = _Attempts(model, prompt)
        try:
            answered = await call_with_retries(
                lambda: attempts.one(body, on_text),
                model.retries,
                bound=len(prompt) + max_tokens,
                on_lost=on_lost,
                gate=model.gate,
            )
        except Exhausted as exhausted:
            if isinstance(exhausted.failure, _Incapable):
                raise CapabilityMissing(exhausted.failure.reason, unconfirmed=exhausted.unconfirmed) from None
            raise await model.failed(exhausted) from None
        model.answered = True
        sampled = answered.value
        text = sampled.choice.get("text")
        text = clean(text) if isinstance(text, str) else ""
        self.answered(prompt, sent, text, sampled.token_ids)
        parted = part(text)
        # Both counts are known without the endpoint's help: it can state no less than them.
        stated = reported_usage(sampled.data) or Usage()
        usage = Usage(
            calls=1,
            prompt_tokens=max(stated.prompt_tokens, len(prompt)),
            completion_tokens=max(stated.completion_tokens, len(sampled.token_ids)),
            cached_tokens=stated.cached_tokens,
        )
        named, fingerprint = sampled.data.get("model"), sampled.data.get("system_fingerprint")
        finish_reason = str(sampled.choice.get("finish_reason") or ("stop" if sampled.choice else "empty"))[:80]
        return Completion(
            text=parted.answer,
            reasoning=parted.draft or None,
            no_answer=why_no_answer(parted, finish_reason),
            finish_reason=finish_reason,
            usage=replace(usage, unconfirmed=answered.unconfirmed),
            model=clean(named)[:200] if isinstance(named, str) and named else model.name,
            version=version or (str(fingerprint) if fingerprint else None),
            prompt_token_ids=tuple(prompt),
            token_ids=tuple(sampled.token_ids),
            logprobs=tuple(sampled.logprobs),
            latency=watch.seconds,
            attempts=answered.attempts,
        )


class _Incapable(Failure):
    """The endpoint answered, but without what exact training needs."""


class _Attempts:
    """The attempts of one call, each checked: a 200 proves nothing."""

    def __init__(self, model: TokensModel, prompt: list[int]) -> None:
        self._model = model
        self._prompt = prompt
        self._inexact_answers = 0

    async def one(self, body: dict[str, Any], on_text: OnText | None) -> _Sampled:
        data = await self._model.ask(body, on_text)
        choice = first_choice(data)
        usage = reported_usage(data)
        if not choice or (usage is not None and usage.completion_tokens == 0 and not choice.get("text")):
            return _Sampled(data, choice, [], [])
        spent = usage.total_tokens if usage is not None else None
        token_ids = _ids(choice.get("token_ids"))
        prompt_ids = _ids(choice.get("prompt_token_ids", data.get("prompt_token_ids")))
        logprobs = choice.get("logprobs")
        logprobs = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
        if token_ids is None or prompt_ids is None:
            raise self._incapable(f"ignores return_token_ids, which interface='tokens' needs: {_NO_IDS}", spent)
        if not isinstance(logprobs, list):
            raise self._incapable(f"gives no log-probs, which interface='tokens' needs: {_NO_IDS}", spent)
        if prompt_ids != self._prompt:
            raise self._incapable(
                "answered another prompt than the ids it was sent, so nothing it samples is exact", spent
            )
        if len(token_ids) != len(logprobs):
            raise self._incapable(
                f"gave {len(token_ids)} token ids and {len(logprobs)} log-probs, so they do not belong together", spent
            )
        # The ids are the count: a smaller one is a false statement, a larger one says that some of them may be missing.
        if usage is not None and usage.completion_tokens > len(token_ids):
            raise self._inexact(
                f"{len(token_ids)} token ids came for {usage.completion_tokens} tokens, so some may be missing", spent
            )
        if (wrong := why_no_logprobs(logprobs)) is not None:
            # NaN is seen from vLLM for tokens of probability 1; the batch around it changes the rounding.
            raise self._inexact(wrong, spent)
        return _Sampled(data, choice, token_ids, [float(value) for value in logprobs])

    def _inexact(self, what: str, spent: int | None) -> Failure:
        """An answer that cannot be trained on. It is asked for once more; then this call has failed, and no other."""
        self._inexact_answers += 1
        return Failure(what, lost=True, spent=spent, retryable=self._inexact_answers < 2)

    def _incapable(self, what: str, spent: int | None) -> Failure:
        """An answer without what exact training needs. From an endpoint that has given it before, it is one bad answer."""
        if self._model.answered:
            return self._inexact(f"it {what}", spent)
        return _Incapable(f"{self._model.endpoint.shown_url} {what}.", lost=True, retryable=False, spent=spent)


def _ids(value: Any) -> list[int] | None:
    fits = isinstance(value, list) and all(type(token) is int and 0 <= token < 2**31 for token in value)
    return value if fits else None
