"""What the tree itself costs: `python -m benchmarks.orchestration`.

The scripted endpoint runs in a process of its own. Prints one line for each figure, with its aim.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import anyio

from recursive_agent import Agent, Limits, Usage
from recursive_agent.model.base import Completion, Message, Sampling
from recursive_agent.trace.schema import ModelCalled

LATENCY = 0.05
MANY: dict[str, Any] = {"max_agents": 5000, "max_children": 5000, "max_tokens": None, "timeout": 300.0}


@contextmanager
def endpoint(script: str, latency: float = LATENCY) -> Iterator[str]:
    """A scripted endpoint in its own process; gives its base URL."""
    command = [sys.executable, "-m", "recursive_agent.testing", "--script", f"benchmarks.scripts:{script}"]
    process = subprocess.Popen(
        [*command, "--latency", str(latency), "--until-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["base_url"]
    finally:
        process.stdin.close()
        process.stdout.read()
        process.wait()


@dataclass
class InstantModel:
    """Answers at once, in process, so that what is measured is ours alone."""

    answers: Sequence[str]
    name: str = "instant"
    interface: Any = "chat"
    sampling: Sampling = field(default_factory=Sampling)

    async def context_length(self) -> int | None:
        return None

    def conversation(self, **_: Any) -> InstantConversation:
        return InstantConversation(self)

    async def aclose(self) -> None:
        return None


class InstantConversation:
    exact = True

    def __init__(self, model: InstantModel) -> None:
        self.messages: list[Message] = []
        self._model = model
        self._calls = 0

    def add(self, *messages: Message) -> None:
        self.messages.extend(messages)

    async def prompt_tokens(self) -> int:
        return 100

    async def complete(self, **_: Any) -> Completion:
        text = self._model.answers[min(self._calls, len(self._model.answers) - 1)]
        self._calls += 1
        self.messages.append(Message("assistant", text))
        return Completion(text=text, finish_reason="stop", usage=Usage(calls=1, prompt_tokens=100), model="instant")


def cpu(who: int = resource.RUSAGE_SELF) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


async def step_cost(steps: int = 1000) -> list[float]:
    """Host CPU seconds between one model call of an agent and its next: parse, cell, observation, trace."""
    answers = [f"```python\nx = {n}\nx\n```" for n in range(steps)] + ["```python\nfinish(x)\n```"]
    agent = Agent(
        InstantModel(answers), limits=Limits(max_steps=steps + 1, max_tokens=None), trace_dir="/tmp/rao-benchmark"
    )
    marks: list[float] = []
    async for event in agent.stream("count"):
        if isinstance(event, ModelCalled):
            marks.append(time.process_time())
    return [after - before for before, after in pairwise(marks)]


async def run(base_url: str, goal: str, **limits: Any) -> tuple[float, float, float, Any]:
    """Wall seconds, host CPU, CPU of helper processes that ended, and the result, in an agent that is already open."""
    async with Agent("scripted", base_url, limits=Limits(**{**MANY, **limits})) as agent:
        await agent.solve("fan out 1")
        before, ours, theirs = time.perf_counter(), cpu(), cpu(resource.RUSAGE_CHILDREN)
        result = await agent.solve(goal)
        wall = time.perf_counter() - before
        ours = cpu() - ours
    return wall, ours, cpu(resource.RUSAGE_CHILDREN) - theirs, result


_FIRST = """if True:
    import json, os, sys, time
    started = time.perf_counter()
    from recursive_agent import Agent, Limits
    ready = time.perf_counter()
    result = Agent("scripted", sys.argv[1], limits=Limits(max_tokens=None)).solve_sync(f"fan out {sys.argv[2]}")
    assert result.tree.launches == int(sys.argv[2])
    ended, times = time.perf_counter(), os.times()
    helpers = times.children_user + times.children_system
    print(json.dumps([ready - started, ended - ready, time.process_time(), helpers]))
"""
"""A program that runs one goal. Prints seconds: import, the run, its own CPU, that of the sandbox's processes."""


def first_run(base_url: str, width: int, times: int = 5) -> list[float]:
    """Medians of `_FIRST` over processes of their own, after one that leaves compiled files behind."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _FIRST, base_url, str(width)]
    runs: list[list[float]] = []
    for _ in range(times + 1):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        runs.append(json.loads(done.stdout))
    return [median(figures) for figures in zip(*runs[1:], strict=True)]


def main() -> None:
    print(
        f"# {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    costs = sorted(anyio.run(step_cost))
    p95 = costs[int(len(costs) * 0.95)]
    print(
        f"host CPU per agent step, model left out: p50 {median(costs) * 1e3:.2f} ms, p95 {p95 * 1e3:.2f} ms (aim p50 0.5)"
    )
    with endpoint("fan_out") as url:
        imported, ran, ours, theirs = first_run(url, 4)
        print(
            f"first run in a process, 4 one-step children at 50 ms: import {imported:.2f} s, run {ran:.2f} s (aim 0.30 s); "
            f"CPU {ours:.2f} s host + {theirs:.2f} s sandbox"
        )
        # The helper process costs something by itself, however many children there are.
        _, _, helper, _ = anyio.run(partial(run, url, "fan out 1"))
        for width in (4, 32, 128):
            wall, ours, theirs, result = anyio.run(partial(run, url, f"fan out {width}", max_concurrency=256))
            assert result.tree.launches == width
            aim = " (aim 1.0 s, 8 ms)" if width == 128 else ""
            print(
                f"fan-out of {width} one-step children at 50 ms: {wall:.2f} s, CPU a child {ours / width * 1e3:.1f} ms host "
                f"+ {(theirs - helper) / width * 1e3:.1f} ms sandbox{aim}"
            )
    with endpoint("four_calls") as url:
        wall, ours, theirs, result = anyio.run(partial(run, url, "fan out 999", max_concurrency=32))
        calls = result.usage.calls
        bound = max(result.tree.critical_path.seconds, calls * LATENCY / 32)
        print(
            f"1,000 agents, {calls} calls at width 32: {wall:.2f} s, {wall / bound:.2f} x the bound of {bound:.2f} s "
            f"(aim 1.3), host CPU {ours:.1f} s"
        )


if __name__ == "__main__":
    main()
