"""The policy with all its weights, on process 0, wherever training keeps them: it is pushed to samplers and saved."""

from __future__ import annotations

import os

import torch

from recursive_agent.errors import ConfigurationError

from ..processes import spreads_weights
from ..weights.sharded import Replica, is_sharded
from .together import Together

_DUTY = "weights"


class WholePolicy:
    """Calling it gives the whole policy: the policy itself, or, while FSDP2 spreads it, a copy that is filled for the call.

    Make it in all processes before a trainer is made for `policy`, and call it in process 0 while the others `follow`: they
    take part by themselves. The copy takes 4 bytes a parameter of process 0's memory (not of its GPU), and a call gathers one
    tensor after the other, so a GPU needs room for the largest one. Raises ConfigurationError where accelerate is configured
    for FSDP of version 1.
    """

    def __init__(self, policy: torch.nn.Module, together: Together) -> None:
        if spreads_weights() and together.count > 1 and os.environ.get("FSDP_VERSION", "1") != "2":
            raise ConfigurationError(
                "training shards weights by FSDP 2 only: set fsdp_version: 2 in the configuration of accelerate"
            )
        self._policy = policy
        self._together = together
        spread = spreads_weights() and together.count > 1
        self._replica = Replica(policy, keeps=together.first) if spread else None
        together.duties[_DUTY] = self._fill

    def __call__(self) -> torch.nn.Module:
        """Raises WeightPushError where the copy does not compute what all processes compute together."""
        if self._replica is None or not is_sharded(self._policy):
            return self._policy
        self._together.order(_DUTY)
        self._fill()
        assert self._replica.policy is not None
        return self._replica.policy

    @property
    def device(self) -> torch.device:
        """Where the policy is trained."""
        return next(self._policy.parameters()).device

    def _fill(self) -> None:
        assert self._replica is not None
        self._replica.fill(self._policy)
