"""How long the event loop stands still for an agent's data: `python -m benchmarks.heartbeat`. Milliseconds, worst of a run.

A task of the same loop wakes up as often as it can while an agent makes, sends and returns the largest values that it may.
A collection of garbage in all of the process's objects is part of it: `--freeze` leaves out those that were there before,
as an application does that calls `gc.freeze()` once it is set up.
"""

from __future__ import annotations

import argparse
import gc
import platform
import tempfile
import time
from collections.abc import Callable

import anyio

from recursive_agent import Agent, Limits
from recursive_agent.testing import Request, ScriptedEndpoint

MIB = 1 << 20
CELLS = {
    "nothing": "finish(1)",
    "7 MiB of ASCII as the result": "finish('x' * (7 * 1024 * 1024))",
    "7 MiB of CJK as the result": "finish('漢' * (7 * 1024 * 1024 // 3))",
    "7 MiB of emoji as the result": "finish('😀' * (7 * 1024 * 1024 // 4))",
    "7 MiB of bytes as the result": "finish(b'x' * (7 * 1024 * 1024))",
    "95,000 numbers": "finish(list(range(95_000)))",
    "90,000 short texts": "finish([str(i) * 3 for i in range(90_000)])",
    "90,000 empty lists": "finish([[] for _ in range(90_000)])",
    "30,000 small dicts": "finish([{'a': i} for i in range(30_000)])",
    "95 levels deep": "x = 1\nfor _ in range(95): x = [x]\nfinish([x] * 900)",
    "a tool with 7 MiB": "await size('é' * (7 * 1024 * 1024 // 2))\nfinish(1)",
    "a tool with 90,000 values": "await size(list(range(90_000)))\nfinish(1)",
    "3,000 calls of a tool": "await asyncio.gather(*(size('x') for _ in range(3_000)))\nfinish(1)",
    "a child with 7 MiB of context": (
        "await launch_subagent('child', context={'text': '漢' * (7 * 1024 * 1024 // 3)})\nfinish(1)"
    ),
    "a child with 90,000 values": "await launch_subagent('child', context=list(range(90_000)))\nfinish(1)",
    "30 million lists in 16 MB": "a = [[]] * 4000\nfinish([a] * 4000)",
    "output of 100 MB": "print('x' * 100_000_000)\nfinish(1)",
}


def size(value: object) -> int:
    return len(value) if isinstance(value, (str, list)) else 0


async def worst_gap(cell: str, trace_dir: str, freeze: bool = False) -> tuple[float, str]:
    """`(seconds, status)` of one run."""
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0)
            gaps.append(time.perf_counter() - before)

    def script(request: Request) -> str:
        return f"```python\n{'finish(1)' if 'child' in request.first else cell}\n```"

    with ScriptedEndpoint(script) as endpoint:
        limits = Limits(max_steps=2, timeout=120, cell_memory_mb=512)
        agent = Agent("scripted", endpoint.base_url, limits=limits, tools=[size], trace_dir=trace_dir)
        async with agent:
            await agent.solve("warm up", returns=None)
            gc.collect()
            if freeze:
                gc.freeze()
            async with anyio.create_task_group() as group:
                group.start_soon(beat)
                result = await agent.solve("go")
                group.cancel_scope.cancel()
    return max(gaps), result.status.value


def main(show: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--freeze", action="store_true", help="call gc.freeze() first")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    options = parser.parse_args()
    show(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}; best of {options.runs} runs"
    )
    for name, cell in CELLS.items():
        if options.only not in name:
            continue
        found = []
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                found.append(anyio.run(worst_gap, cell, folder, options.freeze))
        show(f"{name:<34} {min(gap for gap, _ in found) * 1e3:8.1f} ms   {found[0][1]}")


if __name__ == "__main__":
    main()
