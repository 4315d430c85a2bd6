"""How many tokens are forwarded at once: as many as the memory that is free has room for.

What a forward pass keeps for the backward pass is counted on the model itself, on a few hundred tokens, since it depends on
architecture, precision, adapters and attention. To that comes what is only there for a moment: the work of one layer, and
the logits of a chunk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..weights.causal_lm import base_model, in_evaluation

MOST = 16_384
"""Tokens of a bin beyond which nothing becomes faster."""
LEAST = 256
SHARE = 0.7
"""Share of the free memory that is counted on: the sampler, agents at work and the allocator take some too."""
_LOGIT = 20
"""Bytes of a logit while a chunk of them is scored: float32, divided by the temperature, its softmax, its gradient."""
_WORK = 3.0
"""What one layer takes at a time in the backward pass, as a multiple of what it keeps."""
_CGROUPS = Path("/sys/fs/cgroup")
_ENDLESS = 1 << 60
"""Limits from here on are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The memory of training in bytes. `kept_per_token` is what the forward pass keeps, by `layers` layers."""

    reserved: int
    """Gradients and the state of the optimizer, as far as they do not exist yet."""
    fixed: int
    """What a forward pass keeps whatever its length: weights in another precision."""
    kept_per_token: float
    layers: int
    width: int
    vocabulary: int
    logprob_chunk: int
    checkpointing: bool

    def of(self, tokens: int) -> int:
        """The most memory that training on a bin of so many tokens takes, beside what is taken already."""
        layer = self.kept_per_token / self.layers
        per_token = self.kept_per_token + _WORK * layer
        if self.checkpointing:  # each layer keeps its input, and is computed again by itself
            per_token = 4 * self.width * self.layers + (1 + _WORK) * layer
        logits = min(tokens, self.logprob_chunk) * self.vocabulary * _LOGIT
        return self.reserved + self.fixed + int(tokens * per_token) + logits

    def fitting(self, memory: int) -> int:
        """The most tokens of a bin that so much memory has room for, between LEAST and MOST."""
        low, high = LEAST, MOST
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.of(middle) <= memory else (low, middle - 1)
        return low


def cost_of(model: Any, forward: Callable[[int], Any], tokens: int, *, logprob_chunk: int, checkpointing: bool) -> Cost:
    """The cost of training a model on which `forward(n)` runs the forward pass of n rows of so many `tokens`.

    Its logits must be left out of what it keeps.
    """
    config = base_model(model).config.get_text_config()
    once, twice = (_kept(model, forward, rows) for rows in (1, 2))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    missing = [parameter for parameter in trained if parameter.grad is None]
    return Cost(
        reserved=sum(value.numel() * (8 + value.element_size()) for value in missing),
        fixed=max(0, 2 * once - twice),
        kept_per_token=max(1, twice - once) / tokens,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        logprob_chunk=logprob_chunk,
        checkpointing=checkpointing,
    )


def _kept(model: Any, forward: Callable[[int], Any], rows: int) -> int:
    """Bytes that a forward pass keeps for the backward pass, beside the model's own weights."""
    values = (getattr(value, "_local_tensor", value) for value in (*model.parameters(), *model.buffers()))  # of FSDP
    own = {value.untyped_storage().data_ptr() for value in values}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with _as_it_was(model), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward(rows)
        del result  # not before all is counted: places are used again
    return sum(kept.values())


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """Neither dropout nor its random numbers are used up; layers keep everything, without checkpointing."""
    devices = [device.index for device in {value.device for value in model.parameters()} if device.type == "cuda"]
    with in_evaluation(model), torch.random.fork_rng(devices=devices):
        yield


# -- what is free --


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    available = _available()
    limited = [free for free in (_free_of(folder) for folder in control_groups()) if free is not None]
    return min([available, *limited]) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _available(table: Path = Path("/proc/meminfo")) -> int:
    """What the machine has left, what it can give back included; half of what it has, where the system does not say."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def control_groups(root: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """The folders of the control groups that bound this process's memory, with those above them; none where there are none."""
    folders: list[Path] = []
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        number, kinds, place = line.split(":", 2)
        if number == "0" or "memory" in kinds.split(","):
            top = root if number == "0" else root / "memory"
            inside = top / place.strip("/")
            # In a container the path may be that of the host, of which only the top can be seen.
            folders += [folder for folder in (inside, *inside.parents) if folder.is_relative_to(top)]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _free_of(folder: Path) -> int | None:
    """What a control group has left: its limit less what cannot be given back; None where it has no limit."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = ((folder / name).read_text(encoding="utf-8").strip() for name in (limit, used))
            if most == "max" or int(most) >= _ENDLESS:
                return None
            stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
            return max(0, int(most) - int(now) + int(stat.get(cache, 0)))
        except (OSError, ValueError):
            continue
    return None
