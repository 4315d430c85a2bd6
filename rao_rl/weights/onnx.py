"""A checkpoint's forward pass as an ONNX graph that reads its weights out of `model.safetensors`.

The graph holds no weight itself: every initializer points, as external data, at the bytes of a tensor in the safetensors
file beside it. One artefact serves vLLM, transformers and the embedded runtime.

    input_ids       int64 [B, S]        new tokens, right-padded
    past_lengths    int64 [B]           tokens of each row that the cache holds
    logits_at       int64 [M]           positions in the flattened [B·S] whose logits are wanted
    past_key.i      float [B, K, P, D]  cache of layer i, of which the first past_lengths[b] positions count
    past_value.i
    → logits        float [M, V]
    → key.i         float [B, K, S, D]  of the new tokens; the caller writes them into its cache
    → value.i
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.graph import GRAPH, WEIGHTS, rope_theta, unlike_qwen3

OPSET = 23
_DTYPES = {"F32": TensorProto.FLOAT}
_MASKED = -1e9


def export_onnx(directory: str | Path) -> Path:
    """Write `directory/model.onnx` for the Qwen3-shaped float32 checkpoint in `directory`.

    Raises ConfigurationError for another architecture, for another dtype and for a checkpoint in several files.
    """
    folder = Path(directory)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if strange := unlike_qwen3(config):
        raise ConfigurationError(f"{folder}: only plain Qwen3-shaped policies can be exported, not {strange}")
    if not (folder / WEIGHTS).is_file():
        raise ConfigurationError(f"{folder} has no {WEIGHTS}: the weights must be in one file")
    graph = _Graph(config, _weights(folder / WEIGHTS)).build()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rao", ir_version=11)
    path = folder / GRAPH
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))
    return path


def _weights(path: Path) -> dict[str, TensorProto]:
    """A TensorProto for each tensor of a safetensors file that refers to its bytes there."""
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_size))
    tensors: dict[str, TensorProto] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise ConfigurationError(f"{path}: {name} is {entry['dtype']}; only F32 weights can be exported")
        begin, end = entry["data_offsets"]
        tensor = TensorProto(
            name=name,
            dims=entry["shape"],
            data_type=_DTYPES[entry["dtype"]],
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", path.name), ("offset", 8 + header_size + begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(value))
        tensors[name] = tensor
    return tensors


class _Graph:
    """Builds the graph node by node; every method takes and returns names of values."""

    def __init__(self, config: dict[str, Any], weights: dict[str, TensorProto]) -> None:
        self.width = config["hidden_size"]
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.head_width = config["head_dim"]
        self.epsilon = config["rms_norm_eps"]
        self.vocabulary = config["vocab_size"]
        self.theta = rope_theta(config)
        self.head = "model.embed_tokens.weight" if config.get("tie_word_embeddings") else "lm_head.weight"
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, TensorProto] = {}

    def build(self) -> Any:
        """The whole graph."""
        self._positions()
        hidden = self.op("Gather", "model.embed_tokens.weight", self.op("Reshape", "input_ids", self.ints(-1)))
        for layer in range(self.layers):
            hidden = self._layer(hidden, layer)
        wanted = self.norm(self.op("Gather", hidden, "logits_at"), "model.norm.weight")
        self.op("Gemm", wanted, self.head, outputs=["logits"], transB=1)
        cache = ["B", self.kv_heads, "P", self.head_width]
        new = ["B", self.kv_heads, "S", self.head_width]
        floats, integers = TensorProto.FLOAT, TensorProto.INT64
        value = helper.make_tensor_value_info
        used = {name for node in self.nodes for name in node.input}
        return helper.make_graph(
            self.nodes,
            "policy",
            [
                value("input_ids", integers, ["B", "S"]),
                value("past_lengths", integers, ["B"]),
                value("logits_at", integers, ["M"]),
                *[value(f"past_{kind}.{i}", floats, cache) for i in range(self.layers) for kind in ("key", "value")],
            ],
            [
                value("logits", floats, ["M", self.vocabulary]),
                *[value(f"{kind}.{i}", floats, new) for i in range(self.layers) for kind in ("key", "value")],
            ],
            initializer=[*self.constants.values(), *[t for name, t in self.weights.items() if name in used]],
        )

    def _positions(self) -> None:
        """What all layers share: sizes, the rotations of each position and the masks over past and new tokens."""
        shape = self.op("Shape", "input_ids")
        self.batch = self.op("Gather", shape, self.ints(0))
        self.length = self.op("Gather", shape, self.ints(1))
        steps = self.op("Range", self.scalar(0), self.op("Squeeze", self.length), self.scalar(1))
        past = self.op("Unsqueeze", "past_lengths", self.ints(1))
        positions = self.op("Cast", self.op("Add", past, steps), to=TensorProto.FLOAT)
        half = np.arange(0, self.head_width, 2, dtype=np.float32) / self.head_width
        frequencies = self.constant((1.0 / self.theta**half).astype(np.float32))
        angles = self.op("Mul", self.op("Unsqueeze", positions, self.ints(2)), frequencies)
        self.cos, self.sin = self.op("Cos", angles), self.op("Sin", angles)
        capacity = self.op("Squeeze", self.op("Gather", self.op("Shape", "past_key.0"), self.ints(2)))
        slots = self.op("Range", self.scalar(0), capacity, self.scalar(1))
        # Shapes [B, 1, 1, 1, P] and [S, S], broadcast over scores of [B, K, G, S, P] and [B, K, G, S, S].
        self.past_mask = self.op("Unsqueeze", self.mask(self.op("Less", slots, past)), self.ints(1, 2, 3))
        self.new_mask = self.mask(self.op("LessOrEqual", steps, self.op("Unsqueeze", steps, self.ints(1))))

    def _layer(self, hidden: str, layer: int) -> str:
        prefix = f"model.layers.{layer}."
        normed = self.norm(hidden, prefix + "input_layernorm.weight")
        query = self._heads(normed, prefix + "self_attn.q", self.heads)
        key = self._heads(normed, prefix + "self_attn.k", self.kv_heads, output=f"key.{layer}")
        value = self.split(self.linear(normed, prefix + "self_attn.v_proj.weight"), self.kv_heads)
        value = self.op("Transpose", value, perm=[0, 2, 1, 3], outputs=[f"value.{layer}"])
        attended = self._attend(query, key, value, layer)
        hidden = self.op("Add", hidden, self.linear(attended, prefix + "self_attn.o_proj.weight"))
        normed = self.norm(hidden, prefix + "post_attention_layernorm.weight")
        gate = self.linear(normed, prefix + "mlp.gate_proj.weight")
        gate = self.op("Mul", gate, self.op("Sigmoid", gate))
        inner = self.op("Mul", gate, self.linear(normed, prefix + "mlp.up_proj.weight"))
        return self.op("Add", hidden, self.linear(inner, prefix + "mlp.down_proj.weight"))

    def _heads(self, hidden: str, prefix: str, heads: int, output: str | None = None) -> str:
        """Project, normalise and rotate: [B·S, width] → [B, heads, S, D]."""
        split = self.norm(self.split(self.linear(hidden, prefix + "_proj.weight"), heads), prefix + "_norm.weight")
        turned = self.op("Transpose", split, perm=[0, 2, 1, 3])
        return self.op("RotaryEmbedding", turned, self.cos, self.sin, outputs=[output] if output else None)

    def _attend(self, query: str, key: str, value: str, layer: int) -> str:
        """Attention over the cache and the new tokens in one softmax, without joining the two: [B·S, heads·D]."""
        group = self.heads // self.kv_heads
        # The queries that share a key head stand behind each other: [B, K, G·S, D].
        grouped = self.op("Concat", self.batch, self.ints(self.kv_heads, -1, self.head_width), axis=0)
        query = self.op("Reshape", query, grouped)
        scale = self.constant(np.float32(self.head_width**-0.5))
        query = self.op("Mul", query, scale)
        scores = []
        for keys, mask in ((f"past_key.{layer}", self.past_mask), (key, self.new_mask)):
            raw = self.op("MatMul", query, self.op("Transpose", keys, perm=[0, 1, 3, 2]))
            size = self.op("Gather", self.op("Shape", keys), self.ints(2))
            shape = self.op("Concat", self.batch, self.ints(self.kv_heads, group), self.length, size, axis=0)
            scores.append((self.op("Add", self.op("Reshape", raw, shape, allowzero=1), mask), size))
        both = self.op("Softmax", self.op("Concat", *[score for score, _ in scores], axis=-1), axis=-1)
        flat = self.op(
            "Concat", self.batch, self.ints(self.kv_heads, -1), self.op("Add", scores[0][1], scores[1][1]), axis=0
        )
        both = self.op("Reshape", both, flat)
        sizes = self.op("Concat", scores[0][1], scores[1][1], axis=0)
        parts = [f"weights_past.{layer}", f"weights_new.{layer}"]
        self.op("Split", both, sizes, outputs=parts, axis=-1)
        summed = self.op("Add", self.op("MatMul", parts[0], f"past_value.{layer}"), self.op("MatMul", parts[1], value))
        shape = self.op("Concat", self.batch, self.ints(self.heads), self.length, self.ints(self.head_width), axis=0)
        turned = self.op("Transpose", self.op("Reshape", summed, shape), perm=[0, 2, 1, 3])
        return self.op("Reshape", turned, self.ints(-1, self.heads * self.head_width))

    def op(self, kind: str, *inputs: str, outputs: list[str] | None = None, **attributes: Any) -> str:
        """Add a node; its first output."""
        names = outputs or [f"v{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def linear(self, hidden: str, weight: str) -> str:
        """[N, in] → [N, out] with a weight stored as [out, in]."""
        return self.op("Gemm", hidden, weight, transB=1)

    def norm(self, hidden: str, weight: str) -> str:
        """RMS norm over the last axis."""
        return self.op("RMSNormalization", hidden, weight, axis=-1, epsilon=self.epsilon)

    def split(self, hidden: str, heads: int) -> str:
        """[B·S, heads·D] → [B, S, heads, D]."""
        sizes = self.op("Concat", self.batch, self.length, self.ints(heads, self.head_width), axis=0)
        return self.op("Reshape", hidden, sizes)

    def mask(self, allowed: str) -> str:
        """0 where allowed, a large negative number elsewhere."""
        return self.op("Where", allowed, self.constant(np.float32(0)), self.constant(np.float32(_MASKED)))

    def ints(self, *values: int) -> str:
        """A constant vector of integers."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: int) -> str:
        """A constant integer."""
        return self.constant(np.array(value, np.int64))

    def constant(self, array: Any) -> str:
        """A small constant, stored once."""
        array = np.asarray(array)
        name = f"c.{array.dtype}.{'x'.join(map(str, array.shape))}.{array.tobytes().hex()[:600]}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name
