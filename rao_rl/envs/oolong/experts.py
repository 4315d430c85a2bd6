"""The reference expert: the code of an agent that answers a question about its context, cell by cell.

It has nothing but its goal, its context, and what its cells showed. `reading="code"`: it looks at the first lines, then finds
the facts by patterns. `reading="print"`: it prints the context and writes down what it saw, in order, as a list that Python
counts. In both, `r` holds what the question needs of each fact that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .facts import Fact, Kind
from .questions import NONE, PHRASES, Question, parse_goal
from .session import Reading
from .transcript import MOST_LINE
from .wordings import NOT_FACTS, PATTERNS, read_facts

FAN = 8
"""Most parts that a context is split into."""
LEAF_LINES: dict[Reading, int] = {"code": 100, "print": 32}
"""Lines that a sub-agent handles itself."""
PIECE_LINES = 150
"""Lines that an agent alone prints at a time: more might be cut where they are shown."""
_LOOK = 300
"""Characters of the context that are looked at before code is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """The experts of one setting. `leaf`: lines that an agent handles at a time, and from which on it delegates."""

    reading: Reading
    recursive: bool
    leaf: int

    def __call__(self, goal: str, context: object) -> Iterator[str]:
        """The cells of the agent with this goal and context."""
        question = parse_goal(goal)
        if question is None or not isinstance(context, str):
            return iter(())
        # By characters: they are what an agent is told of its context.
        if self.recursive and len(context) > self.leaf * MOST_LINE:
            return iter([self._delegate(question)])
        if self.reading == "code":
            return iter([f"print(context[:{_LOOK}])", _find(question) + f"\nfinish({_result(question)})"])
        return self._read(question, context)

    def _delegate(self, question: Question) -> str:
        return (
            "L=context.splitlines()\n"
            f"k=max({self.leaf},-(-len(L)//{FAN}))\n"
            f"r=await asyncio.gather(*[launch_subagent('{_asked(question)}',"
            "context='\\n'.join(L[i:i+k])) for i in range(0,len(L),k)])\n"
            f"{_combine(question)}"
        )

    def _read(self, question: Question, context: str) -> Iterator[str]:
        """Read piece after piece; each cell writes down what the last one showed."""
        pieces = -(-len(context.splitlines()) // self.leaf) if len(context) > self.leaf * MOST_LINE else 1
        if pieces == 1:
            shown = yield "print(context)"
            yield f"r={_seen(question, str(shown))}\nfinish({_result(question)})"
            return
        name = "L=context.splitlines()\nr=[]\n"
        for piece in range(0, pieces * self.leaf, self.leaf):
            shown = yield f"{name}print('\\n'.join(L[{piece}:{piece + self.leaf}]))"
            name = f"r+={_seen(question, str(shown))}\n"
        yield f"{name}finish({_result(question)})"


def _needed(question: Question, fact: Fact) -> str | int:
    """What `r` holds of a fact."""
    match question.form:
        case "count":
            return fact.number
        case "damage":
            return fact.value
        case "episodes" | "first" | "last":
            return fact.episode
    assert question.by is not None
    return fact.along(question.by)


def _about(question: Question) -> list[str]:
    """The conditions on who, what and value under which the question is about a fact, as code."""
    about = question.about
    compared = question.by if question.form == "compare" else None
    conditions = []
    if about.who is not None and compared != "character":
        conditions.append(f"w=='{about.who}'")
    if about.what is not None and compared in (None, "character"):
        conditions.append(f"s=='{about.what}'")
    if about.value is not None:
        conditions.append(f"v=={about.value}")
    return conditions


def _seen(question: Question, shown: str) -> list[str | int]:
    """What a reader writes down of the lines shown."""
    about = question.about
    if question.form == "compare" and question.by is not None and question.other is not None:
        names = (about.at(question.by), question.other.at(question.by))
        facts = about.without(question.by).of(read_facts(shown, about.kind))
        return [_needed(question, fact) for fact in facts if fact.along(question.by) in names]
    return [_needed(question, fact) for fact in about.of(read_facts(shown, about.kind))]


def _find(question: Question) -> str:
    """Code that sets `r` by patterns."""
    kind: Kind = question.about.kind
    patterns = ",\n".join(f"r'{pattern}'" for pattern in PATTERNS[kind])
    value = "0" if kind == "casts" else "int(m['v'])"
    needed = {
        "count": "n",
        "damage": "v",
        "episodes": "e",
        "first": "e",
        "last": "e",
    }.get(question.form) or {"episode": "e", "character": "w"}.get(question.by or "", "s")
    conditions = _about(question)
    return (
        "import re\n"
        f"P=[{patterns}]\n"
        "T=[(int(e),int(n),t) for e,n,t in re.findall(r'\\[(\\d+):(\\d+)\\] ([^.[\\]]+)\\.',context) "
        f"if not t.startswith({NOT_FACTS})]\n"
        f"F=[(e,n,m['w'],m['s'],{value}) for e,n,t in T for p in P for m in re.finditer(p,t)]\n"
        f"r=[{needed} for e,n,w,s,v in F{' if ' + ' and '.join(conditions) if conditions else ''}]"
    )


def _result(question: Question) -> str:
    """The answer, as an expression of `r`."""
    match question.form:
        case "count":
            return "len(r)"
        case "damage":
            return "sum(r)"
        case "tally":
            return "{x:r.count(x) for x in set(r)}"
        case "most":
            return f"max(set(r),key=r.count,default='{NONE}')"
        case "fewest":
            return f"min(set(r),key=r.count,default='{NONE}')"
        case "names":
            return "sorted(set(r))"
        case "episodes":
            return "len(set(r))"
        case "first":
            return "min(r,default=0)"
        case "last":
            return "max(r,default=0)"
    assert question.by is not None
    assert question.other is not None
    return _compared(f"r.count('{question.about.at(question.by)}')", f"r.count('{question.other.at(question.by)}')")


def _compared(one: str, other: str) -> str:
    return f"'{PHRASES[0]}' if {one}>{other} else '{PHRASES[1]}' if {one}<{other} else '{PHRASES[2]}'"


def _asked(question: Question) -> Question:
    """What the children are asked, so that their answers can be put together."""
    match question.form:
        case "most" | "fewest":
            return Question("tally", question.about, question.by)
        case "compare":
            assert question.by is not None
            return Question("tally", question.about.without(question.by), question.by)
        case "episodes":
            return Question("names", question.about, "episode")
    return question


def _combine(question: Question) -> str:
    """Code that puts the children's answers `r` together."""
    tally = "c={k:sum(d.get(k,0) for d in r) for d in r for k in d}\n"
    match question.form:
        case "count" | "damage":
            return "finish(sum(r))"
        case "tally":
            return f"{tally}finish(c)"
        case "most" | "fewest":
            best = "max" if question.form == "most" else "min"
            return f"{tally}finish({best}(c,key=c.get,default='{NONE}'))"
        case "names":
            return "finish(sorted({x for y in r for x in y}))"
        case "episodes":
            return "finish(len({x for y in r for x in y}))"
        case "first":
            return "finish(min([x for x in r if x],default=0))"
        case "last":
            return "finish(max(r))"
    assert question.by is not None
    assert question.other is not None
    here, there = question.about.at(question.by), question.other.at(question.by)
    return f"{tally}finish({_compared(f'c.get({here!r},0)', f'c.get({there!r},0)')})"
