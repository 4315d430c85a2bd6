"""The files of a checkpoint, a policy's weights by name, and safetensors files written again in place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.graph import WEIGHTS

INDEX = WEIGHTS + ".index.json"
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def plain_state(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The policy's weights under transformers' own names, a LoRA of peft added in. Nothing is copied that need not be."""
    get_base: Any = getattr(policy, "get_base_model", None)
    if get_base is None:
        return dict(policy.state_dict())
    base: torch.nn.Module = get_base()
    modules = dict(base.named_modules())
    state: dict[str, torch.Tensor] = {}
    for name, tensor in base.state_dict().items():
        if ".lora_" in name or ".original_module." in name:
            continue
        if ".base_layer." in name:
            owner, _, kind = name.partition(".base_layer.")
            layer: Any = modules[owner]
            deltas = [layer.get_delta_weight(adapter) for adapter in layer.active_adapters] if kind == "weight" else []
            state[f"{owner}.{kind}"] = sum((delta.detach() for delta in deltas), tensor)
        elif ".modules_to_save." in name:
            owner, _, kind = name.partition(".modules_to_save.")
            state[f"{owner}.{kind.partition('.')[2]}"] = tensor
        else:
            state[name] = tensor
    return state


def read_checkpoint(directory: str | Path) -> dict[str, torch.Tensor]:
    """The weights in all files of a checkpoint directory."""
    folder = Path(directory)
    try:
        return {name: value for path in _files(folder) for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"{folder} cannot be read: {error}") from None


def rewrite_checkpoint(directory: str | Path, state: Mapping[str, torch.Tensor]) -> None:
    """`rewrite_weights` for all files of a checkpoint directory, however many the weights are spread over."""
    folder = Path(directory)
    try:
        _rewrite(_files(folder), state)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be rewritten: {error}") from None


def _files(folder: Path) -> list[Path]:
    """The files that the weights of a checkpoint are spread over."""
    names = {WEIGHTS}
    if (folder / INDEX).is_file():
        names = set(json.loads((folder / INDEX).read_bytes())["weight_map"].values())
    return [folder / name for name in sorted(names)]


def rewrite_weights(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Replace the numbers in a safetensors file, at once and with the same layout: names, dtypes and offsets stay.

    Raises ConfigurationError, with the file as it was, where `state` has other tensors or shapes than the file.
    """
    _rewrite([path], state)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The head of a safetensors file, and its entries in the order of their bytes."""

    path: Path
    head: bytes
    entries: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> _Layout:
        with path.open("rb") as file:
            size = file.read(8)
            header = file.read(int.from_bytes(size, "little"))
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        ordered = sorted(entries.items(), key=lambda item: int(item[1]["data_offsets"][0]))
        return cls(path, size + header, dict(ordered))


def _rewrite(paths: Sequence[Path], state: Mapping[str, torch.Tensor]) -> None:
    layouts = [_Layout.read(path) for path in paths]
    held = {name for layout in layouts for name in layout.entries}
    known = {state[name].data_ptr() for name in held if name in state}
    # A tied weight has two names and stands in the file under one.
    if strange := [name for name in state if name not in held and state[name].data_ptr() not in known]:
        raise ConfigurationError(f"{paths[0]} has no {strange[0]}, which the policy has: they are of different shapes")
    for layout in layouts:
        for name, entry in layout.entries.items():
            tensor = state.get(name)
            if tensor is None or list(tensor.shape) != entry["shape"] or entry["dtype"] not in _DTYPES:
                have = "nothing" if tensor is None else f"{list(tensor.shape)}"
                raise ConfigurationError(
                    f"{layout.path} holds {name} as {entry['dtype']} {entry['shape']}, the policy {have}"
                )
    scratches = [layout.path.with_suffix(".partial") for layout in layouts]
    for layout, scratch in zip(layouts, scratches, strict=True):
        with scratch.open("wb") as file:
            file.write(layout.head)
            for name, entry in layout.entries.items():
                plain = state[name].detach().to("cpu", _DTYPES[entry["dtype"]]).contiguous()
                file.write(plain.view(torch.uint8).numpy().data)  # numpy has no bfloat16
        scratch.chmod(0o644)
    for layout, scratch in zip(layouts, scratches, strict=True):
        scratch.replace(layout.path)
