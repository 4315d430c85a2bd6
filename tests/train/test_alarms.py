"""Alarms: a run that has gone wrong without a fault says so, once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from rao_rl.evaluation.alarms import Watch, alarms, alarms_of, first_of
from rao_rl.train.record import Record

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


def spoken(series: Iterable[dict[str, Any]], first: int = 1, **more: Any) -> list[str]:
    """What is said of the figures of these steps."""
    said: list[str] = []
    with TemporaryDirectory() as folder:
        record = Record(Path(folder), said.append, **more)
        for number, figures in enumerate(series, start=first):
            record.write({"step": number, **FINE, **figures})
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
    assert spoken([{"entropy": 0.01}], 3, rows=rows)[0].startswith("step 3: the policy has collapsed")
    assert first_of(rows[:1]) is None


def test_an_alarm_is_said_when_it_begins_and_again_after_it_was_over() -> None:
    said = spoken({"entropy": entropy} for entropy in (0.4, 0.0, 0.0, 0.4, 0.0))
    assert [line.partition(":")[0] for line in said] == ["step 2", "step 5"]


def test_the_first_step_of_a_run_is_looked_at_apart_and_that_of_a_resumed_one_is_not() -> None:
    def on_first(figures: Any) -> str:
        return "look"

    assert spoken([{}], on_first=on_first) == ["look"]
    assert spoken([{}], 7, rows=[{"step": 6, **FINE}], on_first=on_first) == []


def test_a_sampler_that_answers_hardly_any_attempt_is_dead_and_one_that_loses_some_is_not() -> None:
    lost = {"funnel/lost/incomplete": 6.0, "funnel/lost/no_answer": 2.0, "funnel/rollouts": 8.0}
    (line,) = spoken([{}, lost, lost, {}])
    assert line.startswith(
        "step 2: the sampler hardly answers: 8 of the 16 attempts of a batch were lost (6 incomplete, 2 no"
    )
    assert spoken([{**lost, "funnel/rollouts": 9.0}]) == []
    assert spoken([{"funnel/lost/incomplete": 0.0, "funnel/rollouts": 0.0}]) == []


def test_batches_that_teach_nothing_are_an_alarm_from_the_fifth_in_a_row_until_a_step() -> None:
    skipped = {"step": 1, "rao/skipped": 1.0, "reward": 1.0}
    rows = [
        {"step": 1, **FINE},
        *[skipped] * 4,
        {"step": 2, **FINE},
        *[{**skipped, "step": 2}] * 6,
        {"step": 3, **FINE},
    ]
    (alarm,) = alarms_of(rows)
    assert (alarm.name, alarm.step, alarm.end, alarm.kind.severity) == ("idle", 2, 3, "warning")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["loss", "grad_norm", "entropy"])
def test_figures_that_are_not_finite_are_an_alarm(name: str, value: float) -> None:
    (line,) = spoken([{}, {name: value}])
    assert line.startswith(f"step 2: {name} is not a finite number")


def test_an_alarm_goes_on_through_lines_that_say_nothing_about_it() -> None:
    watch = Watch()
    watch.look({"step": 1, **FINE})
    assert set(watch.look({"step": 2, **FINE, "entropy": 0.0})[0]) == {"entropy"}
    assert watch.look({"step": 2, "eval/success/easy": 0.5}) == ({}, set())
    assert watch.look({"step": 2, "rao/skipped": 1.0, "reward": 1.0}) == ({}, set())
    assert set(watch.lasting) == {"entropy"}
    assert watch.look({"step": 3, **FINE})[1] == {"entropy"}


def test_imitation_that_becomes_certain_has_not_collapsed() -> None:
    assert alarms_of([{"step": step, "loss": 0.1, "entropy": 0.5 / step**4} for step in range(1, 9)]) == []
