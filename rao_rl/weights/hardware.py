"""The device that a policy is trained on, and what it can do."""

from __future__ import annotations

import os

import torch

_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Instructions of x86 and ARM that multiply bfloat16 numbers, by torch's names."""


def training_device() -> torch.device:
    """The device that this process trains on: its own GPU where there are any, else the CPU."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else CPU


def multiplies_bf16(device: torch.device | None = None) -> bool:
    """Whether bfloat16 matrices are worth using on a device (default: `training_device()`).

    They are on every GPU, and on processors with instructions for them; on others they are emulated, slower than float32.
    """
    if (device or training_device()).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in _CPU_BF16)


CPU = torch.device("cpu")
