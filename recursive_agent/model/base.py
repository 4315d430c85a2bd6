"""The one interface to a language model: a `Model` opens a `Conversation` for each node.

A conversation is append-only. `chat` sends messages and trusts the endpoint's template; `tokens` sends prompt ids and
gets sampled ids with log-probs, so that what was sampled is known exactly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from ..messages import Message, Role, ToolCall
from ..usage import Usage

if TYPE_CHECKING:
    from ..checkpoint import CheckpointSettings

__all__ = [
    "Completion",
    "Conversation",
    "Explaining",
    "Keyed",
    "Message",
    "Model",
    "NoAnswer",
    "OnLost",
    "OnText",
    "OnWait",
    "PerAgent",
    "Provided",
    "Restorable",
    "Retractable",
    "Role",
    "Sampling",
    "Throttled",
    "ToolCall",
    "Trained",
    "Versioned",
    "Waiting",
]

OnText = Callable[[str], None]
"""Called with each piece of text as it streams in."""
OnLost = Callable[[int], Awaitable[None]]
"""Awaited after an attempt whose answer was lost, before it is tried again, with the upper bound of tokens that the lost
attempt may have been billed for. May raise to stop the retries (the budget no longer allows one)."""


class NoAnswer(StrEnum):
    """Why an answer contains neither text nor tool calls."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer of a model.

    `text` is the answer itself; `reasoning` is the model's thinking before it (None: there is none). If there is neither text
    nor a tool call, `no_answer` says why.
    `token_ids` and `logprobs` have one entry for each sampled token, including a sampled end-of-turn token.
    `prompt_token_ids` are the tokens of the prompt. All three are None if the endpoint does not return them.
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
    endpoint: str | None = None
    """URL of the replica that answered, if the model has several."""


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

        Raises a `ModelError` if every retry fails. A malformed or empty answer is not an error: the completion contains
        the text that the model wrote.
        """


@runtime_checkable
class Restorable(Protocol):
    """A conversation that can take over answers of an earlier one; others are given them by `add`."""

    def restore(self, messages: Sequence[Message], completion: Completion) -> None:
        """Append messages that were sent, and the answer that came, without a call."""


@runtime_checkable
class Retractable(Protocol):
    """A conversation that keeps account of its messages, and must know when some are taken back before they were sent."""

    def retract(self, count: int) -> None:
        """Forget the messages after the first `count`, none of which was sent."""


@runtime_checkable
class Bounded(Protocol):
    """A conversation whose `prompt_tokens` may have to ask the endpoint, and that often knows a bound without asking."""

    def prompt_bound(self, slack: int | None) -> int | None:
        """What `prompt_tokens` gives or up to `slack` tokens more (None: or any number more); None where only the endpoint can
        tell that closely."""


@runtime_checkable
class Model(Protocol):
    """A language model; pass one to `Agent` instead of a name.

    A model needs only these members. It may also have the members of `Trained`, `Keyed`, `Versioned`, `Throttled`,
    `Explaining`, `PerAgent` or `Provided`, to use the features that those describe.
    """

    name: str
    interface: Literal["chat", "tokens"]
    sampling: Sampling
    """What conversations sample with by default."""

    async def context_length(self) -> int | None:
        """The model's context window in tokens; None if the endpoint does not report it."""

    def conversation(
        self, *, tools: Sequence[Mapping[str, Any]] = (), sampling: Sampling | None = None
    ) -> Conversation:
        """A new, empty conversation; `tools` are native tool definitions in OpenAI's format."""

    async def aclose(self) -> None:
        """Close connections and stop helpers. Safe to call twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Calls wait until the endpoint takes them again."""

    reason: str
    """What the endpoint said, as one line."""
    seconds: float
    """Until the next call goes out."""
    since: float
    """When the waiting began, in seconds since the epoch."""
    calls: int
    """How many calls wait."""
    throttled: bool = True
    """False for the pause before another attempt at a call that failed."""

    def __str__(self) -> str:
        return f"waiting {self.seconds:.0f} s for the endpoint: {self.reason}"


OnWait = Callable[[Waiting | None], None]
"""Called when calls begin to wait (and again when the wait is prolonged), and with None when they flow again."""


@runtime_checkable
class Trained(Protocol):
    """A model that was trained with one prompt: its agent takes prompt style and action format from `settings`."""

    @property
    def settings(self) -> CheckpointSettings | None:
        """The contents of its checkpoint's `agent.json`; None leaves the choice to the agent."""


@runtime_checkable
class PerAgent(Protocol):
    """A model that must know which agent it answers for: an expert that has its code for every goal, say."""

    def conversation_for(self, goal: str, context: Any) -> Conversation:
        """A new, empty conversation of the agent with this goal and context; agents use it instead of `conversation`."""


@runtime_checkable
class Provided(Protocol):
    """A model that says whose it is."""

    @property
    def provider(self) -> str:
        """The provider's name in OpenTelemetry's conventions (`gen_ai.provider.name`), or another short one."""


@runtime_checkable
class Keyed(Protocol):
    """A model with secrets that must not enter a trace."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that traces must not contain, such as the key or a password; they are redacted."""


@runtime_checkable
class Versioned(Protocol):
    """A model whose weights have a version name."""

    @property
    def version(self) -> str | None:
        """Version of the weights that calls use now; None if they have none."""


@runtime_checkable
class Throttled(Protocol):
    """A model that reports when calls wait for its endpoint."""

    @property
    def waiting(self) -> Waiting | None:
        """What calls are waiting for; None if they are not waiting."""

    def on_wait(self, listener: OnWait) -> AbstractContextManager[None]:
        """While the block lasts, call `listener` when calls have to wait, and when they flow again."""


@runtime_checkable
class Explaining(Protocol):
    """A model that knows why its last call failed."""

    @property
    def trouble(self) -> str | None:
        """Why the last attempt at a call failed; None after an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling settings for every call; `extra` contains settings that rao does not know and passes on to the endpoint.

    `max_tokens` caps the answer of one call (the budget may lower it further).
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int = 4096
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Sampling:
        """From the user's plain mapping. Raises TypeError or ValueError for an invalid value."""
        return cls().updated(settings)

    def updated(self, settings: Mapping[str, Any] | None) -> Sampling:
        """These settings with those of a plain mapping on top. Raises TypeError or ValueError as `of` does."""
        rest = dict(settings or {})
        stop = rest.pop("stop", self.stop)
        temperature, top_p = rest.pop("temperature", self.temperature), rest.pop("top_p", self.top_p)
        max_tokens = rest.pop("max_tokens", self.max_tokens)
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
            extra={**self.extra, **rest},
        )
