"""What is heavy is written by a thread: the size of an event decides, wherever in it the size is."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.model.base import Message, ToolCall
from recursive_agent.sizes import LARGE_CHARS, LARGE_PARTS, is_large
from recursive_agent.trace.schema import Event, HostCalled, RunStarted
from recursive_agent.trace.weight import is_heavy_event

from .events import cell_ran, model_called, node_ended, node_started, run_started

LONG = "x" * (LARGE_CHARS + 1)
MANY = [0] * (LARGE_PARTS + 1)


def host_called(**more: Any) -> HostCalled:
    return HostCalled(**{"time": 0.0, "node": "0", "step": 1, "call": 1, "started": 0.0, "name": "f", **more})


HEAVY: dict[str, Event] = {
    "code": cell_ran(code=LONG),
    "output": cell_ran(output=LONG),
    "error": cell_ran(error=LONG),
    "context": node_started(context={"a": [MANY]}),
    "goal": node_started(goal=LONG),
    "returns": node_started(returns={"enum": MANY}),
    "result": node_ended(result=MANY),
    "reason": node_ended(reason=LONG),
    "arguments": host_called(args=[LONG]),
    "named arguments": host_called(kwargs={"a": MANY}),
    "answer of a tool": host_called(result=LONG.encode()),
    "answer": model_called(text=LONG),
    "draft": model_called(reasoning=LONG),
    "prompt": model_called(messages=(Message("user", LONG),)),
    "call of a tool": model_called(tool_calls=(ToolCall("1", "python", LONG),)),
    "call in a prompt": model_called(messages=(Message("assistant", "", (ToolCall("1", "python", LONG),)),)),
    "token ids": model_called(token_ids=[1] * (LARGE_CHARS + 1)),
    "limits": run_started(limits={"a": MANY}),
    "settings": run_started(settings={"a": LONG}),
}


@pytest.mark.parametrize("event", HEAVY.values(), ids=HEAVY)
def test_any_part_may_make_an_event_heavy(event: Event) -> None:
    assert is_heavy_event(event)


def test_an_event_of_usual_size_is_light() -> None:
    for event in (cell_ran(), model_called(), node_started(context=[1, 2]), node_ended(), host_called(), run_started()):
        assert not is_heavy_event(event)


_SIZES = {"": 0, "short": 3, "nearly large": LARGE_CHARS - 100, "large": LARGE_CHARS + 1}
_sizes = st.sampled_from(list(_SIZES))
_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.just(b"x") | _sizes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers(), inner, max_size=3),
    max_leaves=5,
)


def sized(value: Any) -> Any:
    """The value with a text of the size that each of its texts names."""
    match value:
        case str():
            return "x" * _SIZES[value]
        case list():
            return [sized(item) for item in value]
        case dict():
            return {key: sized(item) for key, item in value.items()}
    return value


@given(_values, _values, _sizes, st.none() | st.just("ValueError: no"))
def test_an_event_weighs_what_all_its_fields_weigh(first: Any, second: Any, size: str, error: str | None) -> None:
    context, result, text = sized(first), sized(second), sized(size)
    events = [
        node_started(context=context, goal=text, returns=result),
        node_ended(result=result, reason=text),
        host_called(args=[context], kwargs={"a": result}, result=text, error=error),
        cell_ran(code=text, output=text, error=error),
        RunStarted(time=0.0, run=text, model="m", interface="chat", settings={"a": context}, limits={"b": result}),
    ]
    for event in events:
        assert is_heavy_event(event) == is_large([getattr(event, field.name) for field in fields(event)])
