"""What a process has: descriptors, children, threads, tasks, temporary files."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import clock

PATIENCE = 5.0
"""Seconds (real) in which what is being given back must have come back."""
_IDLE = ("AnyIO worker thread", "Trio thread", "asyncio_", "scripted-endpoint")


@dataclass(frozen=True, slots=True)
class Inventory:
    """One count."""

    descriptors: Counter[str]
    children: int
    zombies: int
    threads: frozenset[str]
    tasks: frozenset[str]
    files: frozenset[str] = field(default=frozenset())

    @classmethod
    def take(cls, folder: Path | None = None) -> Inventory:
        """Count now; tasks are those of the running loop, where one runs."""
        pids = list(clock.descendants(os.getpid()))
        states = [clock.state(f"/proc/{pid}/stat") for pid in pids]
        try:
            tasks = {_task(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        except RuntimeError:  # no loop runs here
            tasks = set()
        files = (
            frozenset(str(path.relative_to(folder)) for path in folder.rglob("*"))
            if folder is not None
            else frozenset()
        )
        return cls(
            descriptors=_descriptors(),
            children=sum(state not in "ZX" for state in states),
            zombies=states.count("Z"),
            threads=frozenset(one.name for one in threading.enumerate() if not one.name.startswith(_IDLE)),
            tasks=frozenset(tasks),
            files=files,
        )

    def less(self, before: Inventory) -> list[str]:
        """What is here and was not before. (A spare worker that was killed is replaced when the next one is needed.)"""
        found = [f"{count} × descriptor {kind}" for kind, count in (self.descriptors - before.descriptors).items()]
        if self.children > before.children:
            found.append(f"{self.children} child processes, {before.children} before")
        if self.zombies > before.zombies:
            found.append(f"{self.zombies} zombies")
        found += [f"thread {name}" for name in self.threads - before.threads]
        found += [f"task {name}" for name in self.tasks - before.tasks]
        found += [f"file {name}" for name in self.files - before.files]
        return found


async def settle(before: Inventory, take: Callable[[], Inventory]) -> list[str]:
    """What is still left once everything had its time; real time, whatever the loop's clock does."""
    end = time.monotonic() + PATIENCE
    while True:
        for _ in range(5):
            await asyncio.sleep(0)
        left = take().less(before)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.002)


def settle_without_loop(before: Inventory) -> list[str]:
    """The same where no loop runs."""
    end = time.monotonic() + PATIENCE
    while (left := Inventory.take().less(before)) and time.monotonic() < end:
        time.sleep(0.005)
    return left


async def steady() -> Inventory:
    """What there is once nothing comes or goes any more."""
    last, since = Inventory.take(), time.monotonic()
    while time.monotonic() - since < 0.1:
        await asyncio.sleep(0)
        time.sleep(0.002)
        if (now := Inventory.take()) != last:
            last, since = now, time.monotonic()
    return last


def _descriptors() -> Counter[str]:
    kinds: Counter[str] = Counter()
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue  # that of the listing itself
        kinds[re.sub(r":\[\d+\]$", "", target)] += 1
    return kinds


def _task(task: asyncio.Task[object]) -> str:
    """A task by where it is, not by its number."""
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", repr(coroutine))
