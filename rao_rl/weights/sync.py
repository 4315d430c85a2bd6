"""Pushing a policy's weights into the model that samples with them. Every push ends with a check (`probe.py`)."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Protocol

import anyio.to_thread
import torch

from recursive_agent.model.base import Model
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.graph import GRAPH, WEIGHTS

from .files import plain_state, rewrite_weights
from .probe import Probe, Push
from .torch_model import TorchModel

__all__ = ["EmbeddedSync", "Probe", "Push", "TorchSync", "WeightSync"]


class WeightSync(Protocol):
    """A way to push weights."""

    @property
    def model(self) -> Model:
        """Samples with what was pushed last; its calls carry `str(version)`."""

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """Make `model` sample with the policy's present weights, and prove it. Raises WeightPushError."""


class EmbeddedSync:
    """Pushes into an embedded model by way of `directory`, a checkpoint of the policy's shape that is rewritten each time.

    A directory without a checkpoint gets a copy of the model's own. Only the weights are written again: the layout of their
    file stays, byte for byte, so that the graph beside it stays true. A reader finds the old weights or the new ones whole.
    Pushes are checked at `temperature`, unless a `probe` is given.
    """

    def __init__(
        self,
        model: EmbeddedModel,
        directory: str | Path,
        *,
        probe: Probe | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.model = model
        self.directory = Path(directory)
        self.probe = probe or Probe(exact=True, temperature=temperature)
        if not (self.directory / GRAPH).is_file():
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in model.directory.iterdir():
                if path.is_file():
                    shutil.copyfile(path, self.directory / path.name)  # an installed policy may be read-only

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`. Raises ConfigurationError for a policy of another shape than the checkpoint."""
        started = time.perf_counter()
        await anyio.to_thread.run_sync(rewrite_weights, self.directory / WEIGHTS, plain_state(policy))
        await self.model.load(self.directory, version=str(version))
        return await self.probe.check(self.model, policy, version=version, method="embedded", started=started)


class TorchSync:
    """Pushes into a model that torch samples from in this process: a copy of the weights, or none where they are shared.

    Pushes are checked at `temperature`, unless a `probe` is given.
    """

    def __init__(self, model: TorchModel, *, probe: Probe | None = None, temperature: float = 1.0) -> None:
        self.model = model
        self.probe = probe or Probe(
            exact=all(value.dtype == torch.float32 for value in model.engine.policy.parameters()),
            temperature=temperature,
        )

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`. Raises ConfigurationError for a policy of another shape."""
        started = time.perf_counter()
        await self.model.load(policy, version=str(version))
        return await self.probe.check(self.model, policy, version=version, method="torch", started=started)
