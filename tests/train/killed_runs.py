"""Runs that are killed by SIGKILL and go on: `python -m tests.train.killed_runs START FOLDER NAME…` makes those of `DEATHS`.

Each run is a forked child, so that the libraries are imported once. A child that is to be killed kills itself, in the
middle of what the instant names, so nothing depends on how fast the machine is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState

import rao_rl.train.folder
import rao_rl.train.online
import rao_rl.train.run
import rao_rl.weights.sync
import recursive_agent.trace.store
from rao_rl.config import OnlineConfig, UpdateConfig
from rao_rl.credit.assign import CreditConfig
from rao_rl.rollouts.batches import CollectConfig
from rao_rl.train.run import train_online
from recursive_agent.model.local import LocalModel

from ..envs.coins import COLLECT, Coins

STEPS = 5
Wrapped = Callable[[Any], Any]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(place: Any, name: str, number: int, last: Callable[..., None]) -> None:
    """Run `last`, and die, in the place of call `number` (from 1) of a function."""
    plain = getattr(place, name)
    calls = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            last(plain, *arguments, **options)
            die()
        return plain(*arguments, **options)

    setattr(place, name, wrapped)


def nothing(plain: Any, *arguments: Any, **options: Any) -> None:
    """The call has not begun."""


def all_of_it(plain: Any, *arguments: Any, **options: Any) -> None:
    """The call is over."""
    plain(*arguments, **options)


def half_the_bytes(plain: Any, descriptor: int, data: bytes) -> None:
    os.write(descriptor, data[: len(data) // 2])


def half_the_state(plain: Any, state: Any, path: str) -> None:
    plain(state, path)
    os.truncate(path, Path(path).stat().st_size // 2)


def half_the_line(plain: Any, path: Path, row: Any) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "lo')


DEATHS: dict[str, tuple[tuple[Any, str, int, Callable[..., None]], ...]] = {
    "rolling out": (
        (LocalModel, "sample", 6, nothing),
        (recursive_agent.trace.store, "_write_all", 20, half_the_bytes),
        (LocalModel, "sample", 9, nothing),
    ),
    "saving": (
        (TrainerState, "save_to_json", 1, nothing),
        (TrainerState, "save_to_json", 1, half_the_state),
        (TrainerState, "save_to_json", 2, all_of_it),
    ),
    "between": (
        (rao_rl.weights.sync, "rewrite_weights", 4, nothing),
        (rao_rl.train.folder, "append_metrics", 1, half_the_line),
        (rao_rl.train.online.OnlineLoop, "evaluate", 2, all_of_it),
        (rao_rl.train.run, "merged", 1, nothing),
    ),
    "saved every step": ((rao_rl.train.run, "merged", 1, nothing),),
}
"""Where a run dies, where it dies again when it has gone on, and so forth."""
SAVED = {"whole": 2, "saved every step": 1, "never saved": 100}
"""Steps between two checkpoints; those of the others are 2."""


def train(start: Path, folder: Path, *, resume: bool = False, save_steps: int = 2) -> None:
    """A run over some batches, of which some teach nothing. One call at a time, so that log-probs are the same bit by bit."""
    environment = Coins()
    train_online(
        folder,
        start,
        environment,
        collect=CollectConfig(**{**COLLECT, "max_in_flight": 1}),
        credit=CreditConfig(),
        update=UpdateConfig(learning_rate=1e-3, warmup_steps=0, bf16=False, save_steps=save_steps),
        online=OnlineConfig(max_steps=STEPS, eval_every=2, eval_concurrency=1),
        eval_tasks=list(environment.tasks("test", limit=2)),
        resume=resume,
    )


def child(run: Callable[[], None], log: Path) -> int:
    """Run in a forked child; minus the signal that ended it, or its exit status."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        run()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def main(start: Path, folder: Path, *names: str) -> None:
    torch.set_num_threads(1)
    for name in names:
        deaths = DEATHS.get(name, ())
        for number in range(len(deaths) + 1):

            def run(name: str = name, deaths: Any = deaths, number: int = number) -> None:
                if number < len(deaths):
                    at(*deaths[number])
                train(start, folder / name, resume=number > 0, save_steps=SAVED.get(name, 2))

            _expect(-signal.SIGKILL if number < len(deaths) else 0, child(run, folder / f"{name}.log"))


def _expect(wanted: int, got: int) -> None:
    if got != wanted:
        raise SystemExit(f"a run ended with {got} instead of {wanted}; the last log tells why")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
