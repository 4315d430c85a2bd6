"""New weights for a running vLLM, and the probe that tells whether it has them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from peft import LoraConfig, get_peft_model

from rao_rl.errors import WeightPushError
from rao_rl.weights.vllm import VllmLora, VllmReload
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.model.served import ServedCheckpoint

from .conftest import Vllm
from .test_interfaces import CLOSE, PROMPTS, ask

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("_weights_come_back")]


def learn(policy: Any, seed: int) -> None:
    """What a step of training does, as far as a server can tell: other weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.03)


def adapted(policy: Any) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(policy, config)


async def likelihood(model: ServedCheckpoint) -> list[float]:
    """Log-probs of a greedy answer."""
    answer = await ask(model, PROMPTS[2], temperature=1.0, seed=1)
    return list(answer.logprobs or ())


async def test_adapters_are_loaded_beside_calls_one_after_the_other(
    vllm: Vllm, model: ServedCheckpoint, policy: Any, tmp_path: Path
) -> None:
    before = await likelihood(model)
    lora = adapted(policy)
    sync = VllmLora(model, tmp_path, keep=2)
    names = []
    for version in range(4):
        learn(lora, version)
        push = await sync.push(lora, version)
        assert push.probe_error < CLOSE
        names.append(model.name)
        assert (await ask(model, PROMPTS[0])).version == str(version)
    cards = [card["id"] for card in httpx2.get(f"{vllm.url}/models").json()["data"]]
    assert [name for name in names if name in cards] == names[-2:]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[-2:])
    base = ServedCheckpoint(vllm.folder, vllm.url)
    assert await likelihood(base) == pytest.approx(before, abs=CLOSE)  # the base model is what it was
    await base.aclose()
    for name in names[-2:]:
        httpx2.post(f"{vllm.url}/unload_lora_adapter", json={"lora_name": name}).raise_for_status()


async def test_reloaded_weights_are_sampled_with_from_then_on(vllm: Vllm, model: ServedCheckpoint, policy: Any) -> None:
    before = await likelihood(model)
    sync = VllmReload(model, vllm.folder)
    for version in range(2):
        learn(policy, version)
        push = await sync.push(policy, version)
        assert push.probe_error < CLOSE
        assert (await ask(model, PROMPTS[0])).version == str(version)
    assert await likelihood(model) != pytest.approx(before, abs=0.01)


async def test_a_push_to_a_folder_that_is_not_served_is_found_out(
    model: ServedCheckpoint, policy: Any, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(SHIPPED, tmp_path / "other"))
    learn(policy, 0)
    with pytest.raises(WeightPushError, match="does not have the weights of version 1"):
        await VllmReload(model, other).push(policy, 1)


async def test_an_adapter_on_another_base_than_the_servers_is_found_out(
    vllm: Vllm, model: ServedCheckpoint, policy: Any, tmp_path: Path
) -> None:
    learn(policy, 0)  # of which the server knows nothing
    with pytest.raises(WeightPushError, match="pushed by vllm-lora"):
        await VllmLora(model, tmp_path).push(adapted(policy), 1)
    httpx2.post(f"{vllm.url}/unload_lora_adapter", json={"lora_name": model.name}).raise_for_status()
