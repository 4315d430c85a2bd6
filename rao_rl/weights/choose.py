"""Which sampler the online loop rolls out with, and the way its weights are pushed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import anyio
import torch

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.graph import GRAPH
from recursive_agent.model.pool import PoolModel
from recursive_agent.model.served import ServedCheckpoint, served_checkpoint

from ..config import SamplerConfig, SamplerName
from .files import plain_state
from .folder import LARGEST_EMBEDDED
from .pool import PoolSync
from .probe import MEAN, Probe
from .sync import EmbeddedSync, TorchSync, WeightSync

_log = logging.getLogger(__name__)


def open_sync(
    config: SamplerConfig,
    folder: Path,
    policy: Any,
    *,
    temperature: float = 1.0,
    device: torch.device | None = None,
) -> WeightSync:
    """The sampler of a run, ready for its first push; `folder` is a checkpoint of `policy` that it may rewrite.

    The `device` that it is trained on (default: the one that it is on) decides about the sampler (see `local_sampler`).
    Pushes are checked at `temperature`, the sampling temperature of the rollouts. Raises ConfigurationError for what cannot
    be had.
    """
    if config.name.startswith("vllm"):
        return _vllm(config, folder, temperature)
    device = device or next(policy.parameters()).device
    size = sum(parameter.numel() for parameter in policy.parameters())
    name = local_sampler(config.name, device=device, graph=(folder / GRAPH).is_file(), parameters=size)
    _log.info(
        "Sampling with %s (sampler.name=%s) for a policy of %s parameters on %s.", name, config.name, size, device
    )
    if name == "embedded":
        return EmbeddedSync(EmbeddedModel(folder, threads=1), folder, temperature=temperature)
    from .torch_model import TorchModel

    return TorchSync(TorchModel(policy, folder, device=device), temperature=temperature)


def local_sampler(
    name: SamplerName, *, device: torch.device, graph: bool, parameters: int
) -> Literal["embedded", "torch"]:
    """The sampler in this process for a policy of so many parameters on a device, with a graph for the light runtime or not.

    `auto` takes `embedded` for a small policy on the CPU that has a graph; a policy on a GPU is sampled there, by torch.
    Raises ConfigurationError where `embedded` is asked for and there is no graph.
    """
    if name == "embedded" and not graph:
        raise ConfigurationError("sampler.name=embedded runs only Qwen3-shaped float32 models; use sampler.name=torch")
    small = device.type == "cpu" and graph and parameters <= LARGEST_EMBEDDED
    return "embedded" if name == "embedded" or (name == "auto" and small) else "torch"


def _vllm(config: SamplerConfig, folder: Path, temperature: float) -> WeightSync:
    if config.base_url is None or config.served_model is None:
        raise ConfigurationError(f"sampler.name={config.name} needs sampler.base_url and sampler.served_model")
    if config.name == "vllm-reload" and config.served_folder is None:
        raise ConfigurationError("sampler.name=vllm-reload needs sampler.served_folder, which vLLM serves")
    tolerance = MEAN if config.probe_tolerance is None else config.probe_tolerance
    turns = anyio.Lock()

    def probe() -> Probe:
        return Probe(tolerance=tolerance, temperature=temperature, turns=turns)

    model = served_checkpoint(folder, config.base_url, model=config.served_model)
    if not isinstance(model, PoolModel):
        return _way(config, model, folder, probe())
    return _ways(config, model, folder, [probe() for _ in model.models])


def _way(
    config: SamplerConfig, model: ServedCheckpoint, folder: Path, probe: Probe, *, rewrite: bool = True
) -> WeightSync:
    from .vllm import VllmLora, VllmReload, VllmTransfer

    if config.name == "vllm-lora":
        return VllmLora(model, folder / "adapters", probe=probe)
    if config.name == "vllm-reload":
        return VllmReload(model, str(config.served_folder), probe=probe, rewrite=rewrite)
    return VllmTransfer(model, backend="nccl" if config.name == "vllm-nccl" else "ipc", probe=probe)


def _ways(
    config: SamplerConfig, pool: PoolModel[ServedCheckpoint], folder: Path, probes: Sequence[Probe]
) -> WeightSync:
    """The ways to push to several servers. Those of `vllm-reload` read one folder, which is rewritten once for all."""
    from .vllm import rewrite_served

    async def rewrite(policy: torch.nn.Module) -> None:
        await rewrite_served(Path(str(config.served_folder)), plain_state(policy), probes)

    syncs = [
        _way(config, model, folder, probe, rewrite=False) for model, probe in zip(pool.models, probes, strict=True)
    ]
    reloads = config.name == "vllm-reload"
    # NCCL's transfers to several servers would have to be in the same order everywhere.
    transfers = config.name in ("vllm-nccl", "vllm-ipc")
    return PoolSync(pool, syncs, first=rewrite if reloads else None, at_once=1 if transfers else None)
