"""What model calls cost, in tokens and money."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, calls and cost; add usages with `+`.

    `unconfirmed` is an upper bound of the tokens of requests whose answer never arrived; the endpoint may have billed them.
    `prompt_tokens` and `completion_tokens` do not include them: they count only tokens that the endpoint reported.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0
    unconfirmed: int = 0

    @property
    def total_tokens(self) -> int:
        """Billed prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cost=self.cost + other.cost,
            unconfirmed=self.unconfirmed + other.unconfirmed,
        )
