"""Rows of sampled tokens as the tensors of a forward pass and of the loss; what rows repeat is forwarded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..data.rows import Sample
from ..errors import DataError
from .loss import Scored
from .packing import carriers, stretch, to_device


@dataclass(slots=True)
class Batch:
    """Rows as tensors. `at` [M] are the positions, in the flattened input, whose next tokens (`targets`) were sampled.

    Rows that share a beginning may share the place of a sampled token: `tokens` [N] are the places in `at` of the sampled
    tokens of all rows, one row after the other.
    """

    arguments: dict[str, Any]
    """Of the model: see `stretch`."""
    at: torch.Tensor
    targets: torch.Tensor
    """[M]."""
    tokens: torch.Tensor
    """[N], as `sampling_per_token_logps` and `coefficients`."""
    sampling_per_token_logps: torch.Tensor
    """Log-prob (nats) of each sampled token under the policy that sampled it."""
    coefficients: torch.Tensor
    forwarded: int
    """Tokens that are forwarded, padding included."""
    real: int

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        if torch.device(device).type != "cpu":
            self.arguments = to_device(self.arguments, device)
            for name in ("at", "targets", "tokens", "sampling_per_token_logps", "coefficients"):
                setattr(self, name, getattr(self, name).to(device, non_blocking=True))
        return self

    def of_tokens(self, scored: Scored) -> Scored:
        """The scores of `at` [M] as those of all sampled tokens, [N]."""
        return Scored(scored.per_token_logps[self.tokens], scored.entropy[self.tokens])


def collate(samples: Sequence[Sample], *, pad_id: int, packed: bool, share: bool = True) -> Batch:
    """Rows as one batch: behind each other (`packed`), or right-padded. No rows make a batch that teaches nothing.

    With `share`, a row that is the beginning of another (see `carriers`) is not forwarded for itself.
    """
    carried = carriers([sample.input_ids for sample in samples]) if share else list(range(len(samples)))
    own = sorted(set(carried))
    arguments, begins = stretch([samples[row] for row in own], pad_id=pad_id, packed=packed)
    starts = dict(zip(own, begins.tolist(), strict=False))  # no samples have one start
    at, targets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    logps, coefficients = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for row, sample in zip(carried, samples, strict=True):
        (sampled,) = np.nonzero(sample.completion_mask)
        if sampled[:1].tolist() == [0]:
            raise DataError("a row begins with a sampled token: there is nothing to predict it from")
        at.append(starts[row] + sampled - 1)
        targets.append(sample.input_ids[sampled].astype(np.int64))
        logps.append(sample.logprobs[sampled])
        coefficients.append(np.full(len(sampled), sample.coefficient, np.float32))
    places, whose = np.concatenate(at), np.concatenate(targets)
    tokens = np.arange(len(places))
    if len(own) < len(samples):
        places, first, tokens = np.unique(places, return_index=True, return_inverse=True)
        whose = whose[first]
    return Batch(
        arguments,
        torch.from_numpy(places),
        torch.from_numpy(whose),
        torch.from_numpy(tokens),
        torch.from_numpy(np.concatenate(logps).astype(np.float32)),
        torch.from_numpy(np.concatenate(coefficients)),
        arguments["input_ids"].numel(),
        sum(map(len, samples)),
    )
