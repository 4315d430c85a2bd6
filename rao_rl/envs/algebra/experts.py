"""The code of the reference solver.

`recursive`: an agent looks at its node, lets sub-agents expand the operands that are nodes, and writes the operation that it
saw. `single`: one agent collects all nodes first and then carries the operations out from the last one to the first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Generator, Mapping
from types import MappingProxyType

_CHANGED: Mapping[str, str] = MappingProxyType(
    {
        "I": "{p}",
        "X": "[0]+{p}",
        "D": "[i*c for i,c in enumerate({p})][1:]",
        "M": "[c*(-1)**i for i,c in enumerate({p})]",
    }
)
_OPERATION = re.compile(r"(-?\d+)\*([IXDM])\(p\)\+?(-?\d+)\*([IXDM])\(q\)")
_PRODUCT = "r=[0]*(len(p)+len(q))\nfor i,a in enumerate(p):\n for j,b in enumerate(q): r[i+j]=r[i+j]+a*b"
_TRIM = "while r and r[-1]==0: r.pop()"
_SINGLE = """\
import re
from itertools import zip_longest
T={{'I':lambda p:p,'X':lambda p:[0]+p}}
T['D']=lambda p:[i*c for i,c in enumerate(p)][1:]
T['M']=lambda p:[c*(-1)**i for i,c in enumerate(p)]
N,V,Q={{}},{{}},[{node}]
for n in Q:
 N[n]=await show(n)
 Q+=[m for m in N[n][1:] if isinstance(m,int)]
for n in Q[::-1]:
 o,p,q=N[n]
 p=V[p] if isinstance(p,int) else p
 q=V[q] if isinstance(q,int) else q
 if o=='p*q':
  r=[0]*(len(p)+len(q))
  for i,a in enumerate(p):
   for j,b in enumerate(q): r[i+j]=r[i+j]+a*b
 else:
  f,s,g,t=re.findall('-?[0-9]+|[IXDM]',o)
  r=[int(f)*a+int(g)*b for a,b in zip_longest(T[s](p),T[t](q),fillvalue=0)]
 while r and r[-1]==0: r.pop()
 V[n]=r
finish(V[{node}])"""


def recursive_cells(node: int) -> Generator[str, str, None]:
    """The two cells of an agent that expands one node and delegates those below it."""
    shown = yield f"await show({node})"
    operation, p, q = ast.literal_eval(shown.partition("\n")[0])  # advice may follow
    yield f"{_operands(p, q)}\n{_result(operation)}\n{_TRIM}\nfinish(r)"


def single_cell(node: int) -> str:
    """The cell of an agent that expands everything itself."""
    return _SINGLE.format(node=node)


def _operands(p: object, q: object) -> str:
    if isinstance(p, int) and isinstance(q, int):
        return f"p,q=await asyncio.gather(launch_subagent('Expand node {p}'),launch_subagent('Expand node {q}'))"
    values = [
        f"await launch_subagent('Expand node {each}')" if isinstance(each, int) else repr(each) for each in (p, q)
    ]
    return f"p={values[0]}\nq={values[1]}"


def _result(operation: str) -> str:
    found = _OPERATION.fullmatch(operation)
    if found is None:
        return _PRODUCT
    first, left, second, right = found.groups()
    lines = [f"p={_CHANGED[left].format(p='p')}"] * (left != "I") + [f"q={_CHANGED[right].format(p='q')}"] * (
        right != "I"
    )
    total = f"{first}*a{int(second):+}*b"
    return "\n".join(
        ["from itertools import zip_longest", *lines, f"r=[{total} for a,b in zip_longest(p,q,fillvalue=0)]"]
    )
