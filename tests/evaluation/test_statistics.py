"""The mathematics of an evaluation against numbers worked out by hand, tables, and brute force."""

from __future__ import annotations

import itertools
import math
import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.evaluation.statistics import interval, paired_interval, permutation_test, sign_test, t_quantile, wilson

SCORES = st.lists(st.floats(0, 1), max_size=40)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (10, 2.2281), (99, 1.9842), (1000, 1.9623)],
)
def test_the_quantile_of_student_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(quantile, abs=5e-5)


def test_scores_of_nothing_or_all_are_a_proportion() -> None:
    assert interval([1.0] * 7 + [0.0] * 3) == (*wilson(7, 10), "wilson")
    assert interval([1.0] * 5) == (*wilson(5, 5), "wilson")
    assert interval([]) == (0.0, 1.0, "wilson")


def test_graded_scores_have_students_interval_over_tasks() -> None:
    # Mean 0.5, standard deviation 0.25; t with three degrees of freedom is 3.1824: 0.5 ± 3.1824 · 0.2041 / 2.
    found = interval([0.25, 0.5, 0.5, 0.75])
    assert (found.low, found.high) == (pytest.approx(0.1752, abs=1e-4), pytest.approx(0.8248, abs=1e-4))
    assert found.method == "t"
    # Wilson's would be far too wide: it takes every score for a coin.
    assert found.high - found.low < wilson(2, 4)[1] - wilson(2, 4)[0]


def test_a_spread_that_is_not_known_is_not_taken_for_none() -> None:
    assert interval([0.75] * 4) == (*wilson(3, 4), "wilson")
    assert interval([0.3]) == (*wilson(0.3, 1), "wilson")


@given(SCORES)
def test_an_interval_holds_the_mean_and_stays_in_its_bounds(scores: list[float]) -> None:
    low, high, _ = interval(scores)
    assert 0 <= low <= high <= 1
    if scores:
        assert low - 1e-9 <= fmean(scores) <= high + 1e-9


def test_graded_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    """0.75 to the power of an error from 0 to 4, each as often as the other: the mean is 0.610."""
    rng = random.Random(5)
    true = fmean(0.75**error for error in range(5))
    hits = 0
    for _ in range(400):
        low, high, _ = interval([0.75 ** rng.randrange(5) for _ in range(25)])
        hits += low <= true <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_paired_interval_is_bonett_and_prices() -> None:
    # 8 tasks better, 2 worse, 10 the same: as if 9 and 3 of 22. Centre 6/22, spread (12/22 − (6/22)²) / 22.
    half = 1.959964 * math.sqrt((12 / 22 - (6 / 22) ** 2) / 22)
    low, high = paired_interval([1.0] * 8 + [-1.0] * 2 + [0.0] * 10)
    assert (low, high) == (pytest.approx(6 / 22 - half, abs=1e-6), pytest.approx(6 / 22 + half, abs=1e-6))
    assert paired_interval([0.0] * 10) == (pytest.approx(-0.2310, abs=1e-4), pytest.approx(0.2310, abs=1e-4))
    assert paired_interval([]) == (-1.0, 1.0)


def test_the_sign_test_is_exact() -> None:
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(1, 3) == pytest.approx(2 * (1 + 4) / 16)
    assert sign_test(2, 2) == 1.0
    assert sign_test(0, 0) == 1.0


@given(st.lists(st.sampled_from([-1, -0.5, -0.25, 0, 0.25, 0.5, 1]), max_size=9))
@settings(max_examples=50, deadline=None)
def test_the_permutation_test_counts_every_choice_of_signs(differences: list[float]) -> None:
    sums = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = sum(total >= abs(sum(differences)) for total in sums) / len(sums)
    assert permutation_test(differences) == pytest.approx(expected)


def test_the_permutation_test_of_many_graded_differences_takes_a_moment() -> None:
    rng = random.Random(1)
    assert permutation_test([rng.choice([-1, 1]) * 0.75 ** rng.randrange(6) for _ in range(3000)]) > 1e-4


def test_the_permutation_test_is_exact() -> None:
    assert permutation_test([1, 1, 1, 1, 1]) == pytest.approx(2 / 32)
    assert permutation_test([1, -1]) == 1.0
    assert permutation_test([0, 0]) == 1.0
    # Of the eight signs of (2/3, 1/3, 1/3), those of +++, ++- and +-+ (and their opposites) sum to at least 2/3.
    assert permutation_test([2 / 3, 1 / 3, -1 / 3]) == pytest.approx(6 / 8)
    assert permutation_test([1 / 3] * 36) == pytest.approx(2 / 2**36)
