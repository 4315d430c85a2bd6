"""One process of data-parallel training after the other: `python -m tests.rl.data_parallel FOLDER`, two processes on gloo.

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
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    mp.start_processes(main, args=(2, free, sys.argv[1]), nprocs=2, start_method="fork")
