"""Sampling settings that make a model sample from another distribution than its own, so that log-probs are not the policy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def number(value: Any) -> float | None:
    """A value as a number, where it is one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def narrowing(settings: Mapping[str, Any]) -> list[str]:
    """The settings that cut or bend the distribution, for messages. Temperature is not among them: it is trained with.

    A mapping within (`extra_body`, say) is looked through too.
    """
    found: list[str] = []
    for name, value in settings.items():
        if name in _HARMLESS:
            if value is not None and not _HARMLESS[name](value):
                found.append(f"top_p below 1 ({value!r})" if name == "top_p" else f"{name}={value!r}")
        elif isinstance(value, Mapping):
            found += narrowing(value)
    return found


def _is(*harmless: float) -> Callable[[Any], bool]:
    return lambda value: value is False or number(value) in harmless


def _empty(value: Any) -> bool:
    return not value


_HARMLESS: dict[str, Callable[[Any], bool]] = {
    "top_p": lambda value: (number(value) or 0.0) >= 1,
    "top_k": lambda value: (number(value) or 0.0) <= 0,
    "min_p": _is(0),
    "top_a": _is(0),
    "top_n_sigma": lambda value: (number(value) or 0.0) <= 0,
    "typical_p": _is(1),
    "epsilon_cutoff": _is(0),
    "eta_cutoff": _is(0),
    "tfs": _is(1),
    "tfs_z": _is(1),
    "repetition_penalty": _is(1),
    "repeat_penalty": _is(1),
    "presence_penalty": _is(0),
    "frequency_penalty": _is(0),
    "length_penalty": _is(1),
    "no_repeat_ngram_size": _is(0),
    "encoder_repetition_penalty": _is(1),
    "dry_multiplier": _is(0),
    "xtc_probability": _is(0),
    "mirostat": _is(0),
    "mirostat_mode": _is(0),
    "dynatemp_range": _is(0),
    "smoothing_factor": _is(0),
    "min_tokens": _is(0),
    "best_of": _is(1),
    "num_beams": _is(1),
    "use_beam_search": _empty,
    "ignore_eos": _empty,
    "logit_bias": _empty,
    "bad_words": _empty,
    "allowed_token_ids": _empty,
    "grammar": _empty,
    "guided_json": _empty,
    "guided_regex": _empty,
    "guided_choice": _empty,
    "guided_grammar": _empty,
    "structured_outputs": _empty,
    "json_schema": _empty,
    "response_format": lambda value: value in ({}, {"type": "text"}, "text"),
}
"""Setting (of vLLM, llama.cpp, transformers and OpenAI) to whether a value of it leaves the distribution as it is."""
