"""One process of data-parallel training after the other: `python -m tests.train.data_parallel FOLDER`, two processes on gloo.

Forked, so that the libraries are imported once. Process 0 writes what was learnt to FOLDER/NAME.pt.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from rao_rl.config import ImitationConfig
from rao_rl.imitation.trainer import ImitationTrainer
from tests.imitation.steps import ROWS, Gradient

from .policies import make_tokenizer
from .small_steps import learn, qwen3, samples, step

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "many": ((7, 12, 5, 30, 9, 3, 21), {"tokens_per_bin": 32}),
    "three": ((7, 12, 30), {"tokens_per_bin": 30}),
    "one": ((9,), {"gradient_checkpointing": True}),
}
"""Lengths of the rows, and arguments. With `three` a process ends with an empty bin; with `one` it has no other."""


def main(rank: int, world: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    for name, (lengths, arguments) in CASES.items():
        # Process 0 makes the steps; the others are not even asked.
        steps = [step(samples(*lengths))] * 2
        model = qwen3()
        learnt = learn(model, Path(folder), *steps, ddp_backend="gloo", **arguments)
        if rank == 0:
            torch.save({**asdict(learnt), "weights": model.state_dict()}, Path(folder) / f"{name}.pt")
    imitate(rank, Path(folder))
    torch.distributed.destroy_process_group()


def imitate(rank: int, folder: Path) -> None:
    """A step of imitation, whose two batches are dealt to the processes."""
    tokenizer, model, gradient = make_tokenizer(), qwen3(), Gradient()
    settings = ImitationConfig(output_dir=str(folder), max_steps=1, max_grad_norm=0.0, bf16=False, logging_steps=1)
    trainer = ImitationTrainer(model, tokenizer, lambda number: [ROWS], settings, folder / "c", parts=1)
    trainer.add_callback(gradient)
    trainer.train()
    if rank == 0:
        (loss,) = (entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
        torch.save({"loss": loss, "gradient": gradient.of}, folder / "imitation.pt")


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    mp.start_processes(main, args=(2, free, sys.argv[1]), nprocs=2, start_method="fork")
