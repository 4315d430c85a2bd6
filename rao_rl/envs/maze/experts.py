"""The code of the reference solver: one cell each, the same for every maze but for the cells that the goal names.

An agent for a whole maze plans over the doors, lets a sub-agent cross each room of the plan, and plans again if one of them
says that there is no way. A single agent searches the whole maze itself and looks at a room when it gets there.
"""

from __future__ import annotations

from .goals import Search

_BEGIN = "s,t={start},{end}\nM={{'N':(-1,0),'E':(0,1),'S':(1,0),'W':(0,-1)}}\n"
_SEARCH = (
    _BEGIN
    + """\
W,Q,V={{}},[(s,'')],{{s}}
for p,l in Q:
 if p==t: finish(l)
 if p not in W: W|={{(r,c):w for r,c,w in await look(*p)}}
 for w in W[p]:
  q=p[0]+M[w][0],p[1]+M[w][1]
  if q not in V:
   V.add(q)
   Q.append((q,l+w))
finish('unreachable')"""
)
_ROOM = (
    _BEGIN
    + """\
W={{(r,c):w for r,c,w in await look(*s)}}
Q,V=[(s,'')],{{s}}
for p,l in Q:
 if p==t: finish(l)
 for w in W[p]:
  q=p[0]+M[w][0],p[1]+M[w][1]
  if q in W and q not in V:
   V.add(q)
   Q.append((q,l+w))
finish('unreachable')"""
)
_PLAN = (
    _BEGIN
    + """\
R=lambda p:(p[0]//4,p[1]//4)
D,P=await doors(),{{}}
while 1:
 Q,V,L=[(s,[])],{{s}},0
 for p,l in Q:
  if R(p)==R(t) and P.get((p,t))!='unreachable':
   L=l+[(p,t,'')]
   break
  for r,c,w in D:
   d,q=(r,c),(r+M[w][0],c+M[w][1])
   if R(d)==R(p) and q not in V and P.get((p,d))!='unreachable':
    V.add(q)
    Q.append((q,l+[(p,d,w)]))
 if not L: finish('unreachable')
 N=[(a,b) for a,b,w in L if (a,b) not in P]
 if not N: finish(''.join(P[a,b]+w for a,b,w in L))
 P|=dict(zip(N,await asyncio.gather(*[launch_subagent(f'Find a path from {{a}} to {{b}} inside one room') for a,b in N])))"""
)


def recursive_cell(search: Search) -> str:
    """The cell of an agent that crosses a room itself, and delegates the rooms of a whole maze."""
    return (_ROOM if search.one_room else _PLAN).format(start=search.start, end=search.end)


def single_cell(search: Search) -> str:
    """The cell of an agent that searches on its own."""
    return (_ROOM if search.one_room else _SEARCH).format(start=search.start, end=search.end)
