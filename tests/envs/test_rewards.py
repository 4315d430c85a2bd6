"""Rewards of other packages as scores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.envs.rewards import RewardRange
from recursive_agent import ConfigurationError

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_a_range_becomes_0_to_1_in_order(low: float, high: float, one: float, two: float) -> None:
    if not low < high:
        with pytest.raises(ConfigurationError):
            RewardRange("env", low, high)
        return
    rewards = RewardRange("env", low, high)
    assert (rewards.score(low), rewards.score(high)) == (0.0, 1.0)
    inside = sorted(each for each in (one, two) if low <= each <= high)
    scores = [rewards.score(each) for each in inside]
    assert scores == sorted(scores)
    assert all(0 <= score <= 1 for score in scores)
    for each in {one, two} - set(inside):
        with pytest.raises(ConfigurationError, match="lies outside"):
            rewards.score(each)


def test_hand_worked_scores() -> None:
    assert RewardRange("env", -1, 3).score(0) == 0.25
    for wrong in (float("nan"), float("inf"), True, None, "1"):
        with pytest.raises(ConfigurationError, match="is not a finite number"):
            RewardRange("env", 0, 1).score(wrong)  # type: ignore[arg-type]
