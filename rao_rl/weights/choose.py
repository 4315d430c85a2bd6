"""Which sampler the online loop rolls out with, and the way its weights are pushed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.served import ServedCheckpoint

from ..config import SamplerConfig
from .files import GRAPH
from .sync import EmbeddedSync, Probe, TorchSync, WeightSync


def open_sync(config: SamplerConfig, folder: Path, policy: Any) -> WeightSync:
    """The sampler of a run, ready for its first push; `folder` is a checkpoint of `policy` that it may rewrite.

    auto: `embedded` where the policy has a graph for the light runtime and no GPU holds it, else `torch`. Raises
    ConfigurationError for what cannot be had.
    """
    if config.name.startswith("vllm"):
        return _vllm(config, folder)
    on_gpu = next(policy.parameters()).is_cuda
    has_graph = (folder / GRAPH).is_file()
    if config.name == "embedded" and not has_graph:
        raise ConfigurationError("sampler.name=embedded runs only Qwen3-shaped float32 models; use sampler.name=torch")
    if config.name == "embedded" or (config.name == "auto" and has_graph and not on_gpu):
        return EmbeddedSync(EmbeddedModel(folder, threads=1), folder)
    from .torch_model import TorchModel

    return TorchSync(TorchModel(policy, folder))


def _vllm(config: SamplerConfig, folder: Path) -> WeightSync:
    from .vllm import TOLERANCE, VllmLora, VllmReload, VllmTransfer

    if config.base_url is None or config.served_model is None:
        raise ConfigurationError(f"sampler.name={config.name} needs sampler.base_url and sampler.served_model")
    model = ServedCheckpoint(folder, config.base_url, model=config.served_model)
    probe = Probe(tolerance=TOLERANCE if config.probe_tolerance is None else config.probe_tolerance)
    if config.name == "vllm-lora":
        return VllmLora(model, folder / "adapters", probe=probe)
    if config.name == "vllm-reload":
        if config.served_folder is None:
            raise ConfigurationError("sampler.name=vllm-reload needs sampler.served_folder, which vLLM serves")
        return VllmReload(model, config.served_folder, probe=probe)
    return VllmTransfer(model, backend="nccl" if config.name == "vllm-nccl" else "ipc", probe=probe)
