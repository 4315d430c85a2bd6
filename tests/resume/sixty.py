"""A tree of 60 agents with tools, as a program that can be killed: `python -m tests.resume.sixty URL TRACES CALLS [TRACE]`.

Each call of a tool is a line in the file CALLS. With TRACE the run goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from recursive_agent import Agent, Limits
from tests.agent.helpers import py

MIDDLES = 11
LEAVES = 48
AGENTS = 1 + MIDDLES + LEAVES

ROOT = [
    py("import random, time\nluck = random.randrange(10**9)\nprint(luck)"),
    py(
        f"""
        began = time.time()
        await note(f'root {{luck}}')
        async def middle(i):
            result = await launch_subagent(f'middle {{i}} of all', context=i)
            print('middle', i)
            return result
        totals = await asyncio.gather(*[middle(i) for i in range({MIDDLES})])
        """
    ),
    py("finish([sum(totals), luck])"),
]
MIDDLE = [
    py("seen = await note(f'middle {context}')\nprint(seen)"),
    py(
        f"""
        mine = [n for n in range({LEAVES}) if n % {MIDDLES} == context]
        found = []
        for task in asyncio.as_completed([launch_subagent(f'leaf {{n}} of all', context=n) for n in mine]):
            found.append(await task)
            await note(f'middle {{context}} has {{len(found)}}')
        """
    ),
    py("finish(sum(found))"),
]
LEAF = [
    py("import datetime\nwhen = datetime.datetime.now()\nfirst = await note(f'leaf {context}')"),
    py("await asyncio.sleep(0.001)\nfinish(context + len(first))"),
]
SCRIPT = {"everything there is": ROOT, " of all": LEAF, "middle": MIDDLE}
RESULT = sum(range(LEAVES)) + sum(len(f"noted leaf {n}") for n in range(LEAVES))


def main() -> None:
    url, traces, calls, *trace = sys.argv[1:]

    def note(text: str) -> str:
        """Note a text."""
        with Path(calls).open("a") as file:
            file.write(text + "\n")
        return f"noted {text}"

    agent = Agent("scripted", url, "sk-of-the-test", tools=[note], trace_dir=traces, limits=Limits(timeout=None))
    again = Path(trace[0]) if trace else None
    result = agent.solve_sync("everything there is", seed=7) if again is None else agent.resume_sync(again)
    print(result.status.value, result.output if result.status.finished else result.reason)


if __name__ == "__main__":
    main()
