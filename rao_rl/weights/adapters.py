"""LoRA: an adapter around a policy, and the policy with the adapter worked in."""

from __future__ import annotations

from typing import Any

from recursive_agent.errors import ConfigurationError

from ..config import UpdateConfig


def adapted(policy: Any, update: UpdateConfig) -> Any:
    """The policy, with a fresh LoRA adapter around it where one is to be trained."""
    if update.lora_rank is None:
        return policy
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=update.lora_rank, lora_alpha=2 * update.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    try:
        return get_peft_model(policy, config)
    except ValueError as error:  # an architecture without layers that it knows
        raise ConfigurationError(f"update.lora_rank: no adapter fits this model: {error}") from None


def merged(policy: Any) -> Any:
    """The policy with its adapter, if it has one, worked into the weights."""
    return policy.merge_and_unload() if hasattr(policy, "merge_and_unload") else policy
