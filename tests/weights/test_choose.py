"""The sampler that the online loop takes, by where the policy is and what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rao_rl.config import SamplerConfig, SamplerName
from rao_rl.weights import hardware
from rao_rl.weights.choose import local_sampler, open_sync
from rao_rl.weights.folder import LARGEST_EMBEDDED
from rao_rl.weights.sync import EmbeddedSync, TorchSync
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import OnText
from recursive_agent.model.batching import Request

from ..train.policies import make_checkpoint

SMALL = 2_000_000


@pytest.mark.parametrize(
    ("device", "graph", "parameters", "expected"),
    [
        ("cpu", True, SMALL, "embedded"),
        ("cpu", True, LARGEST_EMBEDDED, "embedded"),
        ("cpu", True, LARGEST_EMBEDDED + 1, "torch"),
        ("cpu", False, SMALL, "torch"),
        ("cuda:0", True, SMALL, "torch"),
        ("cuda:1", True, 4_000_000_000, "torch"),
        ("cuda:0", False, 4_000_000_000, "torch"),
        ("mps", True, SMALL, "torch"),
    ],
)
def test_auto_takes_the_light_runtime_only_for_small_policies_on_the_cpu_that_have_a_graph(
    device: str, graph: bool, parameters: int, expected: str
) -> None:
    chosen = local_sampler("auto", device=torch.device(device), graph=graph, parameters=parameters)
    assert chosen == expected


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("parameters", [SMALL, 4_000_000_000])
def test_a_sampler_that_is_named_is_taken(device: str, parameters: int) -> None:
    policy: Mapping[str, Any] = {"device": torch.device(device), "parameters": parameters}
    assert local_sampler("embedded", graph=True, **policy) == "embedded"
    assert local_sampler("torch", graph=True, **policy) == "torch"
    with pytest.raises(ConfigurationError, match=r"use sampler\.name=torch"):
        local_sampler("embedded", graph=False, **policy)


def test_a_policy_on_the_cpu_is_sampled_by_the_light_runtime(tokenizer: Any, tmp_path: Path) -> None:
    policy = make_checkpoint(tmp_path, tokenizer)
    assert isinstance(open_sync(SamplerConfig(), tmp_path, policy), EmbeddedSync)
    (tmp_path / "model.onnx").unlink()
    assert isinstance(open_sync(SamplerConfig(), tmp_path, policy), TorchSync)


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_a_policy_on_an_accelerator_is_sampled_there(name: SamplerName, tokenizer: Any, tmp_path: Path) -> None:
    """Torch's device without storage stands for a GPU."""
    policy = make_checkpoint(tmp_path, tokenizer).to("meta")
    sync = open_sync(replace(SamplerConfig(), name=name), tmp_path, policy)
    assert isinstance(sync, TorchSync)
    engine = sync.model.engine
    assert {parameter.device.type for parameter in engine.policy.parameters()} == {"meta"}
    assert engine.empty(2, 3).device.type == "meta"


# --- the temperature of the check ---


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["embedded", "torch"])
async def test_a_push_is_checked_at_the_temperature_of_the_rollouts(
    name: SamplerName, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_checkpoint(tmp_path, tokenizer)
    sync = open_sync(SamplerConfig(name=name), tmp_path, policy, temperature=0.6)
    asked: list[float] = []
    sample = sync.model.sample  # type: ignore[attr-defined]

    async def watched(request: Request, on_text: OnText | None = None) -> None:
        asked.append(request.temperature)
        await sample(request, on_text)

    monkeypatch.setattr(sync.model, "sample", watched)
    try:
        push = await sync.push(policy, 1)
    finally:
        await sync.model.aclose()
    assert set(asked) == {0.6}
    assert push.probe_error < 1e-3


# --- hardware ---


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False, "amx_tile": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True, "amx_tile": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True, "amx_tile": True}, False),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({"architecture": "aarch64", "neon": True}, False),
    ],
)
def test_bfloat16_is_used_where_the_processor_multiplies_it(
    capabilities: Mapping[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert hardware.multiplies_bf16(torch.device("cpu")) is expected


def test_bfloat16_is_used_on_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert hardware.multiplies_bf16()
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert hardware.training_device() == torch.device("cuda:3")
