"""The code of the reference solver: one short cell, with the numbers of the goal in it.

Leaves read their page, inner agents launch `FAN` sub-agents and join what they find; a single agent reads on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .entries import Kind, Question

FAN = 5
"""Sub-agents of an inner agent."""

_LEAF: Mapping[Kind, str] = MappingProxyType(
    {
        "balance": "finish(sum(v for n,v in await read({first}) if n=='{name}'))",
        "count": "finish(sum(n=='{name}' for n,v in await read({first})))",
        "last": "r=[v for n,v in await read({first}) if n=='{name}']\nfinish(r[-1] if r else None)",
        "peak": "s=p=0\nfor n,v in await read({first}):\n if n=='{name}':\n  s+=v\n  p=max(p,s)\nfinish([s,p])",
    }
)
_SPLIT = (
    "k=-(-({end}-{first})//{fan})\n"
    "r=await asyncio.gather(*[launch_subagent(f'{kind} of {name} on pages {{i}}:{{min(i+k,{end})}}') "
    "for i in range({first},{end},k)])\n"
)
_JOIN: Mapping[Kind, str] = MappingProxyType(
    {
        "balance": "finish(sum(r))",
        "count": "finish(sum(r))",
        "last": "r=[v for v in r if v is not None]\nfinish(r[-1] if r else None)",
        "peak": "s=p=0\nfor t,q in r:\n p=max(p,s+q)\n s+=t\nfinish([s,p])",
    }
)
_SINGLE: Mapping[Kind, str] = MappingProxyType(
    {
        "balance": "s=0\nfor i in range({first},{end}):\n s+=sum(v for n,v in await read(i) if n=='{name}')\nfinish(s)",
        "count": "s=0\nfor i in range({first},{end}):\n s+=sum(n=='{name}' for n,v in await read(i))\nfinish(s)",
        "last": (
            "r=[]\nfor i in range({first},{end}):\n r+=[v for n,v in await read(i) if n=='{name}']\n"
            "finish(r[-1] if r else None)"
        ),
        "peak": (
            "s=p=0\nfor i in range({first},{end}):\n for n,v in await read(i):\n  if n=='{name}':\n   s+=v\n   p=max(p,s)\n"
            "finish([s,p])"
        ),
    }
)


def recursive_cell(question: Question) -> str:
    """The cell of an agent that reads one page itself and delegates more than one."""
    if question.end - question.first == 1:
        return _filled(_LEAF[question.kind], question)
    return _filled(_SPLIT + _JOIN[question.kind], question)


def single_cell(question: Question) -> str:
    """The cell of an agent that reads all pages itself, one after the other."""
    return _filled(_SINGLE[question.kind], question)


def _filled(code: str, question: Question) -> str:
    return code.format(kind=question.kind, name=question.name, first=question.first, end=question.end, fan=FAN)
