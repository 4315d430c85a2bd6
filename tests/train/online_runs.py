"""Runs that one process and two must end alike: `RUNS`, by name, each from a checkpoint into a folder."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from rao_rl.config import OnlineConfig, UpdateConfig
from rao_rl.credit.config import CreditConfig
from rao_rl.data.folder import read_groups
from rao_rl.errors import RolloutsFailed
from rao_rl.rollouts.batches import CollectConfig
from rao_rl.rollouts.flow import Flow
from rao_rl.train.run import train_offline, train_online
from rao_rl.train.trainer import RaoTrainer

from ..data.token_trees import token_events, turn
from ..data.trees import write
from ..envs.coins import COLLECT, Coins


def train(folder: Path, start: Path, *, steps: int = 3, resume: bool = False, **update: Any) -> None:
    """A short run, whose calls follow each other, so that the same weights give the same samples."""
    environment = Coins()
    train_online(
        folder,
        start,
        environment,
        collect=CollectConfig(**{**COLLECT, "max_in_flight": 1}),
        credit=CreditConfig(),
        update=UpdateConfig(**{"learning_rate": 1e-3, "warmup_steps": 0, "bf16": False, "save_steps": 2, **update}),
        online=OnlineConfig(max_steps=steps, eval_every=2, eval_concurrency=1),
        eval_tasks=list(environment.tasks("test", limit=1)),
        resume=resume,
    )


def plain(folder: Path, start: Path) -> None:
    """With SGD: AdamW moves a weight whose gradient is next to nothing as far as any other."""
    train(folder, start, optim="sgd", learning_rate=0.05)


def resumed(folder: Path, start: Path) -> None:
    """A run that ends early, and is made longer. Its checkpoints are written in the background, with FSDP."""
    train(folder, start, steps=2, async_save=True, save_steps=1)
    train(folder, start, resume=True, async_save=True, save_steps=1)


def adapter(folder: Path, start: Path) -> None:
    train(folder, start, lora_rank=2)


def record(start: Path) -> None:
    """Attempts at four tasks, beside the checkpoint, for `offline`."""
    for group, good in itertools.product(range(4), (True, False)):
        turns = [turn([1, 2, 10 + group], [4, 5] if good else [6, 7, 8])]
        events = token_events(turns, run=f"{group}/{good}", group=f"g{group}", scores=(float(good),))
        write(start / "traces" / f"{group}-{good}.jsonl", events)


def offline(folder: Path, start: Path) -> None:
    """On recorded attempts, in two rounds, of which the first is interrupted."""

    def learn(output: Path, model: Path, **more: Any) -> None:
        recorded = read_groups(start / "traces")
        train_offline(output, model, recorded, credit=CreditConfig(), update=update, groups_per_step=2, **more)

    update = UpdateConfig(learning_rate=1e-3, warmup_steps=0, bf16=False, save_steps=1, num_iterations=2)
    first = folder / "first"
    learn(first, start, max_steps=1)
    learn(first, start, max_steps=2, resume=True)
    learn(folder, first, max_steps=3, optimizer_from=first)


def failing(folder: Path, start: Path) -> None:
    """The endpoint goes while process 0 rolls out and the others wait."""
    with _instead(Flow, "take", 2, _fail):
        train(folder, start)


def stopped(folder: Path, start: Path) -> None:
    """A signal for process 0 while it rolls out."""
    with _instead(Flow, "take", 5, _hang):
        train(folder, start)


def stopped_aside(folder: Path, start: Path) -> None:
    """A signal for the last process alone, while it trains."""

    def struck(*arguments: Any) -> None:
        if os.environ.get("RANK", "0") != "0":
            os.kill(os.getpid(), signal.SIGTERM)

    with _instead(RaoTrainer, "training_step", 2, struck, also=True):
        train(folder, start)


RUNS: dict[str, Callable[[Path, Path], None]] = {
    "online": plain,
    "adam": train,
    "resumed": resumed,
    "adapter": adapter,
    "offline": offline,
    "failing": failing,
    "stopped": stopped,
    "stopped aside": stopped_aside,
}
OF_KIND = {
    "ddp": ("online", "resumed", "offline", "stopped aside", "failing"),
    "fsdp": ("online", "resumed", "adapter", "offline", "stopped"),
}
"""The runs that are tried with each way to share the work."""


def lost(folder: Path, start: Path) -> None:
    """Process 0 is killed while it rolls out."""

    async def die(*arguments: Any) -> None:
        os._exit(0)

    with _instead(Flow, "take", 2, die):
        train(folder, start)


async def _fail(*arguments: Any) -> None:
    raise RolloutsFailed("the endpoint is gone")


async def _hang(*arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await anyio.sleep_forever()


@contextmanager
def _instead(place: Any, name: str, number: int, other: Callable[..., Any], *, also: bool = False) -> Iterator[None]:
    """`other` in the place of call `number` (from 1) of a method, or before it."""
    plain, calls = getattr(place, name), itertools.count(1)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            result = other(*arguments)
            if not also:
                return result
        return plain(*arguments, **options)

    setattr(place, name, wrapped)
    try:
        yield
    finally:
        setattr(place, name, plain)
