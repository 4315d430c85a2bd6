"""What the model of a planned agent writes at each of its steps."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .plan import NodePlan, Plan, Step

NAME = re.compile(r"agent (0(?:\.\d+)*);")
"""How an agent's goal names it."""

ERRORS = ("1 / 0", "undefined", "raise ValueError('own')", "raise SystemExit(3)", "await asyncio.sleep('x')", "def (")
VALUES = (
    "float('nan')",
    "float('-inf')",
    "10 ** 400",
    "{1, 2}",
    "b'\\xff'",
    "'\\ud800'",
    "{(1, 2): 3}",
    "'x' * 200_000",
    "object()",
    "lambda: 1",
    "finish",
    "1j",
    "range(3)",
    "'\\x00'",
    "{'$ref': 'http://127.0.0.1:9/'}",
    "[[]] * 3000",
    "deep(90)",
    "deep(600)",
    "(1, (2, 3))",
    "...",
)
"""Odd things to finish with; some are refused."""


def goal(name: str) -> str:
    """What an agent is asked."""
    return f"agent {name}; do your part"


def value(name: str) -> str:
    """What an agent finishes with when nothing is odd: its own name."""
    return f"done {name}"


def answer(plan: Plan, node: NodePlan, step: int) -> str:
    """The text of a model's answer."""
    if step < len(node.steps):
        planned = node.steps[step]
        if planned.kind == "malformed":
            return "I had rather not write any code today."
        code = _cell(plan, node, step, planned)
    elif node.end == "never":
        code = "print('not yet')"
    elif node.end == "mute":
        return "Nothing to say."
    else:
        code = f"finish({value(node.name)!r})"
    return f"```python\n{code}\n```"


def _cell(plan: Plan, node: NodePlan, number: int, step: Step) -> str:
    match step.kind:
        case "print":
            return f"x = {number}\nprint('x' * {step.context or 10})\nx"
        case "error":
            return step.what
        case "spin":
            return "while True: pass"
        case "memory":
            return "x = [0] * 10 ** 9"
        case "value":
            return f"def deep(n):\n    v = []\n    for _ in range(n): v = [v]\n    return v\nfinish({step.what})"
        case "act":
            return f"print(await act({f'{node.name}/{number}'!r}))"
        case "work":
            return f"print(await work({f'{node.name}/{number}'!r}))"
        case "acts":
            calls = ", ".join(f"act({f'{node.name}/{number}'!r})" for _ in range(3))
            return f"print(await asyncio.gather({calls}, return_exceptions=True))"
        case "left":
            return f"t = asyncio.create_task(act({f'{node.name}/{number}'!r}))\nawait asyncio.sleep(0)"
        case "launch":
            return _launch(step)
    raise ValueError(step.kind)


def _launch(step: Step) -> str:
    context = f"{{'text': {'y' * 10!r} * {step.context // 10}}}" if step.context else "None"
    more = "".join(
        f", {name}={value}"
        for name, value in (("max_tokens", step.share), ("returns", step.returns))
        if value is not None
    )
    calls = [f"launch_subagent({goal(child)!r}, context=data{more})" for child in step.children]
    lines = [f"data = {context}", *_waits(step.mode, calls)]
    return "\n".join(lines)


def _waits(mode: str, calls: Sequence[str]) -> list[str]:
    match mode:
        case "safe":
            return [f"got = await asyncio.gather({', '.join(calls)}, return_exceptions=True)", "print(got)"]
        case "gather":
            return [f"print(await asyncio.gather({', '.join(calls)}))"]
        case "sequential":
            return [
                line
                for call in calls
                for line in ("try:", f"    print(await {call})", "except Exception as e:", "    print(e)")
            ]
        case "tasks":
            return [f"t{n} = asyncio.create_task({call})" for n, call in enumerate(calls)] + ["await asyncio.sleep(0)"]
        case "first":
            tasks = ", ".join(f"asyncio.create_task({call})" for call in calls)
            return [
                f"d, p = await asyncio.wait([{tasks}], return_when=asyncio.FIRST_COMPLETED)",
                "for t in p: t.cancel()",
            ]
        case "forgotten":
            return [*calls, "1"]
    raise ValueError(mode)
