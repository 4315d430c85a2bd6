"""The check of a push to a sampler in half precision: it passes what has the weights, and finds what has old ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from rao_rl.config import UpdateConfig
from rao_rl.errors import WeightPushError
from rao_rl.weights.adapters import adapted
from rao_rl.weights.checkpoint import write_checkpoint
from rao_rl.weights.files import plain_state
from rao_rl.weights.probe import Probe, Share
from rao_rl.weights.scoring import (
    adapter_state,
    copied,
    head_name,
    layers_of,
    score,
    unmerged_state,
    without_adapter,
)
from rao_rl.weights.sync import TorchSync
from rao_rl.weights.torch_model import TorchModel
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.model.base import Completion, OnText
from recursive_agent.model.batching import Request
from recursive_agent.usage import Usage

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Both event loops are tests/model's."""
    return "asyncio"


def tied(tokenizer: Any) -> Any:
    """A small Llama of three layers, its embeddings tied, whose weights lie on the grid of bfloat16 as those of the hub do."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.15,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    return model


def learn(policy: Any, seed: int, size: float) -> None:
    """An update of Adam's kind: each weight moves by as much, one way or the other."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator).sign(), alpha=size)


async def train(policy: Any, sync: TorchSync, seeds: Iterable[int], size: float) -> None:
    """An update and a push for each seed."""
    for version, seed in enumerate(seeds, 1):
        learn(policy, seed, size)
        await sync.push(policy, version)


class Stale(TorchModel):
    """A sampler in bfloat16 that may keep some of its weights when it is loaded, and says nothing."""

    keeps: Callable[[str], bool] = staticmethod(lambda name: False)
    keeps_head = False

    async def load(self, policy: torch.nn.Module, *, version: str) -> None:
        model: Any = self.engine.policy
        head = model.get_output_embeddings().weight.detach().clone()
        kept = {name: value.clone() for name, value in model.state_dict().items() if self.keeps(name)}
        await super().load(policy, version=version)
        model.load_state_dict(kept, strict=False)
        if self.keeps_head:
            model.lm_head.weight = torch.nn.Parameter(head)


@pytest.fixture
def policy(tokenizer: Any, tmp_path: Path) -> Any:
    policy = tied(tokenizer)
    settings = CheckpointSettings(name="tied", prompt_style="minimal", sampling={"temperature": 1.0})
    write_checkpoint(tmp_path, policy, tokenizer, settings)
    return policy


def sampler(policy: Any, folder: Path, **options: Any) -> tuple[Stale, TorchSync]:
    model = Stale(policy, folder, dtype=torch.bfloat16)
    return model, TorchSync(model, probe=Probe(**options))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_right_weights_in_bfloat16_pass_whatever_the_size_of_the_updates(
    policy: Any, tmp_path: Path, temperature: float
) -> None:
    _, sync = sampler(policy, tmp_path, temperature=temperature)
    shares = []
    for version, size in enumerate((0.0, 0.0, 1e-6, 1e-4, 3e-3, 0.0, 1e-2)):
        learn(policy, version, size)
        push = await sync.push(policy, version)
        assert push.probe_tokens >= 512
        assert 1e-3 < push.probe_mean < 0.06
        shares.append(push.probe_share)
    # Of the first pushes nothing is to be told, and all of the last.
    assert shares[:2] == [None, None]
    assert shares[-1] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("size", [3e-4, 1e-3])
async def test_old_weights_are_found_out(policy: Any, tmp_path: Path, size: float) -> None:
    model, sync = sampler(policy, tmp_path)
    await sync.push(policy, 0)
    learn(policy, 1, size)
    await sync.push(policy, 1)
    model.keeps = lambda name: True
    learn(policy, 2, size)
    with pytest.raises(WeightPushError, match=r"version 2 .*of the change of the weights since version \d they show "):
        await sync.push(policy, 2)


async def test_updates_too_small_to_tell_add_up_until_they_show(policy: Any, tmp_path: Path) -> None:
    model, sync = sampler(policy, tmp_path)
    await sync.push(policy, 0)
    model.keeps = lambda name: True
    with pytest.raises(WeightPushError, match=r"version [2-9] .*the weights since version 0 they show "):
        await train(policy, sync, [5] * 9, 4e-5)


async def test_a_stale_output_embedding_is_found_out_where_it_is_tied(policy: Any, tmp_path: Path) -> None:
    model, sync = sampler(policy, tmp_path)
    await sync.push(policy, 0)
    model.keeps_head = True
    with pytest.raises(WeightPushError, match=r"the output embedding since the start|the weights since version"):
        await train(policy, sync, range(1, 8), 1e-3)


async def test_a_stale_layer_is_found_out(policy: Any, tmp_path: Path) -> None:
    model, sync = sampler(policy, tmp_path)
    await sync.push(policy, 0)
    model.keeps = lambda name: ".layers.1." in name
    with pytest.raises(WeightPushError, match=r"model\.layers\.1 since the start|the weights since version"):
        await train(policy, sync, range(1, 13), 1e-3)


async def test_weights_of_another_model_are_found_out_at_the_first_push(
    policy: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model, sync = sampler(policy, tmp_path)
    model.keeps = lambda name: True
    learn(policy, 1, 0.05)
    with pytest.raises(WeightPushError, match="on average is allowed"):
        await sync.push(policy, 0)


@pytest.mark.parametrize("frozen", [torch.float32, torch.bfloat16])
async def test_an_adapter_that_is_not_applied_is_found_out_at_the_first_push(
    policy: Any, tmp_path: Path, frozen: torch.dtype
) -> None:
    policy = adapted(policy, UpdateConfig(lora_rank=4, bf16=False))
    for parameter in policy.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(frozen)
    plain = without_adapter(adapter_state(policy))
    for keeps in (False, True):
        model, sync = sampler(policy, tmp_path)
        sync.probe.start = plain
        model.keeps = lambda name, keeps=keeps: keeps and "_proj" in name
        learn(policy, 1, 5e-3)
        learn(policy, 2, 5e-3)
        if not keeps:
            assert (await sync.push(policy, 1)).probe_share == pytest.approx(1.0, abs=0.3)
        else:
            with pytest.raises(WeightPushError, match="the change of the weights since the start they show"):
                await sync.push(policy, 1)
        policy.load_state_dict(plain, strict=False)


async def test_a_sampler_that_agreed_in_float32_must_go_on_to(policy: Any, tmp_path: Path) -> None:
    model = Stale(policy, tmp_path)
    sync = TorchSync(model, probe=Probe())
    assert (await sync.push(policy, 0)).probe_tokens <= 64
    model.keeps = lambda name: ".layers.1.mlp.up_proj" in name
    learn(policy, 1, 3e-3)
    with pytest.raises(WeightPushError, match=r"differ by up to .* in float32 0\.001 is allowed"):
        await sync.push(policy, 1)


# --- the share ---


@given(st.floats(0, 1), st.integers(0, 50), st.floats(0.001, 0.05), st.floats(0.2, 3))
def test_the_share_is_that_of_the_change_within_its_error(share: float, seed: int, noise: float, ratio: float) -> None:
    rng = np.random.default_rng(seed)
    old = -rng.exponential(1.0, 600)
    change = rng.normal(0, noise * ratio, 600) * rng.exponential(1.0, 600)
    found = Share.of(old + share * change + rng.normal(0, noise, 600), old + change, old)
    assert abs(found.value - share) < 6 * found.error
    assert found.error == pytest.approx(1 / (ratio * (2 * 600) ** 0.5), rel=0.5)


def test_nothing_is_told_from_no_change() -> None:
    scores = np.linspace(-3, 0, 50)
    found = Share.of(scores + 0.01, scores, scores)
    assert not found.conclusive
    assert found.whole


# --- scoring by other weights ---


def answer(policy: Any) -> Completion:
    ids = torch.randint(policy.config.vocab_size, (30,), generator=torch.Generator().manual_seed(3)).tolist()
    return Completion(
        text="", finish_reason="stop", usage=Usage(), model="m", prompt_token_ids=ids[:10], token_ids=ids[10:]
    )


def exact(policy: Any, of: Completion) -> list[float]:
    tokens = torch.tensor([*(of.prompt_token_ids or ()), *(of.token_ids or ())])
    with torch.no_grad():
        logprobs = torch.log_softmax(policy(tokens[None]).logits[0].double(), -1)
    chosen: list[float] = logprobs[9:-1].gather(1, tokens[10:, None])[:, 0].tolist()
    return chosen


@pytest.mark.parametrize("rounded", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_scores_by_other_weights_are_those_of_a_policy_that_has_them(
    policy: Any, tokenizer: Any, rounded: torch.dtype, lora: bool
) -> None:
    policy = adapted(policy, UpdateConfig(lora_rank=4, bf16=False)) if lora else policy
    learn(policy, 1, 3e-3)
    state, adapter = copied(plain_state(policy)), copied(unmerged_state(policy))
    reference = tied(tokenizer)
    reference.load_state_dict({name: value.to(rounded).float() for name, value in state.items()})
    learn(policy, 2, 1e-2)
    before = copied(policy.state_dict())
    asked = answer(policy)
    found = score(policy, [asked], weights=state, rounded=rounded)
    assert found.tolist() == pytest.approx(exact(reference, asked), abs=1e-5)
    if lora and rounded == torch.float32:
        assert score(policy, [asked], weights=adapter).tolist() == pytest.approx(exact(reference, asked), abs=1e-5)
    assert score(policy, [asked]).tolist() == pytest.approx(exact(policy, asked), abs=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_a_policy_in_bfloat16_is_scored_in_float32_and_left_as_it_was(policy: Any, tokenizer: Any) -> None:
    half = tied(tokenizer)
    for parameter in half.parameters():  # the frequencies of the positions stay in float32
        parameter.data = parameter.data.bfloat16()
    asked = answer(policy)
    assert score(half, [asked]).tolist() == pytest.approx(exact(policy, asked), abs=1e-5)  # on the grid of bfloat16
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    plain = half.model.norm.forward
    half.model.norm.forward = lambda *arguments: 1 / 0
    with pytest.raises(ZeroDivisionError):
        score(half, [asked])
    half.model.norm.forward = plain
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in half.modules())


def test_an_old_output_embedding_is_scored_beside_a_new_input_one(policy: Any, tokenizer: Any) -> None:
    assert head_name(policy) == "model.embed_tokens.weight"
    old = policy.lm_head.weight.detach().clone()
    learn(policy, 1, 1e-2)
    asked = answer(policy)
    state = plain_state(policy)
    found = score(policy, [asked], weights=state, head=old)
    assert found.tolist() != pytest.approx(exact(policy, asked), abs=1e-2)
    policy.lm_head.weight = torch.nn.Parameter(old)
    assert found.tolist() == pytest.approx(exact(policy, asked), abs=1e-5)


class Impossible(Stale):
    """Gives each token the log-prob that vLLM writes for one without a chance."""

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        await super().sample(request, on_text)
        request.logprobs = [-9999.0] * len(request.logprobs)


async def test_log_probs_of_impossible_tokens_prove_nothing(policy: Any, tmp_path: Path) -> None:
    model = Impossible(policy, tmp_path, dtype=torch.bfloat16)
    sync = TorchSync(model, probe=Probe(tolerance=1e9))
    with pytest.raises(WeightPushError, match=r"log-probs that are none \(a log-prob is not a finite number"):
        await sync.push(policy, 0)


def test_weights_are_told_apart_by_layer() -> None:
    names = ["model.embed_tokens.weight", "model.layers.0.a.weight", "model.layers.0.b.1.weight", "model.layers.11.a"]
    held: Mapping[str, Any] = dict.fromkeys(names, torch.ones(1))
    assert {name: len(layer) for name, layer in layers_of(held).items()} == {
        "model.layers.0.": 2,
        "model.layers.11.": 1,
    }
