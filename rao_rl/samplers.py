"""Which sampler the online loop rolls out with, and the way its weights are pushed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.served import ServedCheckpoint

from .bounds import Positive, check
from .export import GRAPH
from .weights import EmbeddedSync, Probe, TorchSync, WeightSync

SamplerName = Literal["auto", "embedded", "torch", "vllm-lora", "vllm-reload", "vllm-nccl", "vllm-ipc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """Where rollouts are sampled. `base_url` and `served_model` name a vLLM server, for the `vllm-…` samplers.

    `served_folder` is the checkpoint that `vllm-reload` rewrites: the one the server was started with, a copy of the model
    that is trained, never the only one. `probe_tolerance` is what log-probs may differ by after a push (None: as for a server
    that computes in float32); one in bfloat16 wants some 0.5.
    """

    name: SamplerName = "auto"
    base_url: str | None = None
    served_model: str | None = None
    served_folder: str | None = None
    probe_tolerance: Positive | None = None

    def __post_init__(self) -> None:
        check(self)


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
        raise ConfigurationError("sampler.name=embedded runs Qwen3-shaped float32 policies only; take torch")
    if config.name == "embedded" or (config.name == "auto" and has_graph and not on_gpu):
        return EmbeddedSync(EmbeddedModel(folder, threads=1), folder)
    from .sampler import TorchModel

    return TorchSync(TorchModel(policy, folder))


def _vllm(config: SamplerConfig, folder: Path) -> WeightSync:
    from .vllm_weights import TOLERANCE, VllmLora, VllmReload, VllmTransfer

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
