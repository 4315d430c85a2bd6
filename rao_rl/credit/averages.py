"""Moving averages of the reward by depth: a baseline that needs no group, only the rewards that came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

Averages = Mapping[int, float]
"""By depth, the average of the rewards so far. A depth that is missing has had none: its average is 0."""


def moved(averages: Averages, rewards: Mapping[int, Sequence[Fraction]], decay: float) -> dict[int, float]:
    """The averages after these rewards, by depth.

    One reward moves an average b to decay·b + (1 − decay)·reward. The rewards of a batch have no order, so n of them count as
    n times their mean: decay^n·b + (1 − decay^n)·mean.
    """
    after = dict(averages)
    for depth, earned in rewards.items():
        if earned:
            mean = float(sum(earned, Fraction(0)) / len(earned))
            kept = decay ** len(earned)
            after[depth] = kept * averages.get(depth, 0.0) + (1 - kept) * mean
    return after
