"""What it costs to go on with a trace: `python -m benchmarks.resume [--agents 1000]`.

A tree of so many agents runs against a scripted endpoint that takes 50 ms for each call. Then it is resumed from its trace as
a kill would have left it: before its last model call, and after each quarter of its lines. Printed are seconds until
the first new model call arrives, and their ratio to the run that the trace holds so far.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import anyio

from recursive_agent import Agent, ExecutionTree, Limits
from recursive_agent.testing import Request, ScriptedEndpoint

DELAY = 0.05


class _World:
    """The endpoint; it notes when the first request of a resumption came."""

    def __init__(self, agents: int) -> None:
        self.middles = round((agents - 1) ** 0.5)
        self.leaves = [(agents - 1 - self.middles) // self.middles] * self.middles
        for n in range(agents - 1 - self.middles - sum(self.leaves)):
            self.leaves[n] += 1
        self.first: float | None = None

    async def answer(self, request: Request) -> str:
        self.first = self.first or time.monotonic()
        await asyncio.sleep(DELAY)
        if "leaf" in request.first:
            cells = ["x = context * 2\nx", "finish(x)"]
        elif "middle" in request.first:
            cells = [
                "parts = await asyncio.gather(*[launch_subagent(f'leaf {context} {n}', context=n) for n in "
                f"range({self.leaves}[context])])",
                "finish(sum(parts))",
            ]
        else:
            cells = [
                f"parts = await asyncio.gather(*[launch_subagent(f'middle {{n}}', context=n) for n in range({self.middles})])",
                "print(sum(parts))",
                "finish(sum(parts))",
            ]
        return f"```python\n{cells[request.step]}\n```"


async def measure(agents: int, folder: Path) -> None:
    """Run, cut and resume."""
    world = _World(agents)
    limits = Limits(max_agents=agents, max_children=64, max_tokens=None, timeout=None, max_concurrency=32)
    with ScriptedEndpoint(world.answer) as endpoint:
        async with Agent("scripted", endpoint.base_url, "none", limits=limits, trace_dir=folder) as agent:
            whole = await agent.solve("everything")
            assert whole.trace_path is not None
            print(
                f"the run: {len(whole.tree.nodes):,} agents, {whole.usage.calls:,} calls, {whole.tree.duration:.2f} s"
            )
            lines = whole.trace_path.read_bytes().splitlines(keepends=True)
            last = max(n for n, line in enumerate(lines) if line.startswith(b'{"kind":"model_called"'))
            for cut in (len(lines) // 4, len(lines) // 2, 3 * len(lines) // 4, last):
                trace = folder / f"cut-{cut}.jsonl"
                trace.write_bytes(b"".join(lines[:cut]))
                before = ExecutionTree.load(trace)
                world.first = None
                begun = time.monotonic()
                result = await agent.resume(trace)
                assert result.output == whole.output
                assert world.first is not None
                seconds = world.first - begun
                living = sum(node.running for node in before.walk())
                print(
                    f"cut after {cut:,} of {len(lines):,} lines: {len(before.nodes):,} agents, {living:,} alive; first new "
                    f"call after {seconds:.2f} s, {seconds / before.duration:.1%} of the {before.duration:.2f} s it took"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=1_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(measure, given.agents, Path(folder))


if __name__ == "__main__":
    main()
