"""rao: `launch_subagent` in `asyncio.gather`; every agent in a locked process of its own."""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version

from benchmarks.peers.adapters.protocol import arguments, report


async def solve_repeatedly(options: argparse.Namespace, before: float) -> None:
    from recursive_agent import Agent, Limits

    # Counts of the benchmark, not of an agent's work: every other limit is the default.
    limits = Limits(max_agents=1000, max_children=1000, max_steps=options.count + 1, max_concurrency=256)
    async with Agent(options.model, options.base_url, limits=limits) as agent:
        for _ in range(options.solves):
            result = await agent.solve(f"{options.work.replace('_', ' ')} {options.count}")
            report(wall=time.perf_counter() - before, answer=str(result.output))
            before = time.perf_counter()


def main() -> None:
    options = arguments()
    report(version=version("rao"))
    before = time.perf_counter()
    import anyio

    anyio.run(solve_repeatedly, options, before)


if __name__ == "__main__":
    main()
