"""Steps of imitation for tests: random rows, and what a step must come to by definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from rao_rl.data.rows import TokenRow

from ..train.small_steps import VOCABULARY

LENGTHS = (7, 3, 12, 30, 5, 9)


def row(length: int, seed: int, given: int = 2) -> TokenRow:
    """Random tokens, of which the first `given` and some others are only shown."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(length) >= given) & (rng.random(length) < 0.7)
    return TokenRow(rng.integers(1, VOCABULARY, length).astype(np.int32), mask)


ROWS = [row(length, place) for place, length in enumerate(LENGTHS)]


def cross_entropy(model: Any, rows: Sequence[TokenRow]) -> torch.Tensor:
    """The mean over all learnt tokens of −log p, each row forwarded alone: the definition."""
    losses = []
    for each in rows:
        ids = torch.from_numpy(each.input_ids.astype(np.int64))
        scores = torch.log_softmax(model(input_ids=ids[None], use_cache=False).logits[0], dim=-1)
        losses += [-scores[place - 1, ids[place]] for place in np.nonzero(each.completion_mask)[0]]
    return torch.stack(losses).mean()


class Gradient(TrainerCallback):
    """The gradient of the last step, by parameter."""

    def __init__(self) -> None:
        self.of: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.of = {
            name.removeprefix("module."): value.grad.clone() for name, value in kwargs["model"].named_parameters()
        }
