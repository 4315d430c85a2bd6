"""Updates without the noise of training modes: before any update, a policy agrees with itself exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from rao_rl.data.rows import Sample
from rao_rl.weights.causal_lm import evaluating

from .small_steps import VOCABULARY, learn, qwen3, samples, step

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def made(model: Any, config: Any, **settings: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = model(config(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=0, pad_token_id=0, **settings))
        for value in policy.parameters():
            if value.ndim > 1:
                value.data.normal_(std=0.3)
    return policy


def attention() -> Any:
    return qwen3(attention_dropout=0.5)


def hidden() -> Any:
    """Dropout by functions, with the probability in the layer or in its configuration."""
    model, config = transformers.FalconForCausalLM, transformers.FalconConfig
    return made(model, config, hidden_dropout=0.5, attention_dropout=0.5, **{**SMALL, "ffn_hidden_size": 24})


def layers() -> Any:
    """Whole layers are left out, too."""
    more = {"ffn_dim": 24, "max_position_embeddings": 400, "word_embed_proj_dim": 16}
    model, config = transformers.OPTForCausalLM, transformers.OPTConfig
    return made(model, config, dropout=0.5, layerdrop=0.5, **{**SMALL, **more})


def router() -> Any:
    """The router of a mixture of experts is shaken."""
    more = {
        "num_local_experts": 2,
        "router_jitter_noise": 0.3,
        "num_key_value_heads": 2,
        "max_position_embeddings": 400,
    }
    return made(transformers.MixtralForCausalLM, transformers.MixtralConfig, **SMALL, **more)


def lora() -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(qwen3(), config)


def as_sampled(policy: Any, rows: Sequence[Sample]) -> list[Sample]:
    """The rows with the policy's own log-probs."""
    sampled = []
    with evaluating(policy):
        for each in rows:
            ids = torch.from_numpy(each.input_ids.astype(np.int64))[None]
            scores = torch.log_softmax(policy(input_ids=ids, use_cache=False).logits[0].float(), dim=-1)
            logprobs = np.zeros(len(each), np.float32)
            for place in np.nonzero(each.completion_mask)[0]:
                logprobs[place] = scores[place - 1, int(each.input_ids[place])]
            sampled.append(replace(each, row=replace(each.row, logprobs=logprobs)))
    return sampled


@pytest.mark.parametrize(
    ("make", "checkpointed"),
    [
        *((make, False) for make in (attention, hidden, layers, router, lora)),
        (attention, True),
        *(pytest.param(make, True, marks=pytest.mark.slow) for make in (hidden, layers, router)),
        (lora, True),
    ],
)
def test_before_any_update_a_policy_agrees_with_itself(
    make: Callable[[], Any], checkpointed: bool, tmp_path: Path
) -> None:
    policy = make()
    rows = as_sampled(policy, samples(7, 12, 5, 30))
    log = learn(
        policy, tmp_path, step(rows), padding_free=False, gradient_checkpointing=checkpointed, tokens_per_bin=20
    ).log
    assert log["sampling/importance_sampling_ratio/max"] == pytest.approx(1.0, abs=1e-4)
    assert log["sampling/sampling_logp_difference/mean"] < 1e-5


def test_checkpointing_saves_memory_all_the_same(tmp_path: Path) -> None:
    """Its layers are computed a second time, for the backward pass."""
    counts = []
    for checkpointed in (False, True):
        policy = qwen3(attention_dropout=0.5)
        calls: list[int] = []
        policy.model.layers[0].input_layernorm.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        learn(policy, tmp_path, step(samples(9)), gradient_checkpointing=checkpointed, tokens_per_bin=20)
        counts.append(len(calls))
    assert counts[1] == counts[0] + 1


def test_a_look_at_the_policy_leaves_every_module_in_its_mode() -> None:
    policy = attention()
    policy.eval()
    policy.model.layers[0].training = True  # as gradient checkpointing leaves it within a step
    modes = [module.training for module in policy.modules()]
    with evaluating(policy):
        assert not any(module.training for module in policy.modules())
    assert [module.training for module in policy.modules()] == modes
