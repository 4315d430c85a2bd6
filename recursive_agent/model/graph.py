"""What a checkpoint must be like for the light runtime, and whether its graph still belongs to the files beside it.

A graph (`model.onnx`) holds no weights: it points at bytes of `model.safetensors`, and it computes what `config.json` said when
it was written. Whoever changes one of them by hand would have another model sampled than the one on disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GRAPH, WEIGHTS, CONFIG = "model.onnx", "model.safetensors", "config.json"
_OFFSET = re.compile(rb"\n\x06offset\x12.([0-9]{1,20})(?![0-9])", re.DOTALL)
"""Where an initializer of a graph begins in the file of weights, as protobuf writes it."""


def unlike_qwen3(config: Mapping[str, Any]) -> str | None:
    """What keeps a model out of the graph, by its `config.json`; None for a plain Qwen3 shape."""
    if config.get("model_type") != "qwen3":
        return f"a model of the type {config.get('model_type')}"
    scalings = [_mapping(config.get(name)) for name in ("rope_scaling", "rope_parameters")]
    kinds = [each.get("rope_type") or each.get("type") or "default" for each in scalings]
    kind = next((each for each in kinds if each != "default"), "default")
    windows = config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or ())
    for strange, name in (
        (config.get("attention_bias"), "biases in attention"),
        (windows, "sliding windows"),
        (kind != "default", f"positions of the kind {kind}"),
        (config.get("hidden_act", "silu") != "silu", f"the activation {config.get('hidden_act')}"),
        (config.get("quantization_config"), "quantised weights"),
    ):
        if strange:
            return name
    return None


def rope_theta(config: Mapping[str, Any]) -> float:
    """The base of the rotations, wherever a version of transformers writes it."""
    rope = _mapping(config.get("rope_parameters"))
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)


def strange_graph(folder: Path) -> str | None:
    """Why the graph in a folder is not that of its weights and configuration, as a clause; None where it is."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        offsets = {int(found) for found in _OFFSET.findall((folder / GRAPH).read_bytes())}
        begins = _begins(folder / WEIGHTS)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None  # what is missing or cannot be read is said by what needs it
    if isinstance(config, dict) and (strange := unlike_qwen3(config)) is not None:
        return f"{CONFIG} says {strange}, which the graph does not compute"
    if not offsets <= begins:
        return f"{WEIGHTS} was written anew since, in another order"
    return None


def _begins(weights: Path) -> set[int]:
    """Where the tensors of a safetensors file begin."""
    with weights.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    return {8 + size + int(entry["data_offsets"][0]) for name, entry in header.items() if name != "__metadata__"}


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
