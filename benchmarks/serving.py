"""The agent API under load: `python -m benchmarks.serving`.

Many clients ask at once, each again as soon as it is answered; every request is a tree of three agents on a scripted
model, so that the critical path is two calls long. Model, server and clients are processes of their own and share the
machine. Beside what was reached stand the bounds that the server's concurrency and the CPU set.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import anyio
import httpx2
import psutil

from rao_rl.serve.agent import RUN_HEADER, agent_app
from rao_rl.serve.http import ServerSettings, serve
from recursive_agent import Agent, ExecutionTree

from .orchestration import endpoint

GOAL, CALLS, ON_PATH = "fan out 2", 3, 2
SETTLED = 10.0
"""Seconds after which memory should not grow any more."""


@dataclass
class Load:
    """What the clients saw, and what the server's processes were like."""

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    """MiB of the server's own process, each second."""
    processes: list[int] = field(default_factory=list)
    """Processes below the server, each second."""
    seconds: float = 0.0


def run_server(base_url: str, traces: str, concurrency: int, queue: int) -> None:
    settings = ServerSettings(port=0, max_concurrency=concurrency, max_queue=queue)
    app = agent_app(Agent("scripted", base_url, trace_dir=traces), settings)

    async def run() -> None:
        await serve(app, settings, ready=lambda url: print(url, flush=True))

    anyio.run(run)


@contextmanager
def server(base_url: str, traces: Path, concurrency: int, queue: int) -> Iterator[tuple[str, psutil.Process]]:
    """The server in its own process; gives its URL."""
    command = [sys.executable, "-m", "benchmarks.serving", "--serve", base_url, str(traces)]
    command += ["--concurrency", str(concurrency), "--queue", str(queue)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip(), psutil.Process(process.pid)
        finally:
            process.terminate()


async def client(http: httpx2.AsyncClient, load: Load, until: float) -> None:
    body = {"messages": [{"role": "user", "content": GOAL}]}
    while time.perf_counter() < until:
        begun = time.perf_counter()
        try:
            answer = await http.post("/v1/chat/completions", json=body)
        except httpx2.HTTPError as error:
            load.errors[type(error).__name__] += 1
            continue
        if answer.status_code != 200 or answer.json()["choices"][0]["message"]["content"] != "done":
            load.errors[f"{answer.status_code} {answer.text[:80]}"] += 1
            continue
        load.latencies.append(time.perf_counter() - begun)
        load.runs.append(answer.headers[RUN_HEADER])


async def watch(process: psutil.Process, load: Load) -> None:
    while True:
        load.memory.append(process.memory_info().rss / 2**20)
        load.processes.append(len(process.children(recursive=True)))
        await anyio.sleep(1)


async def ask(url: str, process: psutil.Process, clients: int, seconds: float) -> Load:
    load, begun = Load(), time.perf_counter()
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=4)
    async with httpx2.AsyncClient(base_url=url, timeout=None, limits=limits, trust_env=False) as http:
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch, process, load)
            async with anyio.create_task_group() as group:
                for _ in range(clients):
                    group.start_soon(client, http, load, begun + seconds)
            load.seconds = time.perf_counter() - begun
            watching.cancel_scope.cancel()
    return load


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a process, of those below it, and of those below it that have ended."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def lost(load: Load, traces: Path) -> int:
    """Runs that were answered and have no whole trace."""
    whole, answered = 0, set(load.runs)
    for path in traces.glob("*.jsonl"):
        tree = ExecutionTree.load(path)
        whole += tree.complete and tree.run in answered and len(tree.nodes) == CALLS
    return len(load.runs) - whole


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--concurrency", type=int, default=32, help="requests that the server runs at once")
    parser.add_argument("--queue", type=int, default=256, help="requests that wait at most")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds of a call of the model")
    parser.add_argument("--serve", nargs=2, metavar=("BASE_URL", "TRACES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        run_server(*given.serve, given.concurrency, given.queue)
        return
    others = os.getloadavg()[0]
    print(
        f"# {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load before {others:.1f}\n"
        f"{given.clients} clients for {given.seconds:g} s, {given.concurrency} requests at once, queue {given.queue}; "
        f"{CALLS} calls of {given.latency * 1e3:g} ms a request, {ON_PATH} of them one after the other"
    )
    me = psutil.Process()
    with tempfile.TemporaryDirectory() as folder, endpoint("fan_out", given.latency) as model:
        traces = Path(folder)
        with server(model, traces, given.concurrency, given.queue) as (url, process):
            before = cpu(me), cpu(process)
            load = anyio.run(ask, url, process, given.clients, given.seconds)
            # Below this process are the model and the server; what is left is the clients and the model.
            everything, served = cpu(me) - before[0], cpu(process) - before[1]
        missing = lost(load, traces)
    done = len(load.latencies)
    report(load, done, given.concurrency / (ON_PATH * given.latency), everything / max(1, done), served / max(1, done))
    print(f"errors: {dict(load.errors) or 'none'}; lost traces: {missing}")
    sys.exit(bool(load.errors or missing))


def report(load: Load, done: int, by_concurrency: float, all_cpu: float, served_cpu: float) -> None:
    cuts = quantiles(load.latencies, n=100)
    cores = len(os.sched_getaffinity(0))
    print(f"{done / load.seconds:.1f} requests/s ({done} in {load.seconds:.1f} s)")
    print(f"bound of the concurrency: {by_concurrency:.0f} requests/s")
    print(
        f"bound of the CPU: {cores / all_cpu:.1f} requests/s ({all_cpu * 1e3:.1f} ms a request, of these server and "
        f"sandbox {served_cpu * 1e3:.1f} ms; clients and model the rest)"
    )
    print(f"latency p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s (most of it in the queue)")
    at = min(int(SETTLED), len(load.memory) - 1)
    print(
        f"memory of the server {load.memory[at]:.0f} MiB at {at} s, {load.memory[-1]:.0f} MiB in the end; processes below it "
        f"{load.processes[at]} and {load.processes[-1]}, at most {max(load.processes)}"
    )


if __name__ == "__main__":
    main()
