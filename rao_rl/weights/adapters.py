"""LoRA: an adapter around a policy, and the policy with the adapter worked in."""

from __future__ import annotations

from typing import Any

import torch

from recursive_agent.errors import ConfigurationError

from ..config import ImitationSettings, UpdateConfig
from ..processes import spreads_weights
from .hardware import multiplies_bf16


def uses_bf16(update: UpdateConfig | ImitationSettings) -> bool:
    """Whether updates are computed in bfloat16."""
    return multiplies_bf16() if update.bf16 is None else update.bf16


def halves_base(update: UpdateConfig | ImitationSettings) -> bool:
    """Whether the weights that an adapter leaves as they are are kept in bfloat16: they are computed with in it anyway.

    Not with FSDP, which wants one dtype for all.
    """
    return update.lora_rank is not None and uses_bf16(update) and not spreads_weights()


def adapted(policy: Any, update: UpdateConfig | ImitationSettings) -> Any:
    """The policy, with a fresh LoRA adapter around it where one is to be trained: in float32, around a base in bfloat16.

    The adapter is drawn by the seed of the settings, alike in all processes. The base stays in float32 where updates are not
    computed in bfloat16.
    """
    if update.lora_rank is None:
        return policy
    width = int(getattr(policy.config.get_text_config(), "hidden_size", update.lora_rank))
    if update.lora_rank > width:
        raise ConfigurationError(f"lora_rank must be at most {width}, the width of this model, not {update.lora_rank}")
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=update.lora_rank, lora_alpha=2 * update.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(update.seed)
            policy = get_peft_model(policy, config)
    except ValueError as error:  # an architecture without layers that it knows
        raise ConfigurationError(f"lora_rank: no adapter fits this model: {error}") from None
    for parameter in policy.parameters():  # buffers, such as the frequencies of the positions, stay exact
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
        elif halves_base(update) and parameter.is_floating_point():
            parameter.data = parameter.data.bfloat16()
    return policy


def merged(policy: Any) -> Any:
    """The policy with its adapter, if it has one, worked into the weights, in float32.

    In bfloat16 most of what an adapter adds would be rounded away. Weights in half precision move to the CPU for it, since
    the GPU may have no room for twice their size.
    """
    if not hasattr(policy, "merge_and_unload"):
        return policy
    half = [value for value in policy.parameters() if value.is_floating_point() and value.dtype != torch.float32]
    if half:
        policy = policy.to("cpu")
    for parameter in half:
        parameter.data = parameter.data.float()
    return policy.merge_and_unload()
