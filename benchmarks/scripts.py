"""What the scripted endpoint answers in the benchmarks."""

from recursive_agent.testing import Request

WIDE = "await asyncio.gather(*[launch_subagent(f'leaf {i}') for i in range({n})])\nfinish('done')"


def _cell(code: str) -> str:
    return f"```python\n{code}\n```"


def fan_out(request: Request) -> str:
    """`fan out N`: N children at once, one step each."""
    goal = request.first
    if "fan out" in goal:
        return _cell(WIDE.replace("{n}", goal.split("fan out ")[1].split()[0]))
    return _cell("finish(1)")


def four_calls(request: Request) -> str:
    """`fan out N`: N children at once, four model calls each."""
    goal = request.first
    if "fan out" in goal:
        return _cell(WIDE.replace("{n}", goal.split("fan out ")[1].split()[0]))
    return _cell(f"x = {request.step}" if request.step < 3 else "finish(x)")


def documents(request: Request) -> str:
    """`spread N`: hand the whole context to N children."""
    goal = request.first
    if "spread" in goal:
        count = goal.split("spread ")[1].split()[0]
        launch = "launch_subagent('measure', context=context)"
        return _cell(f"finish(await asyncio.gather(*[{launch} for _ in range({count})]))")
    return _cell("finish(len(context))")
