"""Pushing weights to all replicas of a pool, each with a probe of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import anyio
import torch

from recursive_agent.concurrency import task_group
from recursive_agent.errors import ConfigurationError, ModelError
from recursive_agent.model.pool import PoolModel
from recursive_agent.model.tokens import TokensModel

from ..errors import WeightPushError
from .probe import Push
from .sync import WeightSync

M = TypeVar("M", bound=TokensModel)
_log = logging.getLogger(__name__)


class PoolSync(Generic[M]):
    """Pushes to every replica of a pool at the same time; `syncs` are the ways to push, one for each of its models in order.

    While a replica is pushed to, new calls for it wait. One whose push or probe fails is taken out of the pool, and the log
    says why: nothing samples with old weights. So is one that stops answering in between, since a server that was started anew
    may have other weights. Each push tries those again, and the run ends only if none is left.

    `first` is awaited before the pushes, for what is done once for all of them (rewriting a folder that servers share). At most
    `at_once` replicas are pushed to at a time. Their probes must share `turns`, since they compute with the one policy.
    """

    def __init__(
        self,
        pool: PoolModel[M],
        syncs: Sequence[WeightSync],
        *,
        first: Callable[[torch.nn.Module], Awaitable[None]] | None = None,
        at_once: int | None = None,
    ) -> None:
        if len(syncs) != len(pool.models):
            raise ConfigurationError(f"{len(pool.models)} replicas need as many ways to push, not {len(syncs)}")
        self.model = pool
        self._syncs = tuple(syncs)
        self._first = first
        self._places = anyio.CapacityLimiter(at_once or len(syncs))
        pool.replicas.returns = False

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`; the figures are those of the replica whose probe agrees least, `seconds` those of all.

        Raises WeightPushError, naming every replica and why, if no replica has the weights.
        """
        started = time.perf_counter()
        pushes: list[Push] = []
        if self._first is not None:
            await self._first(policy)
        async with task_group() as group:
            for model, sync in zip(self.model.models, self._syncs, strict=True):
                group.start_soon(self._push, model, sync, policy, version, pushes)
        if not pushes:
            why = "; ".join(f"{replica.url}: {replica.out}" for replica in self.model.replicas.all)
            raise WeightPushError(f"No replica has the weights of version {version} ({why}).")
        worst = max(pushes, key=lambda push: push.probe_error)
        return replace(worst, seconds=time.perf_counter() - started)

    async def _push(
        self, model: M, sync: WeightSync, policy: torch.nn.Module, version: int, pushes: list[Push]
    ) -> None:
        replica = self.model.replicas.of(model)
        was_out, known = not replica.in_use, replica.out is not None
        async with self._places:
            with self.model.holding(model):
                try:
                    # One that is not there must not hold up the others for as long as a push may take.
                    if was_out and not await self.model.replicas.answers(replica):
                        raise WeightPushError(f"it gives no answer ({replica.trouble})")
                    push = await sync.push(policy, version)
                except (WeightPushError, ModelError) as error:
                    why = str(error).rstrip(".")
                    self.model.take_out(model, why)
                    if not known:
                        _log.warning("%s is taken out of the pool until a push succeeds: %s", replica.url, why)
                    return
                self.model.bring_back(model)
                pushes.append(push)
        if was_out:
            _log.warning("%s is in the pool again, with the weights of version %d.", replica.url, version)
