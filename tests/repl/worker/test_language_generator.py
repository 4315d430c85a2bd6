"""Random programs never come to hold what no cell may, and leave the library's classes as they were."""

from __future__ import annotations

import warnings

import pytest

from .language_lab import Lab, Oracle, in_lab
from .language_programs import run_programs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [1, 2])
def test_no_random_program_reaches_what_it_must_not(seed: int) -> None:
    def work(lab: Lab, oracle: Oracle) -> None:
        done, good, wrong = run_programs(lab, oracle, seed, programs=1500, seconds=5.0)
        assert wrong == []
        assert done > 20
        assert good > done  # most programs do something

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_lab(work)
