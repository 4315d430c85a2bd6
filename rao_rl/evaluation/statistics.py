"""The mathematics of an evaluation: intervals over tasks, and exact paired tests. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, reduce
from math import comb
from statistics import NormalDist, fmean, stdev
from typing import Literal, NamedTuple

Method = Literal["wilson", "t"]
"""How an interval was computed: Wilson's score interval, or Student's t over the tasks."""
_GRID = 5040
"""Steps of a difference of 1 in the permutation test: it holds every share of up to ten attempts."""
_WORK = 2e8
"""Sums times tasks that the permutation test counts at the most: about a second."""


class Interval(NamedTuple):
    """A 95 % interval of a mean score, and how it was computed."""

    low: float
    high: float
    method: Method


def wilson(successes: float, tasks: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, 1927). (0, 1) where there are no tasks."""
    if tasks == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / tasks
    middle = (share + z * z / (2 * tasks)) / (1 + z * z / tasks)
    half = z / (1 + z * z / tasks) * math.sqrt(share * (1 - share) / tasks + z * z / (4 * tasks * tasks))
    return max(0.0, middle - half), min(1.0, middle + half)


def interval(scores: Sequence[float], confidence: float = 0.95) -> Interval:
    """The interval of the mean of `scores` in [0, 1], one for each task (the mean of its attempts).

    Scores that are all 0 or 1 are a proportion: Wilson's interval. Others are graded, or means of several attempts: Student's
    t over the tasks, cut to [0, 1]. Where all tasks have the same score, or there is only one, nothing is known of their
    spread: Wilson's interval of that mean, which is wide enough for any scores in [0, 1], since none spread more than 0 and 1.
    """
    if len(set(scores)) < 2 or all(score in (0.0, 1.0) for score in scores):
        return Interval(*wilson(sum(scores), len(scores), confidence), "wilson")
    middle = fmean(scores)
    half = t_quantile(0.5 + confidence / 2, len(scores) - 1) * stdev(scores) / math.sqrt(len(scores))
    return Interval(max(0.0, middle - half), min(1.0, middle + half), "t")


def paired_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of paired `differences` in [−1, 1], one for each task.

    Bonett and Price's adjusted interval (2012): as if there were two tasks more, one that is better by 1 and one that is
    worse by 1. Unlike a plain t-interval it does not shrink to nothing where all tasks came out the same.
    """
    n = len(differences) + 2
    middle = sum(differences) / n
    spread = (sum(difference * difference for difference in differences) + 2) / n - middle * middle
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(spread / n)
    return max(-1.0, middle - half), min(1.0, middle + half)


def sign_test(better: int, worse: int) -> float:
    """Two-sided exact p of a sign test; with one attempt a task this is McNemar's exact test."""
    n, k = better + worse, min(better, worse)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n) if n else 1.0


def permutation_test(differences: Sequence[float]) -> float:
    """Two-sided exact p of the paired permutation test: how often sums as large come from differences of random sign.

    Unlike the sign test it counts how much a task changed. Differences are taken in steps of 1/5040, which holds every share
    of up to ten attempts (of very many tasks with graded scores, in larger steps).
    """
    changed = [difference for difference in differences if difference]
    if not changed:
        return 1.0
    grid = min(_GRID, max(20, int(_WORK / len(changed) / sum(map(abs, changed)))))
    signed = [round(grid * difference) for difference in changed]
    unit = max(1, reduce(math.gcd, signed))
    steps = [abs(step) // unit for step in signed]
    observed = abs(sum(signed)) // unit
    total = sum(steps)
    import numpy as np  # here, for every command imports this file

    ways = np.zeros(2 * total + 1)  # the probability of each sum from −total to total
    ways[total] = 1.0
    reach = 0
    for step in filter(None, steps):
        window = ways[total - reach : total + reach + 1].copy()
        reach += step
        ways[total - reach : total + reach + 1] = 0.0
        ways[total - reach : total - reach + len(window)] += window / 2
        ways[total + reach + 1 - len(window) : total + reach + 1] += window / 2
    tail = ways[: total - observed + 1].sum() + ways[total + observed :].sum()
    return float(min(1.0, tail)) if observed else 1.0


@cache
def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t with `freedom` (at least 1) degrees of freedom, for a probability of 0.5 or more."""
    low, high = 0.0, 1.0
    while _t_below(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _t_below(t: float, freedom: int) -> float:
    """P(T ≤ t) for t ≥ 0: the finite series of a whole number of degrees of freedom (Abramowitz and Stegun, 26.7.3–4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    within = math.sin(angle) * total
    return 0.5 + (2 * (angle + within) / math.pi if odd else within) / 2


def ratio_interval(
    tops: Sequence[float], bottoms: Sequence[float], confidence: float = 0.95, *, draws: int = 2000
) -> tuple[float, float]:
    """The percentile bootstrap interval of Σ tops / Σ bottoms over tasks, which are drawn with replacement.

    Both have one number for each task. A draw whose bottoms sum to 0 counts as infinite; (nan, nan) where there are no tasks.
    The same numbers give the same interval. With a single task nothing is known of the spread: (−inf, inf).
    """
    import numpy as np  # here, for every command imports this file

    if not tops:
        return math.nan, math.nan
    if len(tops) == 1:
        return -math.inf, math.inf
    chosen = np.random.default_rng(0).integers(len(tops), size=(draws, len(tops)))
    above, below = np.asarray(tops, float)[chosen].sum(axis=1), np.asarray(bottoms, float)[chosen].sum(axis=1)
    ratios = np.divide(above, below, out=np.full(draws, math.inf), where=below > 0)
    # Not interpolated: between a number and infinity there is none.
    low, high = np.quantile(ratios, [0.5 - confidence / 2, 0.5 + confidence / 2], method="inverted_cdf")
    return float(low), float(high)
