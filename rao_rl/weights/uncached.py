"""Sampling from any causal language model of transformers, without a cache: right for every architecture, and slow.

For layers that `TorchEngine` cannot keep apart by row: sliding windows, recurrence, positions that the model counts itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.batching import Array, BatchEngine, Step

from .causal_lm import base_model
from .torch_model import TorchEngine

_TOLERANCE = {torch.float32: 5e-3, torch.float64: 5e-3}
_COARSE = 0.15
"""How far logits may be apart, as a part of their spread: sixteen bits round differently in every order of operations."""


class UncachedEngine(TorchEngine):
    """Samples from `policy` and reads the whole text for each token. What its cache holds are the tokens themselves."""

    def __init__(
        self, policy: torch.nn.Module, *, end_ids: Sequence[int], max_batch: int = 64, cache_bytes: int = 256 << 20
    ) -> None:
        self.policy = policy.eval()
        self._device = next(base_model(policy).parameters()).device
        BatchEngine.__init__(self, arrays=1, end_ids=end_ids, max_batch=max_batch, cache_bytes=cache_bytes)

    def empty(self, rows: int, length: int) -> torch.Tensor:
        """See `BatchEngine.empty`."""
        return torch.zeros(rows, 1, length, 1, dtype=torch.int64, device=self._device)

    @torch.no_grad()
    def forward(self, step: Step, cache: list[Array]) -> torch.Tensor:
        """See `BatchEngine.forward`."""
        rows, columns, slots = (torch.from_numpy(index).to(self._device) for index in step.places())
        cache[0][rows, 0, slots, 0] = torch.from_numpy(step.ids).to(self._device)[rows, columns]
        whole = step.lengths + step.taken
        # What stands behind a row's end comes after its last token, which no causal model can see.
        given: Any = self.policy(input_ids=cache[0][:, 0, : int(whole.max()), 0], use_cache=False)
        last = torch.from_numpy(np.maximum(whole - 1, 0)).to(self._device)
        logits: torch.Tensor = given.logits[torch.arange(len(last), device=self._device), last]
        return logits


@torch.no_grad()
def samples_as_it_reads(engine: TorchEngine) -> None:
    """Raises ConfigurationError unless an engine, with rows of two lengths, gives the logits of the model's own forward pass.

    Architectures differ in what they make of masks and positions that are handed to them.
    """
    policy = engine.policy
    texts = [[5, 3, 7, 2, 9, 4, 8], [6, 2, 4]]
    cache = [engine.empty(2, 8)]
    device = next(policy.parameters()).device
    try:
        read = np.array([[*texts[0][:-1]], [*texts[1][:-1], 0, 0, 0, 0]], np.int64)
        lengths = np.array([len(text) - 1 for text in texts], np.int64)
        engine.forward(Step(read, np.zeros(2, np.int64), lengths), cache)
        last = np.array([[text[-1]] for text in texts], np.int64)
        ours = engine.forward(Step(last, lengths, np.ones(2, np.int64)), cache)
        theirs: Any = [policy(input_ids=torch.tensor([text], device=device), use_cache=False) for text in texts]
        plain = torch.stack([given.logits[0, -1] for given in theirs]).float()
        error = ((ours.float() - plain).norm() / (plain - plain.mean(dim=1, keepdim=True)).norm()).item()
    except Exception as problem:  # whatever an architecture raises for a mask or a cache it does not know
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise ConfigurationError(f"this model cannot be sampled with a cache for each row: {reason}") from problem
    most = _TOLERANCE.get(next(policy.parameters()).dtype, _COARSE)
    if not error <= most:
        raise ConfigurationError(f"this model answers otherwise with a cache for each row (by {error:.2g})")
