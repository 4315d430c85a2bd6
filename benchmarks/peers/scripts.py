"""What the scripted endpoint answers each package: the same work, in the words that this package reads.

A package is known by the name of the model that it asks for. The goals are `fan out N`, `steps N`, `plain calls N` and
`tool calls N`; a conversation without one of them is a child's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from recursive_agent.model.base import ToolCall
from recursive_agent.testing import Reply, Request


@dataclass(frozen=True)
class Dialect:
    """How a package marks a cell, ends an agent, and starts N children at once (`{n}`)."""

    cell: str
    finish: Callable[[str], str]
    fan_out: str
    plain_calls: str = ""


DIALECTS = {
    "ours": Dialect(
        "```python\n{}\n```",
        lambda value: f"finish({value})",
        "await asyncio.gather(*[launch_subagent(f'leaf {i}') for i in range({n})])",
    ),
    "rlms": Dialect(
        "```repl\n{}\n```",
        lambda value: f"answer['content'] = {value}\nanswer['ready'] = True",
        "found = rlm_query_batched([f'leaf {i}' for i in range({n})])\nassert found == ['1'] * {n}, found",
        "found = llm_query_batched([f'leaf {i}' for i in range({n})])\nassert len(found) == {n}",
    ),
    "rlmflow": Dialect(
        "```repl\n{}\n```",
        lambda value: f"done({value})",
        "children = [rlm_delegate(name=f'child_{i}', query=f'leaf {i}', context='') for i in range({n})]\n"
        "found = await rlm_wait(*children)\nassert [str(each) for each in found] == ['1'] * {n}, found",
        "found = llm_query_batched([f'leaf {i}' for i in range({n})])\nassert len(found) == {n}",
    ),
    "smolagents": Dialect(
        "<code>\n{}\n</code>",
        lambda value: f"final_answer({value})",
        "from concurrent.futures import ThreadPoolExecutor\n"
        "children = [{names}]\n"
        "pool = ThreadPoolExecutor({n})\n"
        "found = list(pool.map(lambda child: child(task='leaf'), children))",
    ),
}


def answer(request: Request) -> str | Reply:
    """The script."""
    dialect = DIALECTS[request.model]
    found = re.search(r"(fan out|steps|plain calls|tool calls) (\d+)", request.first)
    if found is None:
        return dialect.cell.format(dialect.finish("'1'"))
    work, count = found[1], int(found[2])
    done = dialect.finish("'done'")
    if work == "steps":
        step = request.step
        return dialect.cell.format(f"x = {step}\nprint(x)" if step < count - 1 else done)
    if work == "tool calls":
        if request.step == 0:
            return Reply(tool_calls=[_call(n, f"child_{n}", task="leaf") for n in range(count)])
        return Reply(tool_calls=[_call(count, "final_answer", answer="done")])
    names = ", ".join(f"child_{n}" for n in range(count))
    code = dialect.fan_out if work == "fan out" else dialect.plain_calls
    return dialect.cell.format(code.replace("{n}", str(count)).replace("{names}", names) + f"\n{done}")


def _call(number: int, name: str, **arguments: str) -> ToolCall:
    return ToolCall(id=f"call_{number}", name=name, arguments=json.dumps(arguments))
