"""The campaign in small: trees on the virtual clock (50 in the default suite), some more in real time on both event loops."""

from __future__ import annotations

import gc
import os
import warnings

import pytest

from tests.campaign.__main__ import explain
from tests.campaign.draw import draw
from tests.campaign.realtime import draw_real, run_real
from tests.campaign.runner import run

TREES = int(os.environ.get("RAO_CAMPAIGN_TREES", "150"))
AT_ONCE = 25
ALWAYS = 50
"""Trees of the default suite; the rest is slow."""
BATCHES = [pytest.param(first, marks=() if first < ALWAYS else pytest.mark.slow) for first in range(0, TREES, AT_ONCE)]


@pytest.mark.parametrize("first", BATCHES)
def test_whatever_fails_a_tree_comes_back_accounted_for_and_leaves_nothing(first: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # what other tests let go of is not this one's
    seeds = range(first, min(first + AT_ONCE, TREES))
    failed = [report for report in run(draw(seed) for seed in seeds) if report.failed]
    assert not failed, f"{len(failed)} of {len(seeds)} trees failed; the first:\n{explain(failed[0])}"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_same_holds_in_real_time(backend: str) -> None:
    failed = [report for report in run_real((draw_real(seed) for seed in range(8)), backend) if report.failed]
    assert not failed, "\n\n".join(
        "\n".join((report.plan.outline(), *map(str, report.violations), f"--plan '{report.plan.to_json()}'"))
        for report in failed
    )
