"""Events for tests: short constructors, and a strategy for whole runs that could have happened."""

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from recursive_agent.model.base import Message, ToolCall
from recursive_agent.status import Status
from recursive_agent.trace.schema import (
    ApprovalAnswered,
    ApprovalAsked,
    CellRan,
    Event,
    HostCalled,
    ModelCalled,
    NodeEnded,
    NodeStarted,
    RunEnded,
    RunStarted,
    Scored,
    Steered,
)
from recursive_agent.usage import Usage


def run_started(time: float = 0.0, **more: Any) -> RunStarted:
    return RunStarted(**{"time": time, "run": "r1", "model": "m", "interface": "chat", **more})


def node_started(node: str = "0", time: float = 0.0, **more: Any) -> NodeStarted:
    parent = node.rpartition(".")[0] or None
    depth = node.count(".")
    return NodeStarted(**{"time": time, "node": node, "parent": parent, "depth": depth, "goal": f"goal {node}", **more})


def model_called(node: str = "0", step: int = 1, started: float = 0.0, time: float = 0.0, **more: Any) -> ModelCalled:
    given: dict[str, Any] = {
        "messages": (Message("user", "go on"),),
        "text": "ok",
        "finish_reason": "stop",
        "usage": Usage(calls=1, prompt_tokens=10, completion_tokens=5),
        "model": "m",
    }
    return ModelCalled(time=time, node=node, step=step, started=started, **{**given, **more})


def cell_ran(node: str = "0", step: int = 1, started: float = 0.0, time: float = 0.0, **more: Any) -> CellRan:
    return CellRan(
        **{"time": time, "node": node, "step": step, "started": started, "code": "1", "status": "ok", **more}
    )


def node_ended(node: str = "0", time: float = 0.0, **more: Any) -> NodeEnded:
    return NodeEnded(**{"time": time, "node": node, "status": Status.FINISHED, **more})


# Everything that JSON or Python can hold, lone surrogates and reserved keys among it.
texts = st.text(st.characters(exclude_categories=()), max_size=30).filter(lambda t: not _holds_surrogate_pair(t))
_reserved = st.sampled_from(["$blob", "$bytes", "$dict", "$tuple", "$int", "$float", "$set", "$frozenset", "$ref"])
_atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=20)
    | _reserved
)
_hashable = st.recursive(_atoms, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
values = st.recursive(
    _atoms | st.text(min_size=5000, max_size=5001),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(texts | _reserved, inner, max_size=4)
        | st.dictionaries(_hashable, inner, max_size=3)
        | st.sets(_hashable, max_size=3)
        | st.frozensets(_hashable, max_size=3)
    ),
    max_leaves=12,
)


def _holds_surrogate_pair(text: str) -> bool:
    return any("\ud800" <= a <= "\udbff" and "\udc00" <= b <= "\udfff" for a, b in pairwise(text))


_numbers = st.floats(0, 1e9)
_tokens = st.lists(st.integers(0, 2**31 - 1), max_size=30)
_usages = st.builds(
    Usage, **{name: st.integers(0, 10**9) for name in ("calls", "prompt_tokens", "completion_tokens", "unconfirmed")}
)
_calls = st.lists(st.builds(ToolCall, texts, texts, texts), max_size=2).map(tuple)
_messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "tool"]), texts, _calls, st.none() | texts), max_size=3
).map(tuple)
_mappings = st.dictionaries(texts | _reserved, values, max_size=3)

events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        NodeStarted,
        time=_numbers,
        node=texts,
        parent=st.none() | texts,
        depth=st.integers(0, 9),
        goal=texts | st.text(min_size=5000, max_size=5001),
        step=st.none() | st.integers(1, 9),
        call=st.none() | st.integers(1, 9),
        context=values,
        returns=values,
        max_steps=st.none() | st.integers(1, 9),
        max_tokens=st.none() | st.integers(1, 9),
    ),
    st.builds(
        ModelCalled,
        time=_numbers,
        node=st.sampled_from(["0", "0.1"]),
        step=st.integers(1, 9),
        started=_numbers,
        messages=_messages,
        text=texts,
        finish_reason=texts,
        usage=_usages,
        model=texts,
        version=st.none() | texts,
        tool_calls=_calls,
        prompt_token_ids=st.none() | _tokens,
        token_ids=st.none() | _tokens,
        logprobs=st.none() | st.lists(st.floats(-100, 0, width=32), max_size=30),
        attempts=st.integers(1, 5),
    ),
    st.builds(
        HostCalled,
        time=_numbers,
        node=texts,
        step=st.integers(1, 9),
        call=st.integers(1, 9),
        started=_numbers,
        name=texts,
        args=st.lists(values, max_size=3).map(tuple),
        kwargs=_mappings,
        result=values,
        error=st.none() | texts,
        child=st.none() | texts,
    ),
    st.builds(
        CellRan,
        time=_numbers,
        node=texts,
        step=st.integers(1, 9),
        started=_numbers,
        code=texts,
        status=texts,
        output=texts,
        error=st.none() | texts,
        cpu=_numbers,
    ),
    st.builds(
        NodeEnded,
        time=_numbers,
        node=texts,
        status=st.sampled_from(Status),
        result=values,
        reason=st.none() | texts,
        usage=_usages,
    ),
    st.builds(RunEnded, time=_numbers, status=st.sampled_from(Status), usage=_usages),
    st.builds(Scored, time=_numbers, node=texts, score=st.none() | st.floats(0, 1), status=texts, source=texts),
    st.builds(Steered, time=_numbers, action=texts, node=st.none() | texts, text=st.none() | texts),
    st.builds(ApprovalAsked, time=_numbers, node=texts, step=st.integers(1, 9), call=st.integers(1, 9), name=texts),
    st.builds(
        ApprovalAnswered,
        time=_numbers,
        node=texts,
        step=st.integers(1, 9),
        call=st.integers(1, 9),
        name=texts,
        started=_numbers,
        allowed=st.booleans(),
        reason=st.none() | texts,
        arguments=st.none() | _mappings,
        error=st.none() | texts,
    ),
)


def life(draw: Any, node: str, start: float, budget: list[int]) -> tuple[list[Event], float]:
    """The events of one node and its descendants, from `start` on, and when it ended."""
    happened: list[Event] = [node_started(node, start)]
    now = start
    born = 0
    for step in range(1, draw(st.integers(0, 3)) + 1):
        called = now
        now += draw(st.floats(0, 5))
        happened.append(model_called(node, step, called, now))
        began = now
        for _ in range(draw(st.integers(0, 2))):  # gathers, awaited one after the other
            now += draw(st.floats(0, 1))
            ends = [now]
            for call in range(draw(st.integers(0, 3))):
                if budget[0] == 0:
                    break
                budget[0] -= 1
                child = f"{node}.{born}"
                born += 1
                below, end = life(draw, child, now, budget)
                happened.extend(below)
                happened.append(
                    HostCalled(
                        time=end, node=node, step=step, call=call, started=now, name="launch_subagent", child=child
                    )
                )
                ends.append(end)
            now = max(ends)
        happened.append(cell_ran(node, step, began, now))
    happened.append(node_ended(node, now, usage=Usage(calls=1, prompt_tokens=2)))
    return happened, now


@st.composite
def runs(draw: Any) -> list[Event]:
    """A whole run with up to a dozen nodes, in the order in which its events happen."""
    below, end = life(draw, "0", 1.0, [12])
    below.sort(key=lambda event: event.time)  # stable: at one instant a cause stays before its effect
    return [run_started(1.0), *below, RunEnded(time=end, status=Status.FINISHED, usage=Usage())]
