"""A long run that is killed, and goes on where it was: no answer of the model is paid for twice.

    python examples/resume.py "Summarise each chapter, then the book" book.txt --trace-dir traces/

Press Ctrl-C, or kill -9 the process, and run the same command again: it finds the unfinished trace and goes on with it. Set
OPENAI_BASE_URL, OPENAI_API_KEY and RAO_MODEL for the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from recursive_agent import Agent, ExecutionTree, Limits, Result, TraceError


def unfinished(traces: Path, goal: str) -> Path | None:
    """The newest trace of this goal that has not finished; None if there is none."""
    for path in sorted(traces.glob("*.jsonl"), reverse=True):  # names begin with the time of the start
        try:
            root = ExecutionTree.load(path).root
        except TraceError:  # nothing had begun
            continue
        if root.goal == goal and not root.finished:
            return path
    return None


async def solve_or_resume(goal: str, text: str, traces: Path) -> Result:
    """Go on with an unfinished run of this goal, or begin one."""
    agent = Agent(limits=Limits(max_agents=64, max_tokens=1_000_000, timeout=3_600), trace_dir=traces)
    trace = unfinished(traces, goal)
    return await (agent.solve(goal, context=text) if trace is None else agent.resume(trace))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("goal")
    parser.add_argument("file", type=Path)
    parser.add_argument("--trace-dir", type=Path, default=Path("traces"))
    given = parser.parse_args()
    result = anyio.run(solve_or_resume, given.goal, given.file.read_text(), given.trace_dir)
    print(result.output if result.status.finished else f"not finished: {result.reason}")
    before = sum(resumed.usage.total_tokens for resumed in result.tree.resumptions[-1:])
    print(f"{result.usage.total_tokens:,} tokens in all, {before:,} of them before this run went on")


if __name__ == "__main__":
    main()
