"""Rewards of environments that other packages define, as scores from 0 to 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recursive_agent.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RewardRange:
    """The lowest and the highest reward that an environment gives: they become the scores 0 and 1.

    Raises ConfigurationError unless both are finite and `low` is less than `high`.
    """

    environment: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (_is_number(self.low) and _is_number(self.high) and self.low < self.high):
            raise ConfigurationError(
                f"{self.environment}: low and high are the lowest and the highest reward, two numbers of which low is the "
                f"smaller, not {self.low!r:.40} and {self.high!r:.40}"
            )

    def score(self, reward: float) -> float:
        """`reward` as a score. Raises ConfigurationError for one outside the range: it is never cut to fit."""
        if not _is_number(reward):
            raise ConfigurationError(f"{self.environment}: the reward {reward!r:.80} is not a finite number")
        if not self.low <= reward <= self.high:
            raise ConfigurationError(
                f"{self.environment}: the reward {reward:g} lies outside {self.low:g} to {self.high:g}; give the lowest and "
                "the highest reward with --env-set low=… --env-set high=…"
            )
        return (reward - self.low) / (self.high - self.low)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
