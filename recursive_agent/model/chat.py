"""The `chat` interface: messages in, text out, over /v1/chat/completions of any endpoint."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

from ..usage import Usage
from . import dialect
from .answer import Echo, Reading, names_of, read_choice, sampled
from .base import Completion, Message, OnLost, OnText, Sampling
from .bill import billed
from .counting import PromptCounter
from .dialect import Trouble
from .endpoint import OPENAI_URL, Endpoint
from .failures import Rejected
from .layout import Layout, extra_size, laid_out
from .prompt_size import MESSAGE_OVERHEAD, PromptSizes
from .remote import Direct, RemoteModel, Route, Stopwatch, first_choice
from .retry import Retries
from .texts import clean

_log = logging.getLogger(__name__)

_SHORTEST_ANSWER = 16
"""Tokens below which an answer is not worth guessing for."""
_MOST_CORRECTIONS = 40
"""Times that one attempt is worded otherwise: refusals cost nothing, and each correction is made once or halves a number."""
_DROPPED = ("seed", "stream_options", "temperature", "top_p", "stop")
"""Settings that an endpoint may refuse by name; it then goes by its own. What a call may cost never depends on them."""
_CORRECTED = frozenset({Trouble.REQUEST, Trouble.SERVER, Trouble.ANSWER})


class ChatModel(RemoteModel):
    """A model behind /v1/chat/completions."""

    interface: Literal["chat", "tokens"] = "chat"
    path = "/chat/completions"

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        sampling: Sampling | None = None,
        timeout: float = 600.0,
        retries: Retries | None = None,
    ) -> None:
        super().__init__(endpoint, sampling=sampling or Sampling(), timeout=timeout, retries=retries or Retries())
        self.window_hint: int | None = None
        """The context window as a refusal named it."""
        self.layout = Layout()
        self.sizes = PromptSizes()
        """What its bills say about the tokens of texts."""
        self.counter = PromptCounter(endpoint, self.wire)
        # OpenAI's reasoning models know only the new name, most other servers only the old one.
        self._limit_name = "max_completion_tokens" if endpoint.base_url == OPENAI_URL else "max_tokens"
        self._renamed = False
        self._answer_cap: int | None = None
        """The longest answer that it gives, as a refusal named it."""
        self._dropped: set[str] = set()

    def conversation(
        self,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        sampling: Sampling | None = None,
        route: Route[Self] | None = None,
    ) -> ChatConversation:
        """A new, empty conversation."""
        return ChatConversation(route or Direct(self), tools, self.sampling_or_own(sampling))

    async def context_length(self) -> int | None:
        """The window that the endpoint reports; where it does not, the one that a refusal has named."""
        return await super().context_length() or self.window_hint

    async def answer(
        self,
        body: Mapping[str, Any],
        max_tokens: int,
        on_text: OnText | None,
        *,
        messages: Callable[[], list[dict[str, Any]]] | None = None,
        echoed: Sequence[str] = (),
        session: str | None = None,
    ) -> dict[str, Any]:
        """One attempt, worded otherwise where the endpoint says how: a setting's name, roles, an answer too long.

        `messages` lays the conversation out as the endpoint is known to take it, `echoed` are the names of what goes back
        with the model's own messages. What was learnt is kept for all calls. Raises Failure.
        """
        max_tokens = min(max_tokens, self._answer_cap or max_tokens)
        for _ in range(_MOST_CORRECTIONS):
            request = {name: value for name, value in body.items() if name not in self._dropped}
            request[self._limit_name] = max_tokens
            if messages is not None:
                request["messages"] = messages()
            try:
                return await self._ask(request, on_text, session)
            except Rejected as rejected:
                if rejected.trouble in _CORRECTED and self._corrected(rejected, request, echoed, on_text is not None):
                    continue
                shorter = self._shorter(rejected, max_tokens)
                if shorter is None:
                    raise
                max_tokens = shorter
        return await self._ask(request, on_text, session)

    async def _ask(self, request: dict[str, Any], on_text: OnText | None, session: str | None) -> dict[str, Any]:
        return await self.ask(request, on_text, with_usage="stream_options" not in self._dropped, session=session)

    def _corrected(self, rejected: Rejected, request: Mapping[str, Any], echoed: Sequence[str], streamed: bool) -> bool:
        """Whether a refusal says what to do otherwise, which then is done from now on."""
        message, layout = rejected.error.message, self.layout
        if not self._renamed and self._renames(message):
            return True
        roles = {message["role"] for message in request["messages"]}
        if dialect.refuses_system(message) and layout.system and "system" in roles:
            layout.system = False
            return True
        if dialect.wants_alternation(message):
            if not layout.alternate:
                layout.alternate = True
                return True
            if layout.system and "system" in roles:
                layout.system = False
                return True
        if echoed and not layout.echo_always and dialect.demanded_name(message, echoed):
            layout.echo_always = True
            return True
        wanted = [name for name in echoed if name not in layout.unwanted]
        if (name := dialect.refused_name(rejected.error, wanted)) is not None:
            layout.unwanted.add(name)
            return True
        if not layout.json_arguments and dialect.wants_json_arguments(message) and "tool" in roles:
            layout.json_arguments = True
            return True
        return self._drops(rejected, {*request, *(("stream_options",) if streamed else ())})

    def _renames(self, message: str) -> bool:
        for name, wanted in (
            ("max_tokens", dialect.wants_new_limit_name(message)),
            ("max_completion_tokens", dialect.wants_old_limit_name(message)),
        ):
            if wanted and self._limit_name == name:
                self._limit_name = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
                self._renamed = True
                return True
        return False

    def _drops(self, rejected: Rejected, sent: set[str]) -> bool:
        names = [name for name in _DROPPED if name in sent and name not in self._dropped]
        name = dialect.refused_name(rejected.error, names)
        if name is None:
            return False
        self._dropped.add(name)
        _log.warning("%s takes no %s, so it is left out: %s", self.endpoint.shown_url, name, rejected.message)
        return True

    def _shorter(self, rejected: Rejected, max_tokens: int) -> int | None:
        """A limit that may fit where `max_tokens` did not; None where the prompt alone is too long."""
        message = rejected.error.message
        if rejected.trouble is Trouble.ANSWER:
            cap = dialect.answer_cap(message)
            if cap is not None and cap < max_tokens:
                if rejected.status != 402:  # what an account can pay changes, what a model gives does not
                    self._answer_cap = cap
                return cap
            return _half(max_tokens)
        if rejected.trouble is not Trouble.OVERFLOW:
            return None
        sizes = rejected.sizes(max_tokens)
        if sizes is None:
            return _half(max_tokens) if dialect.answer_counts(message) else None
        self.window_hint = sizes.window
        if sizes.exact:
            room = sizes.window - sizes.prompt
            return None if room < 1 else room if room < max_tokens else _half(max_tokens)
        # Where the endpoint did not count to the end, halving finds a limit that fits; being refused costs nothing.
        room = min(max_tokens // 2, sizes.window - 1)
        return room if room >= _SHORTEST_ANSWER else None


class ChatConversation:
    """One node's exchange over chat completions. `prompt_tokens` is an upper bound."""

    exact = False

    def __init__(self, route: Route[ChatModel], tools: Sequence[Mapping[str, Any]], sampling: Sampling) -> None:
        self.messages: list[Message] = []
        self._route = route
        self._sampling = sampling
        self._tools = [dict(tool) for tool in tools]
        self._known = 0
        """Upper bound of the tokens of the first `_settled` messages, tools included."""
        self._billed = 0
        """Those of them that were billed, and go into the next prompt as they are."""
        self._settled = 0
        self._bytes = 0
        """Bytes of the texts of the first `_measured` messages."""
        self._measured = 0
        self._echoes: dict[int, Echo] = {}
        self._next: _Prompt | None = None

    @property
    def _model(self) -> ChatModel:
        return self._route.model

    def add(self, *messages: Message) -> None:
        """Append messages."""
        self.messages.extend(messages)

    async def prompt_tokens(self) -> int:
        """Upper bound: the endpoint's own count where it gives one, otherwise what was billed and what is new since."""
        prompt = self._prompt()
        if prompt.counted is None:
            sent, model = prompt.messages, self._model
            body = {**model.body(self._sampling, seed=None), "messages": self._laid_out(model, sent)}
            if self._tools:
                body["tools"] = self._tools
            prompt.layout = copy.deepcopy(model.layout)
            prompt.counted = await model.counter.count(body, self._measure(sent))
        return prompt.bound

    def prompt_bound(self, slack: int | None) -> int | None:
        """See `Bounded`."""
        if self._model.window_hint is not None:  # answers are cut to what it leaves
            return None
        if slack is None:
            return self._prompt().bound
        count, sizes = len(self.messages), self._model.sizes
        if self._next is not None and self._next.messages == count:
            return None if self._next.counted is None else self._next.bound
        if not self._settled:
            bound = sizes.nearly(self.messages, self._tools, slack)
        else:
            bound = self._known + sum(sizes.message(message) for message in self.messages[self._settled :])
            bound = bound if bound - self._billed <= slack else None
        if bound is not None:
            self._next = _Prompt(count, bound)
        return bound

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
        max_tokens = max(1, min(max_tokens, self._sampling.max_tokens))
        prompt = self._prompt()
        sent, bound, hint = prompt.messages, prompt.bound, route.model.window_hint
        if (self._settled or prompt.counted is not None) and hint is not None:
            # The bound is tight, so this spares a refusal without giving away much.
            max_tokens = min(max_tokens, max(hint - bound, _SHORTEST_ANSWER))
        echoed = names_of(self._echoes.values()) if self._echoes else ()

        async def attempt(model: ChatModel) -> dict[str, Any]:
            body = model.body(self._sampling, seed=seed)
            if self._tools:
                body["tools"] = self._tools
            laid_out = partial(self._laid_out, model, sent)
            data = await model.answer(
                body, max_tokens, on_text, messages=laid_out, echoed=echoed, session=route.session
            )
            model.answered = True
            return data

        answered = await route.call(attempt, bound=bound + max_tokens, on_lost=on_lost)
        data = answered.value
        reading = read_choice(first_choice(data), place=sent)
        usage = billed(
            data,
            prompt_bytes=self._measure(sent),
            answer_bytes=reading.size + sampled([reading.reasoning]),
            bound=bound + max_tokens,
        )
        self.messages.insert(sent, Message("assistant", reading.text, reading.calls))
        self._settle(usage, prompt, reading)
        named, fingerprint = data.get("model"), data.get("system_fingerprint")
        return Completion(
            text=reading.text,
            finish_reason=reading.finish_reason,
            usage=replace(usage, unconfirmed=usage.unconfirmed + answered.unconfirmed),
            model=clean(named)[:200] if isinstance(named, str) and named else route.model.name,
            version=clean(str(fingerprint))[:200] if isinstance(fingerprint, str | int) and fingerprint else None,
            tool_calls=reading.calls,
            latency=watch.seconds,
            attempts=answered.attempts,
            reasoning=reading.reasoning,
            refusal=reading.refusal,
            no_answer=reading.no_answer,
            endpoint=route.endpoint,
        )

    def restore(self, messages: Sequence[Message], completion: Completion) -> None:
        """See `Restorable`."""
        self._route.open(messages)
        self.messages.extend(messages)
        sent, usage = len(self.messages), completion.usage
        answer = Message("assistant", completion.text, completion.tool_calls)
        self.messages.append(answer)
        tokens = usage.prompt_tokens + max(usage.completion_tokens, self._model.sizes.message(answer))
        self._known, self._billed = tokens + usage.unconfirmed + MESSAGE_OVERHEAD, usage.prompt_tokens
        self._settled, self._next = sent + 1, None

    def retract(self, count: int) -> None:
        """See `Retractable`."""
        self._bytes -= sampled(message.content for message in self.messages[count : self._measured])
        self._measured = min(self._measured, count)
        del self.messages[count:]
        self._next = None

    def _prompt(self) -> _Prompt:
        """The next prompt. Its bound stays as it is, since it has been reserved, whatever is learnt meanwhile."""
        count, sizes = len(self.messages), self._model.sizes
        if self._next is None or self._next.messages != count:
            if self._settled:
                estimate = self._known + sum(sizes.message(message) for message in self.messages[self._settled :])
            else:
                estimate = sizes.opening(self.messages, self._tools)
            self._next = _Prompt(count, estimate)
        return self._next

    def _laid_out(self, model: ChatModel, count: int) -> list[dict[str, Any]]:
        return laid_out(self.messages[:count], self._echoes, model.layout, tools=bool(self._tools))

    def _measure(self, count: int) -> int:
        """Bytes of the texts of the first `count` messages."""
        self._bytes += sampled(message.content for message in self.messages[self._measured : count])
        self._measured = count
        return self._bytes

    def _settle(self, usage: Usage, prompt: _Prompt, reading: Reading) -> None:
        """Tighten the bound to what the endpoint counted, and learn from it for other conversations."""
        sent, sizes = prompt.messages, self._model.sizes
        answer = sizes.message(self.messages[sent])
        extra = 0
        if reading.echo.message or any(reading.echo.calls):
            self._echoes[sent] = reading.echo
            extra = extra_size(reading.echo)
        if usage.unconfirmed:
            self._known = prompt.bound + answer + extra + sampled([reading.reasoning])
            self._billed = 0
        else:
            sizes.check(prompt.estimate, usage.prompt_tokens)
            if prompt.counted is not None and prompt.layout == self._model.layout:
                self._model.counter.check(prompt.counted, usage.prompt_tokens)
            if not self._settled:
                sizes.learn(self.messages[:sent], self._tools, usage.prompt_tokens)
            # The template writes answers anew. Tool calls, and texts in a small vocabulary, can take more tokens so than the
            # model sampled.
            anew = answer if self.messages[sent].tool_calls or not sizes.large else 0
            self._known = usage.prompt_tokens + max(usage.completion_tokens, anew) + MESSAGE_OVERHEAD + extra
            # A template leaves out what was thought before the answer.
            self._billed = usage.prompt_tokens + (0 if reading.reasoning else usage.completion_tokens)
        self._settled, self._next = sent + 1, None


@dataclass(slots=True)
class _Prompt:
    """Upper bounds of a prompt of so many messages."""

    messages: int
    estimate: int
    counted: int | None = None
    """What the endpoint's own tokenizer counts, None where it was not asked, or did not say."""
    layout: Layout | None = None
    """How the messages were laid out for that."""

    @property
    def bound(self) -> int:
        return self.estimate if self.counted is None else min(self.estimate, self.counted)


def _half(max_tokens: int) -> int | None:
    return max_tokens // 2 if max_tokens // 2 >= _SHORTEST_ANSWER else None
