"""What one needs to know of a causal language model of transformers, whatever its architecture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from recursive_agent.checkpoint import NO_LENGTH, POSITIONS


def base_model(policy: Any) -> Any:
    """The transformers model itself, without the LoRA of peft that may be around it."""
    return policy.get_base_model() if hasattr(policy, "get_base_model") else policy


def attends_fully(config: Any) -> bool:
    """Whether, by a model's configuration, every layer attends to everything before it."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not window_of(config)


def window_of(config: Any) -> int | None:
    """The tokens that the layers with a sliding window attend to; None where there is no window."""
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    return int(window) if window else None


def position_limit(policy: Any) -> int | None:
    """The positions that a model has, by its configuration; None where that names no bound."""
    config = policy.config.get_text_config()
    for name in POSITIONS:
        if isinstance(length := getattr(config, name, None), int) and length > 0:
            return length
    return None


def context_window(policy: Any, tokenizer: Any) -> int | None:
    """The most tokens that a model takes, by its configuration or its tokenizer; None where neither knows a bound."""
    if (positions := position_limit(policy)) is not None:
        return positions
    length = getattr(tokenizer, "model_max_length", None)
    return int(length) if length is not None and 0 < length < NO_LENGTH else None


def end_ids(policy: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer, wherever the model names them."""
    named: set[int] = set()
    for source in (policy.generation_config, policy.config, tokenizer):
        given = getattr(source, "eos_token_id", None)
        named.update([given] if isinstance(given, int) else given or ())
    return sorted(named)


@contextmanager
def in_evaluation(model: torch.nn.Module) -> Iterator[None]:
    """No dropout, but gradients; afterwards every module is in the mode that it was in, which need not be the model's."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """No dropout and no gradients."""
    with in_evaluation(model), torch.no_grad():
        yield
