"""An environment whose attempts wait for each other by files, so that a test knows where each of them is."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio

from rao_rl.envs import Task
from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.tree import Node

NUMBER = 4
WORK = "```python\nfinish(await work())\n```"


class Errand:
    """An attempt: it leaves a file that names its process and its node, and waits until all may go on."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.folder = folder
        self.id = task.id
        self.tools = [self.work]

    async def work(self) -> str:
        """Wait until everybody may go on."""
        # The raylet of a node is the parent of the node's actors.
        (self.folder / f"{self.id}.{uuid.uuid4().hex}").write_text(f"{os.getpid()} {os.getppid()}")
        await patiently((self.folder / "go").exists)
        return self.id

    async def score(self, node: Node) -> float | None:
        return 1.0 if node.result == self.id else 0.0

    def metrics(self, node: Node) -> Mapping[str, float]:
        return {"length": float(len(self.id))}


class Errands:
    """Tasks that are done as soon as `folder` has a file `go`."""

    name = "errands"
    max_depth = 1
    splits = ("train",)
    levels = ("any",)

    def __init__(self, folder: str, only: int = 0) -> None:
        if only and os.getpid() != only:
            raise ConfigurationError("errands can be made in one process only")
        self.folder = Path(folder)

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> list[Task]:
        return [Task(id=f"t{number}", goal=f"Do errand {number}", level="any") for number in range(NUMBER)][:limit]

    def task(self, goal: str, seed: int = 0) -> Task:
        return Task(id=goal, goal=goal)

    def session(self, task: Task) -> Errand:
        return Errand(self.folder, task)


async def begun(folder: Path, number: int) -> list[tuple[str, int, int]]:
    """(task, process, parent) of each attempt that has begun, once there are so many."""

    def read() -> list[tuple[str, int, int]]:
        found = []
        for path in folder.glob("t*.*"):
            process, _, parent = path.read_text().partition(" ")
            if parent:
                found.append((path.stem, int(process), int(parent)))
        return found

    await patiently(lambda: len(read()) >= number)
    return sorted(read())


async def patiently(condition: Callable[[], bool]) -> None:
    """`tests.waiting.until` for what takes a process of Ray's to start, or the death of one to be noticed."""
    with anyio.fail_after(500):
        while not condition():
            await anyio.sleep(0.02)
