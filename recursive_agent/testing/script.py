"""Scripts: what the endpoint answers. A script is a callable from `Request` to a string, a `Reply` or a `Fault`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from ..model.base import ToolCall
from ..worked_examples import without_examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request for an answer, as a script sees it, whichever interface it came by.

    `index` counts requests from 0 in order of arrival. `messages` are the conversation as OpenAI-style dictionaries
    (recovered from the ids in the `tokens` interface; empty for a plain-text prompt). `prompt_token_ids` is what the
    endpoint bills as prompt. `body` is the parsed JSON as sent.
    """

    index: int
    kind: Literal["chat", "completions"]
    model: str
    messages: tuple[Mapping[str, Any], ...]
    prompt_token_ids: tuple[int, ...]
    prompt: str
    max_tokens: int
    stop: tuple[str, ...] = ()
    seed: int | None = None
    stream: bool = False
    n: int = 1
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those of HTTP, by names in lower case."""

    @property
    def own(self) -> Sequence[Mapping[str, Any]]:
        """The messages without the worked examples that open an agent's conversation."""
        return without_examples(self.messages)

    def text(self, role: str | None = None) -> str:
        """The contents of all messages (of one role), joined by newlines; without worked examples."""
        return "\n".join(_text(m) for m in self.own if role is None or m.get("role") == role)

    @property
    def first(self) -> str:
        """What opens the conversation: the first user message (the goal, not that of an example), or the first message
        where there is no user."""
        for message in self.own:
            if message.get("role") == "user":
                return _text(message)
        return _text(self.messages[0]) if self.messages else self.prompt

    @property
    def last(self) -> str:
        """The newest message: an observation, or the goal itself."""
        return _text(self.messages[-1]) if self.messages else self.prompt

    @property
    def step(self) -> int:
        """Answers already in this conversation, so 0 at its first request; those of worked examples do not count."""
        return sum(1 for message in self.own if message.get("role") == "assistant")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Everything but `text` has a default that makes an ordinary one.

    `token_ids` overrides how the text is spelled in tokens (the text is then decoded from them), `logprobs` their
    log-probabilities. `end_of_turn=False` leaves the end-of-turn token unsampled. `delay` is in seconds.
    """

    text: str | None = ""
    tool_calls: Sequence[ToolCall] = ()
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    finish_reason: str | None = None
    end_of_turn: bool = True
    cached_tokens: int = 0
    delay: float = 0.0


class FaultKind(StrEnum):
    """Ways in which an endpoint fails."""

    STATUS = "status"
    """An HTTP error with a proper error body; nothing is billed."""
    DROP = "drop"
    """The request is read and billed, then the connection is closed without an answer."""
    CUT = "cut"
    """The connection is closed in the middle of the answer; in a stream before its end. Billed."""
    TRUNCATED = "truncated"
    """A stream that ends properly, but before the answer does (as CUT where nothing is streamed). Billed."""
    HANG = "hang"
    """No answer until the client goes away. Billed in full."""
    GARBLED = "garbled"
    """Status 200 with a body (or a stream line) that is no JSON. Billed."""
    HTML = "html"
    """Status 200 with a web page, as from a proxy or a wrong URL. Not billed."""
    NO_CHOICES = "no_choices"
    """Status 200 with an empty list of choices. The prompt is billed."""
    NULL_CONTENT = "null_content"
    """Status 200 whose answer is null. The prompt is billed."""
    NO_USAGE = "no_usage"
    """An ordinary answer that says nothing about what it cost. Billed."""
    NAN_LOGPROBS = "nan_logprobs"
    """An ordinary answer whose log-probabilities are NaN. Billed."""
    NO_TOKEN_IDS = "no_token_ids"
    """An ordinary answer without token ids and log-probabilities, whatever was asked for. Billed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure on demand. `reply` is what the model had answered, had all gone well.

    For `FaultKind.STATUS`: `status`, the error body's `message`, `type` and `code`, and `headers` (Retry-After, say).
    """

    kind: FaultKind | str
    reply: str | Reply = "lost"
    status: int = 500
    message: str = "scripted failure"
    type: str = "server_error"
    code: str | int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", FaultKind(self.kind))

    @classmethod
    def http(cls, status: int, message: str = "scripted failure", **settings: Any) -> Fault:
        """An HTTP error: `Fault.http(429, headers={"Retry-After": "1"})`."""
        return cls(FaultKind.STATUS, status=status, message=message, **settings)


Answer = str | Reply | Fault
Script = Callable[[Request], Answer | Awaitable[Answer]]


def replies(answers: Sequence[Answer], *, then: Answer | None = None) -> Script:
    """A script that gives `answers` in order of arrival, whoever asks.

    When they are used up it gives `then`, or refuses the request (status 400, which no client retries) and says so.
    """
    queue = list(answers)

    def script(request: Request) -> Answer:
        if request.index < len(queue):
            return queue[request.index]
        if then is not None:
            return then
        return Fault.http(400, f"the script has {len(queue)} replies and this is request {request.index + 1}")

    return script


def by_goal(goals: Mapping[str, Answer | Sequence[Answer] | Script], *, otherwise: Answer | None = None) -> Script:
    """A script keyed by what a conversation is about, so that concurrent agents get their own answers in any order.

    The longest key that occurs in the conversation's first user message wins. A sequence gives one answer a step (the
    step is read off the conversation, the last answer repeats); a callable is asked. Where no key occurs `otherwise` is
    given, or the request is refused (status 400) with a message that names the keys.
    """
    keys = sorted(goals, key=len, reverse=True)

    def script(request: Request) -> Answer | Awaitable[Answer]:
        opening = request.first
        for key in keys:
            if key in opening:
                chosen = goals[key]
                if isinstance(chosen, str | Reply | Fault):
                    return chosen
                if callable(chosen):
                    return chosen(request)
                return chosen[min(request.step, len(chosen) - 1)]
        if otherwise is not None:
            return otherwise
        return Fault.http(400, f"no goal of the script occurs in this conversation; it knows {sorted(goals)}")

    return script


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
