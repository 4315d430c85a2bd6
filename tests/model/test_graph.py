"""The light runtime samples from the model that is on disk, or refuses it by the name of what differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel
from recursive_agent.model.graph import rope_theta, unlike_qwen3

PLAIN: dict[str, Any] = {"model_type": "qwen3", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"model_type": "llama"}, "llama"),
        *(
            ({"rope_parameters": {"rope_type": kind}}, kind)
            for kind in ("linear", "dynamic", "yarn", "llama3", "longrope")
        ),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "positions of the kind linear"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "rope_parameters": None}, "positions of the kind yarn"),
        ({"attention_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "activation gelu"),
        ({"use_sliding_window": True, "sliding_window": 8}, "sliding windows"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding windows"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
    ],
)
def test_what_the_graph_does_not_compute_is_named(more: dict[str, Any], name: str) -> None:
    assert unlike_qwen3(PLAIN) is None
    assert name in str(unlike_qwen3({**PLAIN, **more}))


def test_the_base_of_the_rotations_is_read_wherever_it_stands() -> None:
    assert [rope_theta(each) for each in (PLAIN, {"rope_theta": 5e5}, {})] == [1e6, 5e5, 1e4]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "policy"))


def change(path: Path, **more: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def test_positions_that_are_scaled_after_the_graph_was_written_are_refused(policy: Path) -> None:
    EmbeddedModel(policy)
    change(policy / "config.json", rope_scaling={"rope_type": "yarn", "factor": 4.0})
    with pytest.raises(
        ConfigurationError, match=r"not the graph of this checkpoint: config\.json says positions of the kind yarn"
    ):
        EmbeddedModel(policy)


def test_weights_that_were_written_in_another_order_are_refused(policy: Path) -> None:
    path = policy / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = {"written": "by another program"}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(ConfigurationError, match=r"model\.safetensors was written anew since, in another order"):
        EmbeddedModel(policy)


def test_without_a_graph_the_reason_is_named(policy: Path) -> None:
    (policy / "model.onnx").unlink()
    change(policy / "config.json", rope_parameters={"rope_type": "llama3", "rope_theta": 1e4})
    with pytest.raises(ConfigurationError, match="a qwen3 model with positions of the kind llama3"):
        EmbeddedModel(policy)


@pytest.mark.parametrize(
    ("settings", "positions", "window"), [(4096, 2048, 2048), (512, 2048, 512), (None, 1024, 1024)]
)
def test_the_window_is_never_longer_than_the_positions(
    settings: int | None, positions: int, window: int, policy: Path
) -> None:
    change(policy / "agent.json", context_length=settings)
    change(policy / "config.json", max_position_embeddings=positions)
    assert EmbeddedModel(policy).window == window


def test_a_model_without_a_position_limit_needs_a_window(policy: Path) -> None:
    change(policy / "agent.json", context_length=None)
    change(policy / "config.json", max_position_embeddings=None)
    assert EmbeddedModel(policy).window == 2048  # of the tokenizer
    change(policy / "tokenizer_config.json", model_max_length=None)
    with pytest.raises(ConfigurationError, match=r"set context_length in its agent\.json"):
        EmbeddedModel(policy)
    change(policy / "agent.json", context_length=300)
    assert EmbeddedModel(policy).window == 300
