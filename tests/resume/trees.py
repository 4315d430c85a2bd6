"""A tree to interrupt: what its endpoint was asked, and what its tools did."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from recursive_agent import Agent
from recursive_agent.testing import Request, Script, ScriptedEndpoint
from tests.agent.helpers import agent_on, py


def goal_of(request: Request) -> str:
    """The goal of the agent that asks."""
    return next(line for line in request.first.splitlines() if any(goal in line for goal in BUSY))


def answers(script: Script, asked: Counter[str]) -> Script:
    """The script, which counts what it is asked: each prompt of a tree stands for one call."""

    def answer(request: Request) -> Any:
        asked[f"{goal_of(request)} {request.step}"] += 1
        return script(request)

    return answer


class Tools:
    """Tools that count their calls, in a file where other processes must see them."""

    def __init__(self, path: Path | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self._path = path

    def all(self) -> list[Any]:
        """What an agent takes."""

        async def look_up(name: str) -> int:
            """The number that belongs to a name."""
            self._count(f"look_up {name}")
            return sum(map(ord, name))

        def write_down(text: str) -> str:
            """Write a text down."""
            self._count(f"write_down {text}")
            return f"noted {text}"

        return [look_up, write_down]

    def _count(self, call: str) -> None:
        self.calls[call] += 1
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(call + "\n")


BUSY = {
    "the whole trip": [
        py(
            """
            import random, time, datetime
            started = time.time()
            today = datetime.datetime.now()
            lucky = [random.randrange(10**6) for _ in range(3)]
            names = {f'n{i}' for i in range(20)}
            print(lucky, sorted(names)[:2], list(names)[:3])
            """
        ),
        py(
            """
            note = await write_down(f'{lucky[0]} at {started}')
            parts = await asyncio.gather(*[launch_subagent(f'stage {i}', context={'i': i}) for i in range(3)])
            print(parts, note)
            """
        ),
        py(
            """
            seen = []
            async def one(i):
                value = await look_up(f'name {i} {lucky[i]}')
                seen.append(i)
                print('got', i, value)
                return value
            more = await asyncio.gather(*[one(i) for i in range(3)])
            last = await launch_subagent('add it all', context=[parts, more])
            """
        ),
        py("finish([sum(p for p in parts), last, seen, lucky, str(today), random.random()])"),
    ],
    "stage": [
        py("value = await look_up(f'part {context[\"i\"]}')\nprint(value)"),
        py(
            """
            try:
                deeper = await launch_subagent(f'detour {context["i"]}', context=context["i"], max_steps=2)
            except SubagentError as error:
                deeper = len(error.status)
                print(error.status, error.partial)
            """
        ),
        py("finish(value + deeper)"),
    ],
    "detour 1": [py("x = 1"), py("x += 1")],  # never finishes: the limit of its steps
    "detour": [py("await write_down(f'deep {context}')\nfinish(7)")],
    "add it all": [py("finish(sum(context[0]) + sum(context[1]))")],
}


def busy_agent(endpoint: ScriptedEndpoint, tools: Tools, traces: Path, **settings: Any) -> Agent:
    """An agent with a tree of children, tools, randomness and time."""
    return agent_on(endpoint, tools=tuple(tools.all()), trace_dir=traces, **settings)
