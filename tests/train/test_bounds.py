"""Every numeric setting of training has bounds: a value that makes no sense is refused where it is given."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

import pytest

from rao_rl.config import Curriculum, ImitationConfig, OnlineConfig, SamplerConfig, UpdateConfig
from rao_rl.credit.assign import CreditConfig
from rao_rl.rollouts.batches import CollectConfig
from recursive_agent.errors import ConfigurationError

CONFIGS: list[Any] = [
    CollectConfig(),
    CreditConfig(),
    Curriculum(),
    ImitationConfig(output_dir="o"),
    OnlineConfig(),
    SamplerConfig(),
    UpdateConfig(),
]


def numbers(config: Any) -> list[str]:
    hints = get_type_hints(type(config))
    kinds = {name: {hint, *get_args(hint)} for name, hint in hints.items()}
    return [item.name for item in fields(config) if kinds[item.name] & {int, float}]


# The seed of a curriculum only names a stream of random numbers.
NUMBERS = [
    (config, name)
    for config in CONFIGS
    for name in numbers(config)
    if not (isinstance(config, Curriculum) and name == "seed")
]
NAMES = [f"{type(config).__name__}.{name}" for config, name in NUMBERS]


@pytest.mark.parametrize(("config", "name"), NUMBERS, ids=NAMES)
def test_no_number_may_be_negative_or_endless(config: Any, name: str) -> None:
    wrong = [math.nan, math.inf, -1.0] if float in get_args_of(config, name) else [-1]
    for value in wrong:
        with pytest.raises(ConfigurationError, match=name):
            replace(config, **{name: value})


def get_args_of(config: Any, name: str) -> set[Any]:
    hint = get_type_hints(type(config))[name]
    return {hint, *get_args(hint)}


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (UpdateConfig(), {"lora_rank": 0}),
        (UpdateConfig(), {"tokens_per_bin": 0}),
        (UpdateConfig(), {"learning_rate": 0}),
        (UpdateConfig(), {"seed": 2**32}),
        (UpdateConfig(), {"epsilon": 1.5}),
        (OnlineConfig(), {"max_steps": 0}),
        (CollectConfig(), {"timeout": 0}),
        (Curriculum(), {"difficulties": ()}),
        (Curriculum(), {"difficulties": ("easy", "impossible")}),
        (ImitationConfig(output_dir="o"), {"decay": 2}),
    ],
)
def test_what_lies_out_of_range_is_refused(config: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        replace(config, **change)


def test_a_refusal_names_the_setting_the_bound_and_the_value() -> None:
    with pytest.raises(ConfigurationError, match="lora_rank must be at least 1, not 0"):
        UpdateConfig(lora_rank=0)
