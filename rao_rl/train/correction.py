"""Importance weights for data of another policy than the one that learns, and how they are bounded.

Three policies take part:

    π_sampler   sampled the tokens and gave their log-probs: other arithmetic (bfloat16, other kernels), perhaps older weights
    π_old       the policy before the step's first update, by the trainer's arithmetic
    π_θ         the policy that learns; the same as π_old in a step's first update

    old_logprobs   ratio that the loss clips   importance weight u, which `mode` bounds to g
    sampler        ĝ(π_θ / π_sampler)          π_θ / π_sampler, which is the ratio itself
    trainer        π_θ / π_old                 π_old / π_sampler, a factor of the token's coefficient w_d·A / D

`sampler` without a mode is the paper's: one ratio for both kinds of difference. With a mode, the whole ratio is bounded before
the loss clips it. `trainer` is the decoupled objective (Hilton et al., arXiv 2110.00641; AReaL, arXiv 2505.24298): the loss
clips what the updates of a step change, and g corrects the rest. In the first update of a step its ratio is 1, so with one
update a step only g acts, and both rows of the table give the same gradient as long as nothing is clipped.

    mode                u of a token                 g
    token_truncate      its own ratio                min(max(u, clip_min), clip_max)
    token_mask          its own ratio                u where clip_min ≤ u ≤ clip_max, else 0
    sequence_truncate   Π over its agent's tokens    min(max(u, clip_min), clip_max)
    sequence_mask       Π over its agent's tokens    u where clip_min ≤ u ≤ clip_max, else 0

The modes are those of TRL's `vllm_importance_sampling_mode`. Sources: truncation, Ionides 2008, and Yao et al. 2025, "Your
efficient RL framework secretly brings you off-policy RL training"; masking of tokens, IcePop (Ling team 2025); of sequences,
Liu, Li et al. 2025, "When speed kills stability". A sequence is all that an agent sampled, in all of its turns, however many
rows they make. D counts tokens that a mask leaves out: it does not depend on the policy, and a mask makes an update smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..config import ImportanceSamplingMode, OldLogprobs

_FAR = 20.0
"""Log-ratios are held within ± this many nats, so that a ratio is finite."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """What the loss takes in place of the sampler's log-probs. All tensors have shape [N] and no gradient."""

    old_per_token_logps: torch.Tensor
    """The log-probs (nats) that the loss compares π_θ with."""
    factors: torch.Tensor | None
    """What coefficients are multiplied with; None: 1."""
    weights: torch.Tensor
    """g, the bounded importance weights."""
    bounded: torch.Tensor
    """Which tokens' weights were truncated or masked."""


@dataclass(frozen=True, slots=True)
class Correction:
    """Which policy the ratio compares with, and how importance weights are bounded; see the top of this file."""

    old_logprobs: OldLogprobs = "sampler"
    mode: ImportanceSamplingMode | None = None
    clip_max: float | None = 3.0
    clip_min: float | None = None

    @property
    def by_sequence(self) -> bool:
        """Whether all tokens of an agent have one weight."""
        return self.mode in ("sequence_truncate", "sequence_mask")

    @property
    def masks(self) -> bool:
        """Whether tokens are left out, not truncated."""
        return self.mode in ("token_mask", "sequence_mask")

    def apply(
        self,
        per_token_logps: torch.Tensor,
        sampling_per_token_logps: torch.Tensor,
        *,
        old: torch.Tensor | None = None,
        sequence: torch.Tensor | None = None,
    ) -> Corrected:
        """Log-probs (nats) of π_θ, of π_sampler and of π_old (None: those of π_θ), [N] → the correction of each token.

        `sequence` [N] is log u of the token's agent, for the modes by sequence: Σ over the agent's tokens of log π_old − log
        π_sampler, or of log π_θ − log π_sampler with the sampler's log-probs.
        """
        now = per_token_logps.detach()
        before = now if old is None else old
        away = before - sampling_per_token_logps if sequence is None else sequence
        ratio = torch.exp(away.clamp(-_FAR, _FAR))
        if self.mode is None:
            return Corrected(sampling_per_token_logps, None, ratio, torch.zeros_like(ratio, dtype=torch.bool))
        held = ratio.clamp(self.clip_min, self.clip_max) if self._has_bounds else ratio
        outside = held != ratio
        weights = torch.where(outside, 0.0, ratio) if self.masks else held
        if self.old_logprobs == "trainer":
            return Corrected(before, weights, weights, outside)
        # The policy that π_θ has exactly the bounded ratio to: the loss clips that ratio, and learns through it.
        bound = now - torch.log(held)
        anchor = bound if self.by_sequence else torch.where(outside, bound, sampling_per_token_logps)
        return Corrected(anchor, (~outside).to(now.dtype) if self.masks else None, weights, outside)

    @property
    def _has_bounds(self) -> bool:
        return self.clip_min is not None or self.clip_max is not None
