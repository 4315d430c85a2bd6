"""Alarms: a run that has gone wrong without a fault says so, once."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from rao_rl.train.alarms import Alarms, alarms, first_of

FINE: dict[str, Any] = {
    "entropy": 0.4,
    "rao/mismatch_kl": 0.001,
    "sampling/importance_sampling_ratio/mean": 1.0,
    "clip_ratio/region_mean": 0.0,
    "frac_reward_zero_std": 0.2,
    "reward": 0.5,
    "rao/batch": 7,
    "rao/launch_rate": 0.6,
}


@pytest.mark.parametrize(
    ("figures", "kind", "words"),
    [
        ({"entropy": 0.0}, "entropy", "has collapsed: its entropy has fallen from 0.4 to 0"),
        ({"entropy": 0.03}, "entropy", "fallen from 0.4 to 0.03"),
        ({"rao/mismatch_kl": 2.0}, "ratio", "KL 2 nats a token"),
        ({"sampling/importance_sampling_ratio/mean": 7.0}, "ratio", "importance ratios are 7 on average"),
        ({"sampling/importance_sampling_ratio/mean": 0.1}, "ratio", "importance ratios are 0.1 on average"),
        ({"clip_ratio/region_mean": 0.6}, "ratio", "60% of tokens are clipped"),
        ({"rao/launch_rate": 0.05}, "launches", "at the start 60% of the roots launched a sub-agent, now 5%"),
        ({"frac_reward_zero_std": 1.0}, "equal", "in 100% of the groups every attempt got the same score"),
    ],
)
def test_what_goes_wrong_is_named(figures: dict[str, float], kind: str, words: str) -> None:
    (found,) = alarms({**FINE, **figures}, FINE).items()
    assert found[0] == kind
    assert words in found[1]


@pytest.mark.parametrize(
    "figures",
    [
        {},
        {"entropy": 0.06},
        {"clip_ratio/region_mean": 0.1},
        {"rao/mismatch_kl": 0.05},
        {"entropy": 3.0},
        {"rao/launch_rate": 0.1},
    ],
)
def test_what_goes_well_is_not(figures: dict[str, float]) -> None:
    assert not alarms({**FINE, **figures}, FINE)


def test_a_policy_that_is_certain_from_the_start_has_not_collapsed() -> None:
    certain = {**FINE, "entropy": 1e-4}
    assert "hardly varies" in alarms(certain, certain)["entropy"]


def spoken(series: Iterable[dict[str, Any]], **more: Any) -> list[str]:
    """What is said of the figures of these steps."""
    said: list[str] = []
    watch = Alarms(said.append, **more)
    for number, figures in enumerate(series, start=1):
        state = SimpleNamespace(is_world_process_zero=True, global_step=number)
        watch.on_log(None, state, None, {**FINE, **figures})
    return [line.partition(";")[0] for line in said]


@pytest.mark.parametrize(
    ("name", "trips", "passes", "words"),
    [
        ("entropy", (0.5, 0.3, 0.1, 0.04, 0.01), (0.5, 0.3, 0.1, 0.06, 0.08), "step 4: the policy has collapsed"),
        # A batch without a launch now and then is chance; three in a row are not.
        (
            "rao/launch_rate",
            (0.6, 0.2, 0.05, 0.0, 0.02, 0.0),
            (0.6, 0.2, 0.05, 0.0, 0.1, 0.0, 0.0, 0.3),
            "step 5: the policy has almost stopped delegating",
        ),
        ("frac_reward_zero_std", (0.2, 0.6, 0.95, 1.0), (0.2, 0.6, 0.9, 0.8), "step 3: in 95% of the groups"),
        ("rao/mismatch_kl", (0.0, 0.1, 0.2, 0.4), (0.0, 0.1, 0.2, 0.25), "step 4: the policy is far from the one"),
    ],
)
def test_a_run_that_collapses_says_so_and_one_that_does_not_is_quiet(
    name: str, trips: tuple[float, ...], passes: tuple[float, ...], words: str
) -> None:
    (line,) = spoken({name: value} for value in trips)
    assert line.startswith(words)
    assert spoken({name: value} for value in passes) == []


def test_agents_that_never_delegated_have_not_stopped() -> None:
    assert spoken({"rao/launch_rate": 0.0} for _ in range(5)) == []


def test_how_much_recorded_runs_delegate_says_nothing_about_the_policy() -> None:
    figures = {name: value for name, value in FINE.items() if name != "rao/batch"}
    assert not alarms({**figures, "rao/launch_rate": 0.0}, figures)


def test_a_resumed_run_is_compared_with_its_own_beginning() -> None:
    rows = [{"step": 0, "eval/success/easy": 0.1}, FINE, {**FINE, "entropy": 0.02}]
    assert first_of(rows) is FINE
    assert spoken([{"entropy": 0.01}], first=first_of(rows))[0].startswith("step 1: the policy has collapsed")
    assert first_of(rows[:1]) is None


def test_an_alarm_is_said_when_it_begins_and_again_after_it_was_over() -> None:
    said: list[str] = []
    watch = Alarms(said.append)
    for number, entropy in enumerate((0.4, 0.0, 0.0, 0.4, 0.0), start=1):
        state = SimpleNamespace(is_world_process_zero=True, global_step=number)
        watch.on_log(None, state, None, {**FINE, "entropy": entropy})
    assert [line.partition(":")[0] for line in said] == ["step 2", "step 5"]


def test_the_first_step_of_a_run_is_looked_at_apart_and_that_of_a_resumed_one_is_not() -> None:
    for number, expected in ((1, ["look"]), (7, [])):
        said: list[str] = []
        state = SimpleNamespace(is_world_process_zero=True, global_step=number)
        Alarms(said.append, lambda figures: "look").on_log(None, state, None, dict(FINE))
        assert said == expected
