"""Which sampling settings change the distribution, whatever server they are for."""

from __future__ import annotations

from typing import Any

import pytest

from rao_rl.data.sampling import narrowing


@pytest.mark.parametrize(
    "settings",
    [
        {"top_p": 0.9},
        {"top_k": 20},
        {"min_p": 0.05},
        {"typical_p": 0.9},
        {"repetition_penalty": 1.1},
        {"repeat_penalty": 1.1},
        {"presence_penalty": -0.5},
        {"frequency_penalty": 0.5},
        {"logit_bias": {"5": 10}},
        {"allowed_token_ids": [1]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a+"}},
        {"min_tokens": 4},
        {"use_beam_search": True},
        {"extra_body": {"top_k": 5}},
        {"sampling": {"extra_body": {"min_p": 0.1}}},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_cuts_or_bends_is_named(settings: dict[str, Any]) -> None:
    (found,) = narrowing(settings)
    assert found.startswith(("top_", "min_", *settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"top_p": 1},
        {"top_p": None},
        {"top_k": -1},
        {"top_k": 0},
        {"min_p": 0.0},
        {"repetition_penalty": 1.0},
        {"presence_penalty": 0},
        {"logit_bias": {}},
        {"temperature": 0.7},
        {"response_format": {"type": "text"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"seed": 3, "n": 1, "user": "me"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_leaves_the_distribution_alone_is_not(settings: dict[str, Any]) -> None:
    assert narrowing(settings) == []
