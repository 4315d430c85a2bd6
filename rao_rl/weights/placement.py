"""Where a checkpoint is sampled in this process, and in which number format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from recursive_agent.checkpoint import text_config

from .hardware import multiplies_bf16

_FLOAT32_BYTES = 2 << 30
"""Float32 weights of up to so many bytes stay float32 on a GPU too, as in `rao serve` with vLLM."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and a number format."""

    device: torch.device
    dtype: torch.dtype

    def __str__(self) -> str:
        """For people."""
        place = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "the CPU"
        return f"{str(self.dtype).removeprefix('torch.')} on {place}"


def placement(directory: str | Path) -> Placement:
    """A GPU if there is one, in bfloat16; on a CPU bfloat16 if the checkpoint has 16 bits and the processor multiplies them.

    Small float32 checkpoints stay float32 on both.
    """
    config = text_config(directory)
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    size = sum(path.stat().st_size for path in Path(directory).glob("*.safetensors"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if stored == "float32" and (device.type == "cpu" or size <= _FLOAT32_BYTES):
        return Placement(device, torch.float32)
    if device.type == "cuda":
        fits = torch.cuda.is_bf16_supported(including_emulation=False)  # what emulates it is better off with float16
        return Placement(device, torch.bfloat16 if fits else torch.float16)
    return Placement(device, torch.bfloat16 if multiplies_bf16(device) else torch.float32)
