"""What an answer cost, as the endpoint states it, believed as far as it can be true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..usage import Usage

MOST_TOKENS = 10**9
"""More tokens than one call can have."""
_LONGEST_TOKEN = 1024
"""Bytes of text that one token stands for at the most: far above the longest of any vocabulary (runs of blanks)."""


@dataclass(frozen=True, slots=True)
class Stated:
    """Tokens as stated; None where a number is missing or cannot be one."""

    prompt: int | None
    completion: int | None
    cached: int
    impossible: bool
    """Whether a number was there that cannot be true."""


def reported_usage(body: Mapping[str, Any]) -> Usage | None:
    """The usage of an answer as the endpoint states it; None where it states none (or nonsense)."""
    stated = _stated(body.get("usage"))
    if stated is None or stated.prompt is None or stated.impossible:
        return None
    return Usage(
        calls=1,
        prompt_tokens=stated.prompt,
        completion_tokens=stated.completion or 0,
        cached_tokens=min(stated.cached, stated.prompt),
    )


def billed(body: Mapping[str, Any], *, prompt_bytes: int, answer_bytes: int, bound: int) -> Usage:
    """What a call counts as: what is stated, and never less than the texts themselves must have cost.

    `bound` is the most that it can have cost: where the statement is missing or cannot be true, what lies between is
    unconfirmed.
    """
    least_prompt, least_answer = least_tokens(prompt_bytes), least_tokens(answer_bytes)
    usage = reported_usage(body)
    if usage is not None and usage.prompt_tokens >= least_prompt and usage.completion_tokens >= least_answer:
        return usage
    if not isinstance(body.get("usage"), dict) or not body["usage"]:
        return Usage(calls=1, unconfirmed=bound)
    prompt = max(least_prompt, usage.prompt_tokens if usage is not None else 0)
    answer = max(least_answer, usage.completion_tokens if usage is not None else 0)
    counted = Usage(calls=1, prompt_tokens=prompt, completion_tokens=answer)
    return replace(counted, unconfirmed=max(0, bound - counted.total_tokens))


def least_tokens(size: int) -> int:
    """The fewest tokens that so many bytes of text can be."""
    return -(-size // _LONGEST_TOKEN)


def _stated(usage: Any) -> Stated | None:
    if not isinstance(usage, dict):
        return None
    names = ("prompt_tokens", "input_tokens", "promptTokenCount"), ("completion_tokens", "output_tokens")
    prompt, completion = (_first(usage, group) for group in names)
    total = _count(usage.get("total_tokens"))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    if cached is None:
        cached = _first(usage, ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens"))
    impossible = any(
        isinstance(usage.get(name), int | float) and _count(usage[name]) is None for name in (*names[0], *names[1])
    )
    cached = cached or 0
    if prompt is None and completion is not None and total is not None and total >= completion:
        prompt = total - completion
    spare = 0 if total is None or prompt is None else total - prompt - (completion or 0)
    if prompt is not None and spare > 0:
        if cached > prompt and spare >= cached:  # Anthropic's way: what was cached is counted apart
            prompt, spare = prompt + cached, spare - cached
        # xAI's and Gemini's way: what was thought is counted in the total only.
        completion = (completion or 0) + spare
    thought = usage.get("completion_tokens_details")
    reasoning = _count(thought.get("reasoning_tokens")) if isinstance(thought, dict) else None
    if reasoning is not None and completion is not None and reasoning > completion:
        completion += reasoning
    return Stated(prompt, completion, cached, impossible)


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := _count(usage.get(name))) is not None), None)


def _count(value: Any) -> int | None:
    """A number of tokens, None for what cannot be one."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        return None
    return value
