"""A push that is told to models in other processes."""

from __future__ import annotations

import torch

from recursive_agent.model.base import Model

from ..rollouts.attempt import PublishingRunner
from .sync import Push, WeightSync


class PublishedSync:
    """Pushes as `sync` does, and then lets `runner` tell the processes that sample with a model of their own."""

    def __init__(self, sync: WeightSync, runner: PublishingRunner) -> None:
        self.sync = sync
        self.runner = runner

    @property
    def model(self) -> Model:
        """See `WeightSync.model`."""
        return self.sync.model

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`. Nothing is told where the push fails."""
        pushed = await self.sync.push(policy, version)
        await self.runner.publish()
        return pushed
