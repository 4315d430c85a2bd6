"""Weights that FSDP2 spreads over several processes: gathered tensor by tensor, and what they compute.

Every function here must be called by all processes at the same time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from ..errors import WeightPushError
from .causal_lm import evaluating
from .probe import MEAN, ROUNDING

_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")
"""What recomputing activations and compiling put into the names of weights."""
_ROWS, _LENGTH = 2, 16


def is_sharded(policy: torch.nn.Module) -> bool:
    """Whether each process has only a part of the weights."""
    return any(isinstance(value.data, DTensor) for value in policy.parameters())


def full_weights(policy: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights by the names that they have in one process, one whole tensor at a time, on the device of the policy.

    A device holds one of them at once, if the caller keeps none.
    """
    _put_away(policy)
    for name, value in policy.named_parameters():
        for wrapper in _WRAPPERS:
            name = name.replace(wrapper, "")
        held: Any = value.detach()
        yield name, held.full_tensor() if isinstance(held, DTensor) else held


class Replica:
    """A whole copy of a policy in the memory of the CPU, of which one process (`keeps`) has one: 4 bytes a parameter.

    Made before the weights are spread. With it, pushes and checkpoints work as they do in one process: a push may send it to
    several servers at once, and a probe may compute with older weights in its place.
    """

    def __init__(self, policy: torch.nn.Module, *, keeps: bool) -> None:
        self.policy: torch.nn.Module | None = copy.deepcopy(policy).to("cpu") if keeps else None

    @torch.no_grad()
    def fill(self, policy: torch.nn.Module) -> None:
        """Copy the present weights of `policy`, and prove it: what all processes compute together, the copy computes.

        Raises WeightPushError, in the process that keeps the copy, where it does not.
        """
        mine = {} if self.policy is None else dict(self.policy.named_parameters())
        for name, tensor in full_weights(policy):
            if mine:
                mine[name].copy_(tensor)
        theirs = scores(policy)
        if self.policy is not None:
            _compare(scores(self.policy), theirs)


def scores(policy: torch.nn.Module) -> torch.Tensor:
    """Log-probs of the tokens of a few rows, always the same ones, on the CPU. Weights that are spread stay spread."""
    causal: Any = policy
    size = causal.config.get_text_config().vocab_size
    ids = torch.randint(size, (_ROWS, _LENGTH), generator=torch.Generator().manual_seed(0))
    ids = ids.to(next(policy.parameters()).device)
    with evaluating(policy):
        logits: torch.Tensor = causal(input_ids=ids, use_cache=False).logits
    _put_away(policy)
    found = torch.log_softmax(logits.float(), dim=-1)[:, :-1].gather(2, ids[:, 1:, None])
    return found.to("cpu", logits.dtype)


def _compare(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Half precision, in which FSDP may compute, is compared by its mean."""
    difference = (ours.float() - theirs.float()).abs()
    exact = theirs.dtype == torch.float32
    off, most = float(difference.max() if exact else difference.mean()), ROUNDING if exact else MEAN
    if not off <= most:
        raise WeightPushError(
            f"The weights that were gathered from all processes are not those that are trained: their log-probs differ by "
            f"{off:.3g}, and {most:g} is allowed."
        )


def _put_away(policy: torch.nn.Module) -> None:
    """After a forward pass without a backward one some whole weights are still there, in the place of the parts."""
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
