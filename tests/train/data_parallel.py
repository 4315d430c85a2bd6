"""Training on two processes (gloo): `python -m tests.train.data_parallel FOLDER START [NAME…]`, from a checkpoint.

Forked, so that the libraries are imported once. Process 0 writes what was learnt to FOLDER/NAME.pt, each process how its runs
ended to FOLDER/RANK.json. Both kinds of sharing are tried, DDP and FSDP2, by accelerate's own variables; accelerate (1.15)
takes FSDP on accelerators only, so it is made to believe that the CPU is one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from accelerate import PartialState
from accelerate.utils import DistributedType

from rao_rl.config import ImitationConfig
from rao_rl.imitation.trainer import ImitationTrainer
from rao_rl.train.trainer import Step
from rao_rl.weights.sharded import full_weights
from recursive_agent.errors import RaoError
from tests.imitation.steps import ROWS, Gradient

from .online_runs import OF_KIND, RUNS, lost
from .policies import make_tokenizer
from .small_steps import learn, llama, near, qwen3, samples, step

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "many": ((7, 12, 5, 30, 9, 3, 21), {"tokens_per_bin": 32}),
    "three": ((7, 12, 30), {"tokens_per_bin": 30}),
    "one": ((9,), {"gradient_checkpointing": True}),
    "synced": ((7, 12, 5, 30, 9, 3, 21), {"tokens_per_bin": 32, "sync_every_bin": True}),
    "corrected": (
        (7, 12, 5, 30, 9),
        {
            "tokens_per_bin": 32,
            "num_iterations": 2,
            "old_logprobs": "trainer",
            "importance_sampling_mode": "sequence_truncate",
            "importance_sampling_clip_max": 1e3,
        },
    ),
}
"""Lengths of the rows, and arguments. With `three` a process ends with an empty bin; with `one` it has no other. With
`corrected` all rows are one node, whose importance weight no process knows alone."""
CASES_MODELS: dict[str, Callable[[], Any]] = {"three": llama}
"""Of the cases with another model than `qwen3`: this one has tied embeddings."""


def made(name: str) -> Step:
    """The step of a case."""
    rows = samples(*CASES[name][0])
    return step(near(qwen3(), rows) if name == "corrected" else rows)


KINDS = ("ddp", "fsdp")
_FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}


def main(rank: int, world: int, port: int, folder: str, start: str, *names: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    ends: dict[str, str] = {}
    for kind in KINDS:
        if kind == "fsdp":
            os.environ |= _FSDP
            believe_in_accelerators()
        for name, (_, arguments) in CASES.items():
            if names and f"{kind}-{name}" not in names:
                continue
            # Process 0 makes the steps; the others are not even asked.
            steps = [made(name)] * 2
            model = CASES_MODELS.get(name, qwen3)()
            learnt = learn(model, Path(folder), *steps, ddp_backend="gloo", **arguments)
            weights = dict(full_weights(model))
            if rank == 0:
                torch.save({**asdict(learnt), "weights": weights}, Path(folder) / f"{kind}-{name}.pt")
        if kind == "ddp" and not names:
            imitate(rank, Path(folder))
        for name in OF_KIND[kind]:
            if names and f"{kind}-{name}" not in names:
                continue
            try:
                RUNS[name](Path(folder) / f"{kind}-{name}", Path(start))
                ends[f"{kind}-{name}"] = "done"
            except RaoError as error:
                ends[f"{kind}-{name}"] = f"{type(error).__name__}: {error}"
    written = Path(folder) / f"{rank}.json"
    written.write_text(json.dumps(ends))
    try:
        lost(Path(folder) / "lost", Path(start))  # in which process 0 dies
    except RaoError as error:
        written.write_text(json.dumps({**ends, "lost": f"{type(error).__name__}: {error}"}))


def believe_in_accelerators() -> None:
    plain = PartialState.__init__

    def made(self: Any, *arguments: Any, **options: Any) -> None:
        plain(self, *arguments, **options)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = made  # type: ignore[method-assign]


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
    mp.start_processes(main, args=(2, free, *sys.argv[1:]), nprocs=2, start_method="fork")
