"""What the scripted endpoint answers in the benchmarks."""

from recursive_agent.testing import Fault, Request

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


def soak(request: Request) -> str | Fault:
    """Small trees of every kind, one after the other; the goal names the kind, and the first attempt of some fails."""
    goal, step = request.first, request.step
    if "leaf" in goal:
        return _cell("finish(len(context) if context else 1)")
    kind = goal.partition("tree ")[2].split()[0].rstrip(";")
    if kind == "busy" and request.index % 2 == 0:
        return Fault.http(429, headers={"Retry-After-Ms": "1"})
    if kind == "dropped" and request.index % 2 == 0:
        return Fault("drop")
    if step == 0:
        return _cell(SOAK.get(kind, "1"))
    return "no code" if kind == "mute" else _cell("finish('done')")


SOAK = {
    "wide": "print(await asyncio.gather(launch_subagent('leaf a'), launch_subagent('leaf b')))",
    "large": "print(await launch_subagent('leaf', context='x' * 400_000))",
    "broken": "1 / 0",
    "tool": "print(await echo('x'), await asyncio.gather(fail(), return_exceptions=True))",
    "left": "t = asyncio.create_task(launch_subagent('leaf'))\nawait asyncio.sleep(0)",
    "hungry": "x = [0] * 10 ** 9",
    "refused": "finish(object())",
}
