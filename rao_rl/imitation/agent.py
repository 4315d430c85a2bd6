"""What a trained checkpoint says of itself: how its agent is prompted and sampled (`agent.json`); and the learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from recursive_agent.checkpoint import FILE_NAME, CheckpointSettings, EnvironmentSettings

from ..config import ImitationSettings
from ..weights.causal_lm import base_model
from .prompting import Prompting

TEMPERATURE = 0.5
"""Sampling temperature of a model that has none of its own: imitation makes sure of what it writes."""
MAX_TOKENS = 512
"""Most tokens of an answer; twice the longest one that was learnt, where that is more."""
_SMALL, _LARGE = 20_000_000, 1_000_000_000
"""Parameters up to which a policy is small, and from which on it is large."""


def learning_rate(policy: Any, config: ImitationSettings, *, scratch: bool) -> float:
    """The learning rate of a run: as set, else what suits the model."""
    if config.learning_rate is not None:
        return config.learning_rate
    if scratch:  # what is learnt from nothing takes longer steps than what is only adjusted
        return 2e-3
    if config.lora_rank is not None:
        return 2e-4
    size = sum(value.numel() for value in base_model(policy).parameters())
    return 5e-4 if size < _SMALL else 1e-4 if size < _LARGE else 2e-5


def own_settings(model: str | Path | None) -> CheckpointSettings | None:
    """The `agent.json` of a model; None where it has none."""
    return CheckpointSettings.load(model) if model is not None and (Path(model) / FILE_NAME).is_file() else None


def prompting_of(config: ImitationSettings, model: str | Path | None) -> Prompting:
    """How a model is prompted: as set, else as its `agent.json` says, else in the minimal style."""
    own = own_settings(model)
    written = own.action_format if own is not None and own.action_format != "tool" else "fenced"
    style = own.prompt_style if own is not None else "minimal"
    return Prompting(config.prompt_style or style, config.action_format or written)


def prompting_asked(config: ImitationSettings, model: str | Path) -> Prompting | None:
    """The style to write recorded conversations in: as set, or that of a model in the minimal style; None: as they are."""
    own = own_settings(model)
    own_is_minimal = own is not None and own.prompt_style == "minimal" and own.action_format != "tool"
    asked = config.prompt_style or config.action_format or own_is_minimal
    return prompting_of(config, model) if asked else None


def agent_settings(
    settings: CheckpointSettings,
    prompting: Prompting,
    *,
    own: bool,
    temperature: float | None,
    window: int | None,
    longest: int,
    environment: EnvironmentSettings | None,
) -> CheckpointSettings:
    """`agent.json` of the trained model. `longest` is the longest answer it has learnt, in tokens.

    `own`: the model had an `agent.json` before. Without one, how a chat model is sampled (top_p, say) is not kept: it is no
    longer that model, and reinforcement learning needs all tokens.
    """
    sampling = {name: value for name, value in settings.sampling.items() if own or name == "stop"}
    if temperature is not None:
        sampling["temperature"] = temperature
    sampling.setdefault("temperature", TEMPERATURE)
    sampling["max_tokens"] = max(sampling.get("max_tokens") or MAX_TOKENS, 2 * longest)
    lengths = [length for length in (settings.context_length, window) if length]
    return settings.model_copy(
        update={
            "prompt_style": prompting.style,
            "action_format": prompting.action_format,
            "context_length": min(lengths, default=None),
            "sampling": sampling,
            "environment": environment or settings.environment,
        }
    )


def forget_sampling(policy: Any) -> None:
    """Leave only tokens in the generation configuration: how a trained model is sampled stands in its `agent.json`.

    The repetition penalty or top_k of a chat model, which servers take from there, would change what it has learnt to write.
    """
    before = policy.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    kept = {name: getattr(before, name, None) for name in names}
    base_model(policy).generation_config = transformers.GenerationConfig(do_sample=True, **kept)  # type: ignore[no-untyped-call]
