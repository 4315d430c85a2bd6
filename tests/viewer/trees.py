"""Runs for tests of the viewer: small descriptions of agents, and the records that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from recursive_agent.messages import Message
from recursive_agent.status import Status
from recursive_agent.trace.schema import Event, HostCalled, RunEnded
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage

from ..trace.events import cell_ran, model_called, node_ended, node_started, run_started


@dataclass(frozen=True)
class Did:
    """What an agent did: its goal, the texts of its answers, its result, and its sub-agents in launch order."""

    goal: str = "goal"
    answers: Sequence[str] = ("go",)
    result: Any = None
    below: Sequence[Did] = field(default=())
    more: tuple[tuple[str, Any], ...] = ()
    """Further fields of its start."""


def record(root: Did, *, run: str = "r1", **more: Any) -> list[Event]:
    """The events of a run in which this happened; all sub-agents are launched in the first step."""
    events: list[Event] = [run_started(run=run, **more)]
    clock = [0.0]

    def tick() -> float:
        clock[0] += 1.0
        return clock[0]

    def agent(did: Did, name: str, launched: int | None) -> None:
        step = None if launched is None else 1
        events.append(node_started(name, tick(), goal=did.goal, step=step, call=launched, **dict(did.more)))
        for number, answer in enumerate(did.answers, start=1):
            begun = tick()
            said = (Message("user", f"observation {number}"),)
            events.append(model_called(name, number, begun, tick(), text=answer, messages=said))
            if number == 1:
                for call, child in enumerate(did.below):
                    started = tick()
                    agent(child, f"{name}.{call}", call)
                    launch = {"name": "launch_subagent", "kwargs": {"goal": child.goal}, "result": child.result}
                    events.append(
                        HostCalled(
                            time=tick(), node=name, step=1, call=call, started=started, child=f"{name}.{call}", **launch
                        )
                    )
            events.append(cell_ran(name, number, begun, tick(), code=f"{answer}()", output=f"{answer} done"))
        events.append(node_ended(name, tick(), result=did.result))

    agent(root, "0", None)
    return [*events, RunEnded(time=tick(), status=Status.FINISHED, usage=Usage())]


def tree(root: Did, **more: Any) -> ExecutionTree:
    """The run as a tree."""
    return ExecutionTree.from_events(record(root, **more))


_words = st.sampled_from(["sum the list", "sum the other list", "find a name", "", "名前を探す"])
_answers = st.lists(st.sampled_from(["look", "think", "write"]), min_size=1, max_size=4).map(tuple)
_leaves = st.builds(Did, goal=_words, answers=_answers, result=st.none() | st.integers(0, 3))
agents: st.SearchStrategy[Did] = st.recursive(
    _leaves,
    lambda inner: st.builds(
        Did,
        goal=_words,
        answers=_answers,
        result=st.integers(0, 3),
        below=st.lists(inner, max_size=5).map(tuple),
        more=st.sampled_from([(), (("max_tokens", 50),)]),
    ),
    max_leaves=12,
)
"""What agents may have done; the same goals come again and again."""


@st.composite
def shuffled(draw: Any, did: Did) -> Did:
    """The same, with sub-agents launched in another order."""
    below = [draw(shuffled(child)) for child in did.below]
    return Did(did.goal, did.answers, did.result, tuple(draw(st.permutations(below))), did.more)
