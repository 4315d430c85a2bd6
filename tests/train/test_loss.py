"""The loss of a token, worked out by hand; and log-probs without whole logits, the same to the last digit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.train.loss import Clip, clipped, importance_ratio, mismatch_kl, score_tokens, token_losses

CISPO = Clip("cispo", epsilon_high=5.0)
PPO = Clip("ppo", epsilon=0.2)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def of_ratio(*ratios: float, behaviour: float = -2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs, with gradient, and behaviour log-probs of these ρ."""
    sampled_at = torch.full((len(ratios),), behaviour, dtype=torch.float64)
    return (sampled_at + torch.log(tensor(*ratios))).requires_grad_(), sampled_at


def loss_and_gradient(ratios: tuple[float, ...], coefficients: tuple[float, ...], clip: Clip) -> tuple[Any, Any]:
    logprobs, behaviour = of_ratio(*ratios)
    losses = token_losses(logprobs, behaviour, tensor(*coefficients), clip)
    (gradient,) = torch.autograd.grad(losses.sum(), logprobs)
    return losses.tolist(), gradient.tolist()


def test_cispo_by_hand() -> None:
    # log π = −2 + log ρ; the loss is −min(ρ, 5)·c·log π, and ρ is held: its gradient is −min(ρ, 5)·c.
    losses, gradient = loss_and_gradient((1.0, 2.0, 8.0, 0.5), (1.0, -0.5, 0.25, 2.0), CISPO)
    # −1·1·−2, −2·−.5·(log 2 − 2), −5·.25·(log 8 − 2), −.5·2·(−2 − log 2)
    assert losses == pytest.approx([2.0, math.log(2) - 2, -1.25 * (math.log(8) - 2), 2 + math.log(2)], abs=1e-12)
    assert gradient == pytest.approx([-1.0, 1.0, -1.25, -1.0], abs=1e-12)


def test_a_token_beyond_the_clip_still_teaches_cispo_but_not_ppo() -> None:
    _, by_cispo = loss_and_gradient((8.0,), (1.0,), CISPO)
    _, by_ppo = loss_and_gradient((8.0,), (1.0,), PPO)
    assert by_cispo == pytest.approx([-5.0])
    assert by_ppo == [0.0]


def test_ppo_by_hand() -> None:
    # −min(ρc, clip(ρ, .8, 1.2)c); unclipped its gradient by log π is −ρc.
    ratios = (1.0, 1.1, 1.5, 1.5, 0.5, 0.5, 1.0)
    coefficients = (2.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0)
    losses, gradient = loss_and_gradient(ratios, coefficients, PPO)
    assert losses == pytest.approx([-2.0, 1.1, -1.2, 1.5, -0.5, 0.8, 0.0], abs=1e-12)
    assert gradient == pytest.approx([-2.0, 1.1, 0.0, 1.5, -0.5, 0.0, 0.0], abs=1e-12)


def test_which_tokens_are_held_back() -> None:
    ratio = tensor(0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 4.9, 5.1)
    up, down = torch.ones(8), -torch.ones(8)
    assert clipped(ratio, up, CISPO).tolist() == clipped(ratio, down, CISPO).tolist() == [False] * 7 + [True]
    assert clipped(ratio, up, PPO).tolist() == [False] * 5 + [True] * 3
    assert clipped(ratio, down, PPO).tolist() == [True] * 2 + [False] * 6


@given(st.floats(0.02, 50), st.floats(-3, 3).filter(lambda c: abs(c) > 1e-3))
def test_what_is_held_back_by_ppo_is_what_has_no_gradient(ratio: float, coefficient: float) -> None:
    _, gradient = loss_and_gradient((ratio,), (coefficient,), PPO)
    held = clipped(tensor(ratio), tensor(coefficient), PPO).tolist()
    assert held == [gradient[0] == 0.0]


@given(st.floats(0.02, 50), st.floats(-3, 3), st.floats(-20, -0.01), st.floats(0.5, 10))
def test_cispo_is_the_policy_gradient_times_a_truncated_ratio(
    ratio: float, coefficient: float, behaviour: float, high: float
) -> None:
    logprobs, sampled_at = of_ratio(ratio, behaviour=behaviour)
    losses = token_losses(logprobs, sampled_at, tensor(coefficient), Clip("cispo", epsilon_high=high))
    (gradient,) = torch.autograd.grad(losses.sum(), logprobs)
    assert gradient.item() == pytest.approx(-min(ratio, high) * coefficient, rel=1e-9)


def test_on_policy_both_losses_have_the_same_gradient() -> None:
    coefficients = (1.5, -0.3, 0.0)
    _, by_cispo = loss_and_gradient((1.0,) * 3, coefficients, CISPO)
    _, by_ppo = loss_and_gradient((1.0,) * 3, coefficients, PPO)
    assert by_cispo == pytest.approx([-1.5, 0.3, 0.0])
    assert by_ppo == pytest.approx([-1.5, 0.3, 0.0])


def test_a_ratio_is_finite_however_far_the_policies_are_apart() -> None:
    ratio = importance_ratio(tensor(-1e4, 0.0), tensor(0.0, -1e4))
    assert ratio.tolist() == pytest.approx([math.exp(-20), math.exp(20)])


@given(st.floats(-15, 0), st.floats(-15, 0))
def test_the_mismatch_is_never_negative_and_nothing_where_the_policies_agree(ours: float, theirs: float) -> None:
    (value,) = mismatch_kl(tensor(ours), tensor(theirs)).tolist()
    assert value >= 0
    assert mismatch_kl(tensor(ours), tensor(ours)).tolist() == [0.0]
    assert value == pytest.approx(math.exp(ours - theirs) - (ours - theirs) - 1, rel=1e-6, abs=1e-12)


def test_the_mean_mismatch_is_the_divergence() -> None:
    behaviour, policy = tensor(0.5, 0.3, 0.2), tensor(0.2, 0.3, 0.5)
    divergence = (behaviour * (behaviour / policy).log()).sum()
    torch.testing.assert_close((behaviour * mismatch_kl(policy.log(), behaviour.log())).sum(), divergence)


# --- the head ---

POSITIONS, WIDTH, VOCABULARY = 23, 8, 50


class Head(torch.nn.Module):
    """An output embedding that remembers the most logits it was asked for at once, in the backward pass too."""

    def __init__(self, *, bias: bool = False) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(WIDTH, VOCABULARY, bias=bias, dtype=torch.float64)
        self.most = 0
        self.calls = 0

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, len(states))
        self.calls += 1
        logits: torch.Tensor = self.linear(states)
        return logits


@pytest.fixture
def head() -> Head:
    torch.manual_seed(0)
    return Head(bias=True)


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(POSITIONS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


TARGETS = torch.arange(POSITIONS) * 7 % VOCABULARY
PULL = torch.linspace(-1, 1, POSITIONS, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("chunk", [1, 5, POSITIONS, 100])
def test_chunks_have_the_value_and_gradient_of_the_whole(
    head: Head, hidden: torch.Tensor, chunk: int, temperature: float
) -> None:
    hidden.requires_grad_()
    inputs = [hidden, *head.parameters()]
    scored = score_tokens(head, hidden, TARGETS, temperature=temperature, chunk=chunk)
    ours = torch.autograd.grad((scored.per_token_logps * PULL).sum(), inputs)
    whole = torch.log_softmax(head.linear(hidden) / temperature, dim=-1)
    picked = whole.gather(1, TARGETS[:, None])[:, 0]
    theirs = torch.autograd.grad((picked * PULL).sum(), inputs, retain_graph=True)
    # Logits are taken in float32, as those of a bfloat16 model have to be.
    torch.testing.assert_close(scored.per_token_logps.double(), picked, rtol=0, atol=1e-5)
    torch.testing.assert_close(scored.entropy.double(), -(whole.exp() * whole).sum(-1).detach(), rtol=0, atol=1e-5)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


def test_no_more_than_a_chunk_of_logits_exists_at_a_time(head: Head, hidden: torch.Tensor) -> None:
    alive: list[int] = []

    def kept(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 2 and tensor.shape[-1] == VOCABULARY and not isinstance(tensor, torch.nn.Parameter):
            alive.append(len(tensor))
        return tensor

    hidden.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        scored = score_tokens(head, hidden, TARGETS, chunk=5)
    assert alive == []  # nothing with a vocabulary's width waits for the backward pass
    forward = head.calls
    scored.per_token_logps.sum().backward()
    assert forward == 5
    assert head.calls == 2 * forward  # computed again
    assert head.most == 5


def test_only_log_probs_carry_a_gradient(head: Head, hidden: torch.Tensor) -> None:
    scored = score_tokens(head, hidden.requires_grad_(), TARGETS, chunk=5)
    assert scored.per_token_logps.requires_grad
    assert not scored.entropy.requires_grad
    with torch.no_grad():
        assert not score_tokens(head, hidden, TARGETS, chunk=5).per_token_logps.requires_grad


def test_no_tokens_have_no_log_probs_but_still_a_gradient_of_nothing(head: Head, hidden: torch.Tensor) -> None:
    hidden.requires_grad_()
    scored = score_tokens(head, hidden[:0], TARGETS[:0])
    assert (scored.per_token_logps.shape, scored.entropy.shape) == ((0,), (0,))
    scored.per_token_logps.sum().backward()
    # Every parameter takes part, as data-parallel training needs, and nothing is learnt.
    for value in (hidden, *head.parameters()):
        assert value.grad is not None
        assert not value.grad.any()
