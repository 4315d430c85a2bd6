"""The policy loss (arXiv 2605.06639, Eq. 5), token by token, and the head that makes log-probs without whole logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from ..config import LossType


@dataclass(frozen=True, slots=True)
class Clip:
    """Which loss, and where ρ is held back; `epsilon` is PPO's, `epsilon_high` CISPO's (see `token_losses`)."""

    loss_type: LossType = "cispo"
    epsilon: float = 0.2
    epsilon_high: float = 5.0


def importance_ratio(per_token_logps: torch.Tensor, sampling_per_token_logps: torch.Tensor) -> torch.Tensor:
    """ρ = π_θ / π_behaviour of each sampled token; both arguments are log-probs of shape [N], without gradient."""
    return torch.exp((per_token_logps.detach() - sampling_per_token_logps).clamp(-20.0, 20.0))


def token_losses(
    per_token_logps: torch.Tensor,
    sampling_per_token_logps: torch.Tensor,
    coefficients: torch.Tensor,
    clip: Clip = Clip(),
) -> torch.Tensor:
    """The loss of each sampled token, [N]; summed over a step it is the step's loss.

    `per_token_logps` (with gradient), `sampling_per_token_logps` and `coefficients` have shape [N]; a coefficient is w_d·A / D.

    cispo: −stop_grad(min(ρ, epsilon_high)) · c · log π, the authors' form.
    ppo:   −min(ρ·c, clip(ρ, 1 − epsilon, 1 + epsilon)·c), Schulman et al. 2017; `epsilon_high` is not used.
    """
    if clip.loss_type == "cispo":
        ratio = importance_ratio(per_token_logps, sampling_per_token_logps).clamp(max=clip.epsilon_high)
        return -ratio * coefficients * per_token_logps
    ratio = torch.exp((per_token_logps - sampling_per_token_logps).clamp(-20.0, 20.0))
    return -torch.minimum(ratio * coefficients, ratio.clamp(1 - clip.epsilon, 1 + clip.epsilon) * coefficients)


def clipped(ratio: torch.Tensor, coefficients: torch.Tensor, clip: Clip = Clip()) -> torch.Tensor:
    """Which tokens [N] the clipping holds back."""
    if clip.loss_type == "cispo":
        return ratio > clip.epsilon_high
    return torch.where(coefficients > 0, ratio > 1 + clip.epsilon, ratio < 1 - clip.epsilon)


def mismatch_kl(per_token_logps: torch.Tensor, sampling_per_token_logps: torch.Tensor) -> torch.Tensor:
    """KL(π_behaviour ‖ π_θ) estimated on each sampled token, [N], never negative (Schulman's k3)."""
    difference = (per_token_logps.detach() - sampling_per_token_logps).clamp(-20.0, 20.0)
    return torch.expm1(difference) - difference


@dataclass(frozen=True, slots=True)
class Scored:
    """What a forward pass gives for the sampled tokens, each of shape [N]; only `per_token_logps` carries a gradient."""

    per_token_logps: torch.Tensor
    entropy: torch.Tensor


def score_tokens(
    head: Any, hidden: torch.Tensor, targets: torch.Tensor, *, temperature: float = 1.0, chunk: int = 1024
) -> Scored:
    """Log-probs of `targets` [N] from the hidden states [N, width] that predict them, and the entropies there.

    At most [chunk, vocabulary] logits exist at a time, in the backward pass too, which computes them again.
    """
    if not len(targets):
        nothing = hidden.new_zeros(0, dtype=torch.float32)
        # The head takes part all the same: data-parallel training waits for the gradient of every weight.
        return Scored(nothing + head(hidden).float().sum() * 0, nothing)
    per_token_logps, entropies = [], []
    for states, targets_of_chunk in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True):
        if len(targets) > chunk and torch.is_grad_enabled():
            scored, entropy = checkpoint(_score, head, states, targets_of_chunk, temperature, use_reentrant=False)
        else:
            scored, entropy = _score(head, states, targets_of_chunk, temperature)
        per_token_logps.append(scored)
        entropies.append(entropy)
    return Scored(torch.cat(per_token_logps), torch.cat(entropies))


def _score(
    head: Any, states: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = head(states).float() / temperature
    total = torch.logsumexp(logits, dim=-1)
    with torch.no_grad():
        entropy = total - (torch.softmax(logits, dim=-1) * logits).sum(-1)
    return logits.gather(-1, targets[:, None]).squeeze(-1) - total, entropy
