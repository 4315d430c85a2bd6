"""Off-policy corrections: each mode worked out by hand, what they have in common, and that a node is one sequence."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.config import ImportanceSamplingMode, OldLogprobs, UpdateConfig
from rao_rl.data.rows import Row, Sample
from rao_rl.train.correction import Corrected, Correction
from rao_rl.train.figures import Places
from rao_rl.train.loss import Clip, token_losses
from recursive_agent.errors import ConfigurationError

from .small_steps import Learnt, forked, learn, near, qwen3, samples, step

MODES: tuple[ImportanceSamplingMode, ...] = get_args(ImportanceSamplingMode)
CISPO, PPO = Clip("cispo", epsilon_high=5.0), Clip("ppo", epsilon=0.2)
SAMPLED_AT = -2.0
U = (0.25, 1.0, 2.0, 8.0)
"""π_old / π_sampler of four tokens; their product is 4."""
BY_HAND: dict[ImportanceSamplingMode, tuple[float, ...]] = {
    "token_truncate": (0.5, 1.0, 2.0, 3.0),
    "token_mask": (0.0, 1.0, 2.0, 0.0),
    "sequence_truncate": (3.0, 3.0, 3.0, 3.0),
    "sequence_mask": (0.0, 0.0, 0.0, 0.0),
}
"""The weights by these bounds: at least .5, at most 3."""


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def correction(mode: ImportanceSamplingMode | None, old: OldLogprobs, **bounds: float | None) -> Correction:
    return Correction(old, mode, **{"clip_max": 3.0, "clip_min": 0.5, **bounds})


def corrected(made: Correction, u: tuple[float, ...], change: tuple[float, ...]) -> tuple[torch.Tensor, Corrected]:
    """One node whose tokens have π_old / π_sampler = u and π_θ / π_old = change; log π_θ has a gradient."""
    sampling = torch.full((len(u),), SAMPLED_AT, dtype=torch.float64)
    old = sampling + tensor(*u).log()
    now = (old + tensor(*change).log()).requires_grad_()
    by = old if made.old_logprobs == "trainer" else now.detach()
    sequence = (by - sampling).sum().expand(len(u)) if made.by_sequence else None
    return now, made.apply(now, sampling, old=old if made.old_logprobs == "trainer" else None, sequence=sequence)


def gradient(
    made: Correction, u: tuple[float, ...], change: tuple[float, ...], coefficients: torch.Tensor, clip: Clip
) -> list[float]:
    """Of the loss by log π_θ of each token."""
    now, found = corrected(made, u, change)
    weighted = coefficients if found.factors is None else coefficients * found.factors
    losses = token_losses(now, found.old_per_token_logps, weighted, clip)
    return torch.autograd.grad(losses.sum(), now)[0].tolist()  # type: ignore[no-any-return]


ONES = (1.0,) * len(U)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("old", get_args(OldLogprobs))
def test_weights_by_hand(mode: ImportanceSamplingMode, old: OldLogprobs) -> None:
    _, found = corrected(correction(mode, old), U, ONES)
    assert found.weights.tolist() == pytest.approx(BY_HAND[mode])
    beyond = [True] * 4 if mode.startswith("sequence") else [True, False, False, True]
    assert found.bounded.tolist() == beyond


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("old", get_args(OldLogprobs))
def test_in_the_first_update_the_gradient_is_the_bounded_weight(mode: ImportanceSamplingMode, old: OldLogprobs) -> None:
    # −g·c, whichever log-probs are the old ones
    coefficients = tensor(1.0, -1.0, 0.5, 2.0)
    expected = [-weight * c for weight, c in zip(BY_HAND[mode], coefficients.tolist(), strict=True)]
    assert gradient(correction(mode, old), U, ONES, coefficients, CISPO) == pytest.approx(expected)


def test_ppo_clips_what_the_updates_change_and_not_the_mismatch() -> None:
    # u = 2 everywhere; the updates of the step have changed three tokens by 1.1, 1.5 and .5.
    u, change = (2.0,) * 3, (1.1, 1.5, 0.5)
    up, down = torch.ones(3, dtype=torch.float64), -torch.ones(3, dtype=torch.float64)
    trainer = correction("token_truncate", "trainer")
    # −2·ρ·c where PPO does not clip: 1.5 is beyond 1.2 where c > 0, and .5 below .8 where c < 0
    assert gradient(trainer, u, change, up, PPO) == pytest.approx([-2.2, 0.0, -1.0])
    assert gradient(trainer, u, change, down, PPO) == pytest.approx([2.2, 3.0, 0.0])
    # By the sampler's log-probs the ratios are 2.2, 3 and 1: the mismatch itself is clipped.
    assert gradient(correction(None, "sampler"), u, change, up, PPO) == pytest.approx([0.0, 0.0, -1.0])


def test_ppo_by_the_samplers_log_probs_is_bounded_where_its_clip_does_not_bound() -> None:
    # c < 0: PPO leaves a ratio of 8 as it is. Truncated it pushes with 3, masked not at all.
    down = -torch.ones(1, dtype=torch.float64)
    pushes = {mode: gradient(correction(mode, "sampler"), (8.0,), (1.0,), down, PPO) for mode in MODES}
    assert gradient(correction(None, "sampler"), (8.0,), (1.0,), down, PPO) == pytest.approx([8.0])
    assert pushes["token_truncate"] == pushes["sequence_truncate"] == pytest.approx([3.0])
    assert pushes["token_mask"] == pushes["sequence_mask"] == [0.0]


RATIOS = st.lists(st.floats(0.05, 20), min_size=1, max_size=6).map(tuple)


@given(RATIOS, st.sampled_from(("token_truncate", "token_mask")), st.sampled_from(get_args(OldLogprobs)))
def test_without_bounds_a_token_mode_is_the_untruncated_ratio(
    u: tuple[float, ...], mode: ImportanceSamplingMode, old: OldLogprobs
) -> None:
    coefficients = torch.linspace(-1, 1, len(u), dtype=torch.float64)
    unclipped = Clip("cispo", epsilon_high=1e9)
    plain = gradient(correction(None, "sampler"), u, (1.0,) * len(u), coefficients, unclipped)
    for bounds in ({"clip_max": None, "clip_min": None}, {"clip_max": 1e6, "clip_min": None}):
        found = gradient(correction(mode, old, **bounds), u, (1.0,) * len(u), coefficients, unclipped)
        assert found == pytest.approx(plain, rel=1e-9)
        if old == "sampler":
            assert found == plain  # to the digit


@given(RATIOS, st.sampled_from(MODES), st.sampled_from(get_args(OldLogprobs)), st.floats(1, 10), st.floats(0.01, 1))
def test_weights_are_within_the_bounds_or_nothing(
    u: tuple[float, ...], mode: ImportanceSamplingMode, old: OldLogprobs, most: float, least: float
) -> None:
    _, found = corrected(correction(mode, old, clip_max=most, clip_min=least), u, (1.0,) * len(u))
    for weight, bounded in zip(found.weights.tolist(), found.bounded.tolist(), strict=True):
        assert least * (1 - 1e-9) <= weight <= most * (1 + 1e-9) or (mode.endswith("mask") and weight == 0)
        assert (weight == 0) == (bounded and mode.endswith("mask"))
    if mode.startswith("sequence"):
        assert len(set(found.weights.tolist())) == 1


# --- in the trainer ---

BOUNDS: dict[str, Any] = {"importance_sampling_clip_max": 1.3, "importance_sampling_clip_min": 0.01}


@pytest.fixture(scope="module")
def made() -> list[Sample]:
    rows = near(qwen3(), samples(7, 12, 5, 30, 9))
    return [
        replace(each, node=f"0.{number}" if number else "0", depth=min(number, 2)) for number, each in enumerate(rows)
    ]


def trained(folder: Path, rows: list[Sample], **arguments: Any) -> Learnt:
    return learn(qwen3(), folder, step(rows), **{**BOUNDS, **arguments})


def same(one: Learnt, other: Learnt, *, tolerance: float = 1e-5) -> None:
    assert one.loss == pytest.approx(other.loss, abs=tolerance)
    for name, value in one.gradient.items():
        torch.testing.assert_close(value, other.gradient[name], rtol=0, atol=tolerance)


CASES = [
    ("cispo", "trainer", "sequence_mask"),
    ("cispo", "sampler", "sequence_truncate"),
    ("ppo", "sampler", "sequence_mask"),
    ("ppo", "trainer", "token_truncate"),
    *(
        pytest.param(loss, old, mode, marks=pytest.mark.slow)
        for loss, old, mode in (
            ("cispo", "trainer", "sequence_truncate"),
            ("cispo", "sampler", "token_mask"),
            ("ppo", "trainer", "token_mask"),
            ("ppo", "sampler", "token_truncate"),
        )
    ),
]


@pytest.mark.parametrize(("loss_type", "old", "mode"), CASES)
def test_packing_order_and_splitting_make_no_difference(
    loss_type: str, old: OldLogprobs, mode: ImportanceSamplingMode, made: list[Sample], tmp_path: Path
) -> None:
    how = {"loss_type": loss_type, "old_logprobs": old, "importance_sampling_mode": mode, "num_iterations": 2}
    whole = trained(tmp_path, made, **how)
    assert 0 < whole.log["rao/importance_weight/bounded"] < 1
    cut = [part for each in made for part in (forked(each) if len(each) > 8 else [each])]
    random.Random(0).shuffle(cut)
    assert len(cut) > len(made)
    for rows, more in ((cut, {"tokens_per_bin": 25}), (cut, {"padding_free": False, "gradient_checkpointing": True})):
        other = trained(tmp_path, rows, **how, **more)
        same(other, whole)
        for name in ("weight/mean", "weight/bounded"):
            assert other.log[f"rao/importance_{name}"] == pytest.approx(whole.log[f"rao/importance_{name}"], abs=1e-6)


@pytest.mark.parametrize(("old", "mode"), [("trainer", "sequence_mask"), ("sampler", "token_truncate")])
def test_a_row_that_begins_another_keeps_its_own_weights(
    old: OldLogprobs,
    mode: ImportanceSamplingMode,
    made: list[Sample],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same tokens in other nodes, with another advantage, and sampled by another version of the weights."""
    whole = made[3]
    again = [
        replace(each, node=f"1.{number}", advantage=-0.4, row=replace(each.row, logprobs=each.logprobs - 0.2))
        for number, each in enumerate([whole, *forked(whole)])
    ]
    how = {"old_logprobs": old, "importance_sampling_mode": mode, "num_iterations": 2, "tokens_per_bin": 40}
    shared = trained(tmp_path, [*again, *made], **how)
    assert shared.log["rao/forwarded_over_logical_tokens"] < 0.7
    for module in ("batch", "packing"):
        monkeypatch.setattr(f"rao_rl.train.{module}.carriers", lambda rows: list(range(len(rows))))
    apart = trained(tmp_path, [*again, *made], **how)
    assert apart.log["rao/forwarded_over_logical_tokens"] == 1
    same(shared, apart)


@pytest.mark.parametrize("mode", MODES)
def test_with_one_update_a_step_both_kinds_of_old_log_probs_are_one(
    mode: ImportanceSamplingMode, made: list[Sample], tmp_path: Path
) -> None:
    by_trainer, by_sampler = (
        trained(tmp_path, made, old_logprobs=old, importance_sampling_mode=mode) for old in ("trainer", "sampler")
    )
    same(by_trainer, by_sampler)
    assert by_trainer.log["rao/policy_ratio/mean"] == by_trainer.log["rao/policy_ratio/max"] == 1.0


def test_off_the_step_is_what_it_was(made: list[Sample], tmp_path: Path) -> None:
    off, paper = trained(tmp_path, made), learn(qwen3(), tmp_path, step(made))
    wide = trained(
        tmp_path,
        made,
        importance_sampling_mode="token_truncate",
        importance_sampling_clip_max=None,
        importance_sampling_clip_min=None,
    )
    for other in (paper, wide):
        assert other.loss == off.loss
        assert all(torch.equal(other.gradient[name], value) for name, value in off.gradient.items())
    assert not any(name.startswith(("rao/importance_weight", "rao/policy_ratio")) for name in off.log)


def test_more_updates_of_a_step_are_those_of_more_steps(made: list[Sample], tmp_path: Path) -> None:
    """By the sampler's log-probs nothing else distinguishes them."""
    one = qwen3()
    twice = learn(one, tmp_path, step(made), num_iterations=2, max_grad_norm=0.5)
    other = qwen3()
    learn(other, tmp_path, step(made), step(made), max_grad_norm=0.5)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=0, atol=1e-6)
    assert twice.log["rao/trained_tokens"] == sum(int(each.completion_mask.sum()) for each in made)
    # The figures of the mismatch are those before the step's first update.
    assert twice.log["sampling/importance_sampling_ratio/mean"] == pytest.approx(
        trained(tmp_path, made).log["sampling/importance_sampling_ratio/mean"], abs=1e-6
    )


def test_ppo_holds_the_second_update_by_the_policy_before_the_first(made: list[Sample], tmp_path: Path) -> None:
    how: dict[str, Any] = {"loss_type": "ppo", "old_logprobs": "trainer", "importance_sampling_mode": "token_truncate"}
    still = trained(tmp_path, made, **how, learning_rate=0.0, num_iterations=2)
    far = trained(tmp_path, made, **how, learning_rate=1.0, num_iterations=2)
    assert still.log["clip_ratio/region_mean"] == 0
    assert still.log["rao/policy_ratio/max"] == 1
    assert far.log["rao/policy_ratio/max"] > 1.2
    assert 0 < far.log["clip_ratio/region_mean"] <= 0.5  # of both passes; nothing is clipped in the first


# --- drift by depth and position ---


def test_drift_is_seen_by_depth_and_position(tmp_path: Path) -> None:
    # Two nodes: 20 tokens of the root in two rows, with ρ = 1 in the first 16 and 2 after; 4 of a child, with ρ = 4.
    model = qwen3()
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 60, 24).astype(np.int32)

    def row(length: int, first: int, ratios: list[float]) -> Row:
        mask = np.arange(length) >= first
        with torch.no_grad():
            tokens = torch.from_numpy(ids[:length].astype(np.int64))
            logits = model(input_ids=tokens[None]).logits[0, :-1]
            logps = torch.log_softmax(logits, -1).gather(1, tokens[1:, None])[:, 0].numpy()
        logprobs = np.zeros(length, np.float32)
        logprobs[mask] = logps[first - 1 :] - np.log(ratios)
        return Row(ids[:length], mask, logprobs, "0")

    root = samples(5)[0]
    step_rows = [
        replace(root, row=row(14, 2, [1.0] * 12)),
        replace(root, row=row(20, 12, [1.0] * 4 + [2.0] * 4)),
        replace(root, row=row(6, 2, [4.0] * 4), node="0.0", depth=1),
    ]
    assert Places.of(step_rows).nodes == (0, 0, 1)
    log = learn(model, tmp_path, step(step_rows), tokens_per_bin=20).log
    k3 = {ratio: ratio - 1 - math.log(ratio) for ratio in (2, 4)}
    expected = {
        "rao/ratio_mean/depth_0": (16 + 4 * 2) / 20,
        "rao/ratio_max/depth_0": 2,
        "rao/mismatch_kl/depth_0": 4 * k3[2] / 20,
        "rao/ratio_mean/depth_1": 4,
        "rao/ratio_max/depth_1": 4,
        "rao/mismatch_kl/depth_1": k3[4],
        "rao/ratio_mean/position_0-15": (16 + 4 * 4) / 20,
        "rao/ratio_max/position_0-15": 4,
        "rao/mismatch_kl/position_0-15": 4 * k3[4] / 20,
        "rao/ratio_mean/position_16-63": 2,
        "rao/ratio_max/position_16-63": 2,
        "rao/mismatch_kl/position_16-63": k3[2],
    }
    found = {name: value for name, value in log.items() if "/depth_" in name or "/position_" in name}
    assert found == pytest.approx(expected, abs=1e-4)


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"old_logprobs": "trainer"}, "old_logprobs=trainer needs an importance_sampling_mode"),
        ({"importance_sampling_clip_max": 0.5}, "clip_max must be at least 1"),
        ({"importance_sampling_clip_min": 2.0}, "clip_min at most 1"),
        ({"importance_sampling_mode": "tokens"}, "importance_sampling_mode"),
        ({"num_iterations": 0}, "num_iterations must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        UpdateConfig(**settings)
