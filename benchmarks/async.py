"""Steps an hour with rollouts beside the training, against rollouts and training in turns.

    python -m benchmarks.async                     # (a) simulated: the real queue, tree durations from a distribution
    python -m benchmarks.async --vllm PYTHON       # (b) measured: rao train with a vLLM server of this interpreter

(a) runs `rao_rl.rollouts.flow` on a clock that jumps (no real time passes). Each attempt takes a time that is drawn from a
lognormal distribution with a long tail: independent of how many are in flight, as with a server that is not full. Attempts at
one task share a factor, so that some tasks are slow as a whole. The parameters are assumptions, not fitted to a run. Training a
step and pushing the weights take a fixed time.

(b) trains the policy that is installed with this package for a few steps of TextCraft-Synth, on this machine: sampler and
trainer share its cores, so that rolling out beside the training can win little.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import anyio

from rao_rl.envs.base import Task
from rao_rl.rollouts.choice import Order
from rao_rl.rollouts.flow import Outcome, flowing
from rao_rl.rollouts.many import PlannedAttempt
from recursive_agent.model.embedded import SHIPPED

from .virtual_time import run_virtually

COLUMNS = (
    *("sampling", "steps an hour", "× synchronous", "trainer waits", "sampler idle", "trees in flight"),
    *("updates behind", "seconds of a tree: steps 1 to 10, all"),
)


@dataclass(frozen=True)
class World:
    """What a step consists of and how long it takes. Times in seconds."""

    tasks: int = 8
    generations: int = 8
    limit: int = 64
    median: float = 40.0
    """Of the durations of trees."""
    sigma: float = 0.8
    """Of the logarithm of the durations of the attempts at one task."""
    task_sigma: float = 0.6
    """Of the logarithm of a task's factor."""
    train: float = 60.0
    push: float = 5.0
    timeout: float = 600.0

    def duration(self, place: int, number: int) -> float:
        """Of an attempt; the same in every run."""
        task, own = random.Random(f"task/{place}"), random.Random(f"attempt/{place}/{number}")
        drawn = task.gauss(0, self.task_sigma) + own.gauss(0, self.sigma)
        return min(self.timeout, self.median * math.exp(drawn))


@dataclass
class Simulated:
    """Attempts that only take time."""

    world: World
    durations: list[float] = field(default_factory=list)

    def planned(self, place: int) -> Sequence[PlannedAttempt]:
        task = Task(id=str(place), goal="wait")
        return [PlannedAttempt(task=task, group=str(place), seed=number) for number in range(self.world.generations)]

    def recorded(self, place: int, plan: PlannedAttempt) -> Outcome | None:
        return None

    async def attempt(self, place: int, plan: PlannedAttempt) -> Outcome:
        seconds = self.world.duration(place, plan.seed)
        await anyio.sleep(seconds)
        return Outcome(seconds=seconds)


@dataclass
class Run:
    """What came of a run."""

    steps_an_hour: float
    figures: list[dict[str, float]]

    def mean(self, name: str) -> float:
        """Of a figure over the steps."""
        return fmean(row[name] for row in self.figures if name in row)


def simulate(world: World, staleness: int, order: Order, steps: int, *, drain: bool = False) -> Run:
    """Train for so many steps on the clock that jumps."""

    async def run() -> Run:
        figures = []
        attempts = Simulated(world)
        async with flowing(attempts, size=world.tasks, limit=world.limit, staleness=staleness, order=order) as flow:
            begun = anyio.current_time()
            for version in range(steps):
                figures.append((await flow.take()).figures)
                await anyio.sleep(world.train)
                if drain:
                    await flow.drain()
                await anyio.sleep(world.push)
                flow.pushed(version + 1)
            return Run(3600 * steps / (anyio.current_time() - begun), figures)

    return run_virtually(run)


def simulated(world: World, steps: int) -> None:
    """The table of (a)."""
    print(
        f"(a) simulated: {world.tasks} tasks × {world.generations} attempts a step, at most {world.limit} trees in flight; "
        f"durations lognormal, median {world.median:g} s, σ {world.sigma:g} within and {world.task_sigma:g} between tasks, "
        f"at most {world.timeout:g} s; training {world.train:g} s, push {world.push:g} s; {steps} steps\n"
    )
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    base = simulate(world, 0, "completed", steps)
    rows = [("synchronous", base)]
    for staleness in (1, 2, 4):
        rows += [
            (f"staleness {staleness}, batches in the order of the plan", simulate(world, staleness, "planned", steps)),
            (f"staleness {staleness}, first complete groups", simulate(world, staleness, "completed", steps)),
            ("the same, drained for each push", simulate(world, staleness, "completed", steps, drain=True)),
        ]
    for name, run in rows:
        print(
            f"| {name} | {run.steps_an_hour:.1f} | {run.steps_an_hour / base.steps_an_hour:.2f} | "
            f"{run.mean('flow/trainer_wait'):.0%} | {run.mean('flow/sampler_idle'):.0%} | "
            f"{run.mean('flow/in_flight'):.0f} | {run.mean('flow/staleness_mean'):.2f} | "
            f"{fmean(row['flow/taken_seconds'] for row in run.figures[:10]):.0f}, {run.mean('flow/taken_seconds'):.0f} |"
        )


# -- a real server ---------------------------------------------------------------------------------------------------


def measured(python: str, steps: int) -> None:
    """The table of (b)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        served = Path(shutil.copytree(SHIPPED, folder / "served"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = ["serve", str(served), "--port", str(port), "--python", python, "--weight-updates"]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(_rao(*command), stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if not url:
                raise SystemExit(f"vLLM did not start: {(folder / 'log').read_text()[-2000:]}")
            print(
                f"\n(b) measured, vLLM on {os.cpu_count()} cores that it shares with the trainer: "
                f"{steps} steps of 4 × 4 trees\n"
            )
            print("| sampling | steps an hour | trainer waits | sampler idle |\n| --- | --- | --- | --- |")
            for staleness in (0, 1, 2, 4):
                print(_trained(folder, served, url, staleness, steps), flush=True)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def _trained(folder: Path, served: Path, url: str, staleness: int, steps: int) -> str:
    out = folder / f"staleness-{staleness}"
    settings = {
        "sampler.name": "vllm-reload",
        "sampler.base_url": url,
        "sampler.served_model": _name(url),
        "sampler.served_folder": str(served),
        "collect.tasks_per_step": 4,
        "collect.num_generations": 4,
        "collect.level": "easy",
        "collect.max_in_flight": 16,
        "collect.temperature": 1.5,
        "update.bf16": "false",
        "online.max_staleness": staleness,
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    subprocess.run(
        _rao(
            "train",
            "--env",
            "textcraft",
            "--online",
            "--model",
            str(SHIPPED),
            "--out",
            str(out),
            "--steps",
            str(steps),
            *words,
        ),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    rows: list[dict[str, Any]] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "loss" in row]
    # From the first step on: what comes before is the start of the process.
    seconds = trained[-1]["time/elapsed"] - trained[0]["time/elapsed"]
    waits, idle = (fmean(row[name] for row in trained[1:]) for name in ("flow/trainer_wait", "flow/sampler_idle"))
    name = f"staleness {staleness}" if staleness else "synchronous"
    return f"| {name} | {3600 * (len(trained) - 1) / seconds:.0f} | {waits:.0%} | {idle:.0%} |"


def _name(url: str) -> str:
    with urllib.request.urlopen(f"{url}/models") as answer:
        return str(json.load(answer)["data"][0]["id"])


def _rao(*words: str) -> list[str]:
    return [sys.executable, "-m", "rao_cli", *words]


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="steps of each run (default: 100 simulated, 10 measured)")
    parser.add_argument("--vllm", metavar="PYTHON", help="measure (b), with the vLLM of this interpreter")
    parser.add_argument("--median", type=float, default=World.median, help="median seconds of a simulated tree")
    parser.add_argument("--train", type=float, default=World.train, help="seconds of a simulated training step")
    parser.add_argument("--limit", type=int, default=World.limit, help="most simulated trees in flight")
    options = parser.parse_args(given)
    if options.vllm:
        measured(options.vllm, options.steps or 10)
    else:
        world = replace(World(), median=options.median, train=options.train, limit=options.limit)
        simulated(world, options.steps or 100)


if __name__ == "__main__":
    main()
