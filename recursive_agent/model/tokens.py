"""The `tokens` interface: prompt ids in, sampled ids and log-probs out, over /v1/completions of vLLM and alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

from ..errors import CapabilityMissing, ConfigurationError, ContextOverflow, ModelError
from ..usage import Usage
from .base import Completion, Message, OnLost, OnText, Sampling
from .bill import reported_usage
from .endpoint import Endpoint
from .failures import Failure, Rejected
from .history import TokenHistory
from .logprobs import why_no_logprobs
from .remote import Direct, RemoteModel, Route, Stopwatch, first_choice
from .retry import Exhausted, Retries
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
        self.renderer: Renderer = renderer or EndpointRenderer(partial(tokenize, Direct(self)), source=source)

    def conversation(
        self,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        sampling: Sampling | None = None,
        route: Route[Self] | None = None,
    ) -> TokensConversation:
        """A new, empty conversation. Raises ConfigurationError for native tools, which only `chat` has."""
        if tools:
            raise ConfigurationError(
                "Native tool calls need interface='chat'; with interface='tokens' use action_format='fenced' or 'tags'."
            )
        return TokensConversation(route or Direct(self), self.sampling_or_own(sampling))

    async def failed(self, exhausted: Exhausted) -> ModelError:
        """The error that says what happened."""
        if isinstance(exhausted.failure, _Incapable):
            return CapabilityMissing(exhausted.failure.reason, unconfirmed=exhausted.unconfirmed)
        return await super().failed(exhausted)


async def tokenize(route: Route[TokensModel], body: dict[str, Any]) -> Mapping[str, Any]:
    """What /tokenize of the endpoint answers. Raises ModelError."""

    async def ask(model: TokensModel) -> Mapping[str, Any]:
        return await model.wire.post(model.endpoint.beside("/tokenize"), {"model": model.name, **body})

    async def explain(model: TokensModel, exhausted: Exhausted) -> ModelError:
        error, failure = await model.failed(exhausted), exhausted.failure
        absent = isinstance(failure, Rejected) and failure.status in (404, 405, 501)
        if not absent or not isinstance(error, CapabilityMissing):
            return error
        return CapabilityMissing(
            f"{model.endpoint.shown_url} has no /tokenize, which interface='tokens' needs to apply the chat template: "
            f"{_NO_IDS}."
        )

    answered = await route.call(ask, bound=0, on_lost=None, explain=explain)
    return answered.value


@dataclass(frozen=True, slots=True)
class _Sampled:
    """An answer whose every token is accounted for."""

    data: Mapping[str, Any]
    choice: Mapping[str, Any]
    token_ids: list[int]
    logprobs: list[float]
    name: str
    """Of the model, as it was asked for."""
    version: str | None
    """Of its weights when the attempt began: a push may come while it is under way."""


class TokensConversation(TokenHistory):
    """One node's exchange over completions of ids. Counts are exact."""

    def __init__(self, route: Route[TokensModel], sampling: Sampling) -> None:
        super().__init__(route.model.renderer)
        self._route = route
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
        route, watch = self._route, Stopwatch()
        route.open(self.messages)
        prompt = await self.prompt()
        sent = len(self.messages)
        max_tokens = max(1, min(max_tokens, self._sampling.max_tokens))
        window = await route.context_length()
        if window is not None:
            if len(prompt) + 1 > window:
                raise ContextOverflow(
                    f"The conversation has {len(prompt)} tokens and the context window of {route.model.name} is {window}."
                )
            max_tokens = min(max_tokens, window - len(prompt))
        asked = {
            "logprobs": 1,
            "return_token_ids": True,
            "prompt": prompt,
            "max_tokens": max_tokens,
        }
        ends = await route.model.renderer.end_ids()
        attempts = _Attempts(prompt, route.session)

        async def attempt(model: TokensModel) -> _Sampled:
            own = model.body(self._sampling, seed=seed)
            return await attempts.one(model, {"stop_token_ids": ends, **_WHOLE, **own, **asked}, on_text)

        answered = await route.call(attempt, bound=len(prompt) + max_tokens, on_lost=on_lost)
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
            model=clean(named)[:200] if isinstance(named, str) and named else sampled.name,
            version=sampled.version or (str(fingerprint) if fingerprint else None),
            prompt_token_ids=tuple(prompt),
            token_ids=tuple(sampled.token_ids),
            logprobs=tuple(sampled.logprobs),
            latency=watch.seconds,
            attempts=answered.attempts,
            endpoint=route.endpoint,
        )

    def restore(self, messages: Sequence[Message], completion: Completion) -> None:
        """See `Restorable`."""
        self._route.open(messages)
        super().restore(messages, completion)


class _Incapable(Failure):
    """The endpoint answered, but without what exact training needs."""


class _Attempts:
    """The attempts of one call, each checked: a 200 proves nothing."""

    def __init__(self, prompt: list[int], session: str) -> None:
        self._prompt = prompt
        self._session = session
        self._inexact_answers = 0

    async def one(self, model: TokensModel, body: dict[str, Any], on_text: OnText | None) -> _Sampled:
        name, version = model.name, model.version
        data = await model.ask(body, on_text, session=self._session)
        sampled = self._checked(model, data, name, version)
        model.answered = True
        return sampled

    def _checked(self, model: TokensModel, data: Mapping[str, Any], name: str, version: str | None) -> _Sampled:
        choice = first_choice(data)
        usage = reported_usage(data)
        if not choice or (usage is not None and usage.completion_tokens == 0 and not choice.get("text")):
            return _Sampled(data, choice, [], [], name, version)
        spent = usage.total_tokens if usage is not None else None
        token_ids = _ids(choice.get("token_ids"))
        prompt_ids = _ids(choice.get("prompt_token_ids", data.get("prompt_token_ids")))
        logprobs = choice.get("logprobs")
        logprobs = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
        if token_ids is None or prompt_ids is None:
            raise self._incapable(model, f"ignores return_token_ids, which interface='tokens' needs: {_NO_IDS}", spent)
        if not isinstance(logprobs, list):
            raise self._incapable(model, f"gives no log-probs, which interface='tokens' needs: {_NO_IDS}", spent)
        if prompt_ids != self._prompt:
            raise self._incapable(
                model, "answered another prompt than the ids it was sent, so nothing it samples is exact", spent
            )
        if len(token_ids) != len(logprobs):
            raise self._incapable(
                model,
                f"gave {len(token_ids)} token ids and {len(logprobs)} log-probs, so they do not belong together",
                spent,
            )
        # The ids are the count: a smaller one is a false statement, a larger one says that some of them may be missing.
        if usage is not None and usage.completion_tokens > len(token_ids):
            raise self._inexact(
                f"{len(token_ids)} token ids came for {usage.completion_tokens} tokens, so some may be missing", spent
            )
        if (wrong := why_no_logprobs(logprobs)) is not None:
            # NaN is seen from vLLM for tokens of probability 1; the batch around it changes the rounding.
            raise self._inexact(wrong, spent)
        return _Sampled(data, choice, token_ids, [float(value) for value in logprobs], name, version)

    def _inexact(self, what: str, spent: int | None) -> Failure:
        """An answer that cannot be trained on. It is asked for once more; then this call has failed, and no other."""
        self._inexact_answers += 1
        return Failure(what, lost=True, spent=spent, retryable=self._inexact_answers < 2)

    def _incapable(self, model: TokensModel, what: str, spent: int | None) -> Failure:
        """An answer without what exact training needs. From an endpoint that has given it before, it is one bad answer."""
        if model.answered:
            return self._inexact(f"it {what}", spent)
        return _Incapable(f"{model.endpoint.shown_url} {what}.", lost=True, retryable=False, spent=spent)


def _ids(value: Any) -> list[int] | None:
    fits = isinstance(value, list) and all(type(token) is int and 0 <= token < 2**31 for token in value)
    return value if fits else None
