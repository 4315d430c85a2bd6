"""Checkpoints of FSDP2 that are written while training goes on: copied to the memory of the CPU, then to disk by a thread.

The files are those that accelerate writes (SHARDED_STATE_DICT) and reads. A folder is complete when its table is there, which
is written last; `wholeness.fault_of` looks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
from torch.distributed.checkpoint.state_dict_saver import async_save
from transformers.trainer import FSDP_MODEL_NAME

from ..weights.saving import saving

_OPTIMIZER = "optimizer"


class BackgroundSaving:
    """Saves the parts of all processes, which must call its methods together. One checkpoint is under way at a time."""

    def __init__(self) -> None:
        # Two are written at once, each by a thread that needs a group of its own.
        self._groups = [torch.distributed.new_group(backend="gloo") for _ in range(2)]
        self._under_way: list[Future[Any]] = []
        self._folder = Path()

    def save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
        """Begin to save; waits for the save before, and for the copy."""
        self.wait()
        self._folder = folder
        for group, (name, state) in zip(self._groups, _parts(model, optimizer), strict=True):
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            saved: Any = async_save(dict(state), storage_writer=FileSystemWriter(place), process_group=group)
            self._under_way.append(saved)

    def wait(self) -> None:
        """Until everything is written. Raises ConfigurationError where it could not be."""
        under_way, self._under_way = self._under_way, []
        with saving(self._folder):
            for saved in under_way:
                saved.result()


def _parts(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield f"{FSDP_MODEL_NAME}_0", {"model": get_model_state_dict(model)}
    yield f"{_OPTIMIZER}_0", {_OPTIMIZER: get_optimizer_state_dict(model, optimizer)}
