"""The one interface to a language model: a `Model` opens a `Conversation` for each node.

A conversation is append-only. `chat` sends messages and trusts the endpoint's template; `tokens` sends prompt ids and
gets sampled ids with log-probs, so that what was sampled is known exactly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, runtime_checkable

from ..usage import Usage

Role = Literal["system", "user", "assistant", "tool"]
OnText = Callable[[str], None]
"""Called with each piece of text as it streams in."""
OnLost = Callable[[int], Awaitable[None]]
"""Awaited after an attempt whose answer was lost, before it is tried again, with the upper bound of tokens that the lost
attempt may have been billed for. May raise to stop the retries (the budget no longer allows one)."""


class NoAnswer(StrEnum):
    """Why an answer holds neither text nor tool calls."""

    EMPTY = "empty"
    """Nothing came, and nothing says why."""
    REFUSED = "refused"
    """The model refused; `Completion.refusal` holds its words."""
    FILTERED = "filtered"
    """A content filter of the provider kept the answer back."""
    CUT_WHILE_THINKING = "cut_while_thinking"
    """All the tokens of the answer went into thinking, or it was cut before its first word."""
    ONLY_THINKING = "only_thinking"
    """The model thought, and ended its turn without an answer."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A native tool call, `arguments` as the raw JSON text the model wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer of a model.

    `text` is the answer itself; what the model thought before it is `reasoning`, wherever it stood (None: nothing). Where
    there is neither text nor a tool call, `no_answer` says why.
    `token_ids` and `logprobs` have one entry for each sampled token, end-of-turn token included where it was sampled.
    `prompt_token_ids` is what the model was given. All three are None where the endpoint does not give them.
    """

    text: str
    finish_reason: str
    usage: Usage
    model: str
    version: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    prompt_token_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    latency: float = 0.0
    attempts: int = 1
    reasoning: str | None = None
    refusal: str | None = None
    no_answer: NoAnswer | None = None


@runtime_checkable
class Conversation(Protocol):
    """One node's exchange with a model."""

    messages: list[Message]
    exact: bool
    """Whether `prompt_tokens` is exact (`tokens`) or an upper bound (`chat`)."""

    def add(self, *messages: Message) -> None:
        """Append messages (the prompt, an observation). Answers are appended by `complete` itself."""

    async def prompt_tokens(self) -> int:
        """Tokens that the next call will be billed for as prompt: exact, or an upper bound (see `exact`)."""

    async def complete(
        self,
        *,
        max_tokens: int,
        seed: int | None = None,
        on_text: OnText | None = None,
        on_lost: OnLost | None = None,
    ) -> Completion:
        """One model call of at most `max_tokens` sampled tokens; the answer is appended to `messages`.

        Raises a `ModelError` after every retry. A malformed or empty answer is no error: it comes back as a completion
        with the text there was.
        """


@runtime_checkable
class Model(Protocol):
    """A language model somewhere."""

    name: str
    interface: Literal["chat", "tokens"]
    sampling: Sampling
    """What conversations sample with where they are not told otherwise."""

    async def context_length(self) -> int | None:
        """The model's context window in tokens, None where the endpoint does not say."""

    def conversation(
        self, *, tools: Sequence[Mapping[str, Any]] = (), sampling: Sampling | None = None
    ) -> Conversation:
        """A new, empty conversation; `tools` are native tool definitions in OpenAI's format."""

    async def aclose(self) -> None:
        """Close connections and stop helpers. Safe to call twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling settings of every call; unknown ones go through to the endpoint in `extra`.

    `max_tokens` caps the answer of one call (the budget may lower it further).
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 4096
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Sampling:
        """From the user's plain mapping. Raises TypeError or ValueError on a value that makes no sense."""
        return cls().updated(settings)

    def updated(self, settings: Mapping[str, Any] | None) -> Sampling:
        """These settings with those of a plain mapping on top. Raises TypeError or ValueError as `of` does."""
        given = dict(settings or {})
        stop = given.pop("stop", self.stop)
        temperature, top_p = given.pop("temperature", self.temperature), given.pop("top_p", self.top_p)
        max_tokens = given.pop("max_tokens", self.max_tokens)
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise ValueError(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}")
        for name, value, most in (("temperature", temperature, None), ("top_p", top_p, 1)):
            if value is not None and not (float(value) >= 0 and (most is None or float(value) <= most)):
                raise ValueError(
                    f"{name} must be at least 0{'' if most is None else f' and at most {most}'}, not {value!r}"
                )
        return Sampling(
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            extra={**self.extra, **given},
        )
