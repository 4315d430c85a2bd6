"""Many small trees in one process, with memory and descriptors flat: `python -m benchmarks.soak` (5,000 trees).

Trees of every kind take turns: clean ones, failing cells, tools and endpoints, large contexts, agents that are left behind,
cancelled runs, a killed worker. Prints what the process has at every tenth of the way and the slopes after a warm-up.
Exits 1 where anything grows: more than `KIB_A_TREE` of memory, or a single descriptor, child process, thread or task.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import linear_regression
from threading import active_count
from typing import Any

import anyio
import psutil

from benchmarks.orchestration import endpoint
from recursive_agent import Agent, Limits, RaoError
from recursive_agent.model import Endpoint, connect

KINDS = (
    "plain",
    "wide",
    "large",
    "broken",
    "tool",
    "left",
    "refused",
    "mute",
    "busy",
    "dropped",
    "scored",
    "cancelled",
)
RARE = ("hungry", "killed")
"""One in fifty: they take longer."""
KIB_A_TREE = 0.5
"""KiB a tree by which memory may seem to grow; a leaked tree of this size is some 30 KiB."""
WARM_UP = 0.2


@dataclass(frozen=True, slots=True)
class Point:
    """What there is after so many trees. Memory in KiB."""

    trees: int
    host_kib: int
    helper_kib: int
    descriptors: int
    helper_descriptors: int
    children: int
    threads: int
    tasks: int


def echo(text: str) -> str:
    return text


async def fail() -> None:
    raise KeyError("as planned")


def helper() -> psutil.Process:
    """The process that makes the workers; the scripted endpoint is a child as well."""
    return next(child for child in psutil.Process().children() if "-I" in child.cmdline())


async def measure(trees: int, spares: int) -> Point:
    """What there is now, once the spare workers are there again (those that were killed are missed when one is taken)."""
    me = psutil.Process()
    gc.collect()
    with anyio.move_on_after(1):
        while len(helper().children()) != spares:
            await anyio.sleep(0.01)
    zygote = helper()
    return Point(
        trees=trees,
        host_kib=me.memory_info().rss // 1024,
        helper_kib=zygote.memory_info().rss // 1024,
        descriptors=me.num_fds(),
        helper_descriptors=zygote.num_fds(),
        children=len(me.children(recursive=True)),
        threads=active_count(),
        tasks=len(asyncio.all_tasks()),
    )


async def one(agent: Agent, number: int) -> str:
    """One tree; how it ended."""
    kind = RARE[number // 50 % len(RARE)] if number % 50 == 49 else KINDS[number % len(KINDS)]
    arguments: dict[str, Any] = {"score": (lambda node: 1.0)} if kind == "scored" else {}
    try:
        if kind == "cancelled":
            with anyio.move_on_after(number % 7 / 1000):
                await agent.solve(f"tree wide {number}")
            return "cancelled"
        if kind == "killed":
            async for event in agent.stream(f"tree wide {number}"):
                if event.kind == "node_started":
                    kill_a_worker(number)
            return "killed"
        return str((await agent.solve(f"tree {kind} {number}", **arguments)).status)
    except RaoError as error:
        return type(error).__name__


def kill_a_worker(number: int) -> None:
    workers = helper().children()
    if workers:
        with suppress(ProcessLookupError):
            os.kill(workers[number % len(workers)].pid, signal.SIGKILL)


async def soak(url: str, trees: int, folder: Path) -> list[Point]:
    """The points of a run."""
    spares = 8
    points: list[Point] = []
    ended: dict[str, int] = {}
    limits = Limits(max_steps=4, max_children=4, cell_memory_mb=64, timeout=120.0)
    model = connect(Endpoint("scripted", url, "none"))
    began = time.perf_counter()
    print("  trees  host KiB  helper KiB  descriptors  of helper  children  threads  tasks  seconds")
    async with Agent(model, tools=[echo, fail], limits=limits, trace_dir=folder, prompt_style="minimal") as agent:
        for number in range(trees + 1):
            if number % max(1, trees // 10) == 0:
                points.append(await measure(number, spares))
                row = "  ".join(
                    f"{value:>{width}}"
                    for value, width in zip(astuple(points[-1]), (7, 8, 10, 11, 9, 8, 7, 5), strict=True)
                )
                print(f"{row}  {time.perf_counter() - began:7.1f}", flush=True)
                for path in folder.iterdir():
                    path.unlink()
            how = await one(agent, number)
            ended[how] = ended.get(how, 0) + 1
    await model.aclose()
    print("  ended:", ", ".join(f"{how} {count:,}" for how, count in sorted(ended.items())))
    return points


def verdict(points: Sequence[Point]) -> list[str]:
    """What is not flat after the warm-up."""
    points = [point for point in points if point.trees >= points[-1].trees * WARM_UP]
    trees = [point.trees for point in points]
    wrong = []
    for name in ("host_kib", "helper_kib"):
        slope = linear_regression(trees, [getattr(point, name) for point in points]).slope
        print(f"  {name}: {slope * 1024:+.0f} bytes a tree (limit {KIB_A_TREE * 1024:.0f})")
        if slope > KIB_A_TREE:
            wrong.append(f"{name} grows by {slope:.2f} KiB a tree")
    for name in ("descriptors", "helper_descriptors", "children", "threads", "tasks"):
        # The most of each half: an idle connection, or a spare worker that is just being made, comes and goes.
        half = len(points) // 2
        first, last = (max(getattr(point, name) for point in part) for part in (points[: half + 1], points[half:]))
        print(f"  {name}: at most {first}, then at most {last}")
        if last > first:
            wrong.append(f"{name} grew from {first} to {last}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--trees", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, endpoint("soak", latency=0.0) as url:
        wrong = verdict(anyio.run(soak, url, options.trees, Path(folder)))
    if wrong:
        sys.exit("not flat: " + "; ".join(wrong))
    print("  flat")


if __name__ == "__main__":
    main()
