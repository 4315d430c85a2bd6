"""The questions that show what an endpoint does, and how its answers are judged; see `capabilities.probe`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from ..concurrency import task_group
from ..errors import AuthenticationFailed, CapabilityMissing, ModelNotFound
from ..usage import Usage
from .base import Message, OnText
from .bill import reported_usage
from .chat import ChatModel
from .endpoint import Endpoint
from .failures import Failure, Rejected, Unreachable
from .remote import MODELS, MODELS_TIMEOUT, cards_of, first_choice, window_of
from .retry import Exhausted, Retries, call_with_retries
from .samples import Samples
from .template import EndpointRenderer

_QUESTION = "Name a colour and an animal."
_TEXT = "Once upon a time, there was"
_PATIENCE = 60.0
"""Seconds that a probe waits for an endpoint that takes no more calls."""
_SHORT = 16
"""Tokens of an answer; some endpoints take no smaller limit."""
_CONTINUED = 8
_FORM = 64
"""Tokens of an answer in a given form, blanks between its parts included."""
_SAMPLES = ((8, 4), (1, 32))
"""How many samples of how many tokens; the second where the endpoint gives no more than one sample to a request."""
_TEMPERATURES = (1.0, 2.0)
_LIVELY = 1.5
"""A temperature at which two seeds hardly give the same answer."""
_SOME_IDS = tuple(range(40, 48))
"""Ids that every vocabulary has, for endpoints without /tokenize."""
_WORD = "blorptuag-7"
"""What nobody answers who need not."""

_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": [_WORD]}},
    "required": ["answer"],
    "additionalProperties": False,
}
_FORMED = json.dumps({"answer": _WORD}, separators=(",", ":"))
_TOKEN_FIELDS = ("token_prompts", "token_ids", "logprobs", "scaled_logprobs")


@dataclass(slots=True)
class Findings:
    """What a probe found, by the names of the fields of `Capabilities`; see there."""

    values: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    failed_in_passing: bool = False
    """Whether something could not be found out for a reason that may be gone next time."""

    def note(self, name: str, value: Any, why: str = "") -> None:
        """Keep the value of a field, and why it is not True."""
        self.values[name] = value
        if value is None or value is False:
            self.problems[name] = why.rstrip(".")


class Probe:
    """One look at an endpoint."""

    def __init__(self, endpoint: Endpoint, *, timeout: float) -> None:
        self._model = ChatModel(endpoint, timeout=timeout, retries=Retries(limit=1, patience=_PATIENCE))
        self._renderer = EndpointRenderer(self._tokenize, source=f"{endpoint.model} at {endpoint.shown_url}")
        self._findings = Findings()
        self._billed: int | None = None
        """Prompt tokens of the question, as the endpoint counts them."""

    async def findings(self) -> Findings:
        """Ask everything. Raises EndpointUnavailable, AuthenticationFailed or ModelNotFound."""
        try:
            await self._check(("context_length",), self._ask_models)
            await self._ask_question()
            async with task_group() as group:
                for names, check in (
                    (("streams", "usage_in_streams"), self._ask_stream),
                    (("completions",), self._ask_text),
                    (("structured_output",), self._ask_form),
                    (("seed",), self._ask_seeds),
                ):
                    group.start_soon(self._check, names, check)
                group.start_soon(self._ask_tokens)
        finally:
            with anyio.CancelScope(shield=True):
                await self._model.aclose()
        return self._findings

    async def _check(self, names: Sequence[str], check: Callable[[], Awaitable[None]]) -> None:
        """Run a check of some fields; what keeps it from its end is the reason for those it had not reached."""
        value, why = None, "it was not reached"
        try:
            await check()
        except Exhausted as exhausted:
            passing = _in_passing(exhausted.failure)
            self._findings.failed_in_passing |= passing
            value, why = None if passing else False, exhausted.failure.reason
        except CapabilityMissing as error:
            value, why = False, str(error)
        for name in names:
            if name not in self._findings.values:
                self._findings.note(name, value, why)

    async def _ask(
        self, attempt: Callable[[], Awaitable[dict[str, Any]]], prompt: object, tokens: int
    ) -> dict[str, Any]:
        """An answer, its cost counted. Raises Exhausted."""
        bound = len(json.dumps(prompt)) + tokens
        try:
            answered = await call_with_retries(attempt, self._model.retries, bound=bound, on_lost=None)
        except Exhausted as exhausted:
            self._findings.usage += Usage(unconfirmed=exhausted.unconfirmed)
            raise
        cost = reported_usage(answered.value) or Usage(calls=1, unconfirmed=bound)
        self._findings.usage += replace(cost, unconfirmed=cost.unconfirmed + answered.unconfirmed)
        return answered.value

    async def _chat(self, *, tokens: int = _SHORT, on_text: OnText | None = None, **settings: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": _QUESTION}]
        body = {"model": self._model.name, "messages": messages, **settings}
        return await self._ask(lambda: self._model.answer(body, tokens, on_text), messages, tokens)

    async def _complete(self, prompt: str | list[int], tokens: int, **settings: Any) -> dict[str, Any]:
        body = {"model": self._model.name, "prompt": prompt, "max_tokens": tokens, **settings}
        return await self._ask(lambda: self._model.wire.post("/completions", body), prompt, tokens * body.get("n", 1))

    async def _tokenize(self, body: dict[str, Any]) -> Mapping[str, Any]:
        path = self._model.endpoint.beside("/tokenize")
        answered = await call_with_retries(
            lambda: self._model.wire.post(path, {"model": self._model.name, **body}),
            self._model.retries,
            bound=0,
            on_lost=None,
        )
        return answered.value

    async def _ask_models(self) -> None:
        answered = await call_with_retries(
            lambda: self._model.wire.get(MODELS, timeout=MODELS_TIMEOUT), self._model.retries, bound=0, on_lost=None
        )
        known = window_of(cards_of(answered.value), self._model.name)
        self._findings.note("context_length", known, "/models does not say it")

    # Chat

    async def _ask_question(self) -> None:
        """Everything else stands on this one: where nobody answers at all, there is nothing to find out."""
        try:
            data = await self._chat()
        except Exhausted as exhausted:
            error = await self._model.failed(exhausted)
            if _in_passing(exhausted.failure) or isinstance(error, AuthenticationFailed | ModelNotFound):
                raise error from None
            self._findings.note("chat", False, exhausted.failure.reason)
            for name in ("usage_in_answers", "version"):
                self._findings.note(name, None, "there was no answer to look at")
            return
        problem = _emptiness(data)
        self._findings.note("chat", problem is None, problem or "")
        if problem is None and (problem := _false_count(data)) is None:
            self._billed = data["usage"]["prompt_tokens"]
        self._findings.note(
            "usage_in_answers", problem is None if self._findings.values["chat"] else None, problem or ""
        )
        version = data.get("system_fingerprint")
        self._findings.note("version", str(version) if version else None, "answers carry no system_fingerprint")

    async def _ask_stream(self) -> None:
        pieces: list[str] = []
        data = await self._chat(on_text=pieces.append)
        problem = _emptiness(data)
        if problem is not None:
            self._findings.note("streams", False, problem)
            return
        if not pieces:
            whole = bool(_text(first_choice(data)))
            why = "a stream was asked for and the answer came in one piece" if whole else "no text came to see it by"
            self._findings.note("streams", False if whole else None, why)
        else:
            self._findings.note("streams", True)
        problem = _false_count(data)
        if problem is None and self._billed not in (None, counted := data["usage"]["prompt_tokens"]):
            problem = f"{counted} prompt tokens in a stream, {self._billed} for the same prompt in a whole answer"
        self._findings.note("usage_in_streams", problem is None, problem or "")

    async def _ask_form(self) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": _SCHEMA}}
        data = await self._chat(tokens=_FORM, response_format=form)
        text = _text(first_choice(data))
        compact = "".join(text.split())
        if compact == _FORMED or (len(compact) > _FORMED.index(_WORD) and _FORMED.startswith(compact)):
            self._findings.note("structured_output", True)  # whole, or cut at the limit on the only way there was
        elif not compact or _FORMED.startswith(compact):
            self._findings.note("structured_output", None, "the answer ended before it could be seen")
        else:
            self._findings.note(
                "structured_output", False, "response_format was taken, and the answer does not fit the schema"
            )

    async def _ask_seeds(self) -> None:
        answers = [_text(first_choice(await self._chat(seed=seed, temperature=_LIVELY))) for seed in (1, 1, 2)]
        if answers[0] != answers[1]:
            self._findings.note("seed", False, "the same seed gave two different answers")
        elif answers[1] == answers[2]:
            self._findings.note("seed", None, "all answers were the same, with other seeds as well")
        else:
            self._findings.note("seed", True)

    # Tokens

    async def _ask_text(self) -> None:
        problem = _emptiness(await self._complete(_TEXT, _CONTINUED, temperature=0))
        self._findings.note("completions", problem is None, problem or "")

    async def _ask_tokens(self) -> None:
        prompt = list(_SOME_IDS)

        async def render() -> None:
            ids = await self._renderer.render([Message("user", _QUESTION)], generation_prompt=True)
            if not ids or self._billed not in (None, len(ids)):
                billed = "" if self._billed is None else f", which was billed as {self._billed}"
                self._findings.note("tokenize", False, f"/tokenize gives {len(ids)} ids for a conversation{billed}")
                return
            prompt[:] = ids
            self._findings.note("tokenize", True)
            await self._renderer.end_of_turn()
            self._findings.note("appends", True)

        async def sample() -> None:
            await self._ask_samples(prompt)

        await self._check(("tokenize", "appends"), render)
        await self._check(_TOKEN_FIELDS, sample)

    async def _ask_samples(self, prompt: list[int]) -> None:
        settings = {"seed": 1, "top_p": 1.0, "logprobs": 1, "return_token_ids": True}
        try:
            data = await self._complete(
                prompt, _SAMPLES[0][1], n=_SAMPLES[0][0], temperature=_TEMPERATURES[0], **settings
            )
            count, tokens = _SAMPLES[0]
        except Exhausted as exhausted:
            if not _is_refusal(exhausted.failure):
                raise
            count, tokens = _SAMPLES[1]
            data = await self._complete(prompt, tokens, temperature=_TEMPERATURES[0], **settings)
        cold = Samples.of(data)
        self._findings.note("token_prompts", *cold.prompt_problem(prompt))
        for name, problem in (("token_ids", cold.ids_problem()), ("logprobs", cold.logprobs_problem())):
            self._findings.note(name, problem is None, problem or "")
        if not (self._findings.values["token_ids"] and self._findings.values["logprobs"]):
            self._findings.note("scaled_logprobs", None, "it takes token ids and log-probs to see it")
            return
        more = {} if count == 1 else {"n": count}
        hot = Samples.of(await self._complete(prompt, tokens, temperature=_TEMPERATURES[1], **more, **settings))
        self._findings.note("scaled_logprobs", *cold.scaling(hot))


def _in_passing(failure: Failure) -> bool:
    """Whether the reason may be gone next time; an answer that makes no sense will make none then either."""
    return isinstance(failure, Unreachable) or (isinstance(failure, Rejected) and failure.retryable)


def _is_refusal(failure: Failure) -> bool:
    return isinstance(failure, Rejected) and failure.status in (400, 422)


def _emptiness(data: Mapping[str, Any]) -> str | None:
    """What is wrong with an answer. One of no text may be an end of turn at once, or thinking that was cut; it was sampled."""
    usage = reported_usage(data)
    if first_choice(data) and (_text(first_choice(data)) or (usage is not None and usage.completion_tokens > 0)):
        return None
    return "the answer had status 200 and nothing in it"


def _false_count(data: Mapping[str, Any]) -> str | None:
    """What is wrong with the usage that an answer states."""
    usage = reported_usage(data)
    if usage is None:
        return "nothing is said of what the answer cost"
    if usage.prompt_tokens < 1 or usage.completion_tokens < 1:
        return f"{usage.prompt_tokens} prompt and {usage.completion_tokens} answer tokens, which cannot be"
    return None


def _text(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return text if isinstance(text, str) else ""
