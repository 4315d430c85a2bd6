"""What a trace says of compacted conversations."""

from __future__ import annotations

from typing import Any

import pytest

from recursive_agent.messages import Message
from recursive_agent.trace.codec import Decoder, Encoder
from recursive_agent.trace.events import events_of
from recursive_agent.trace.schema import Event, ModelCalled
from recursive_agent.trace.tree import ExecutionTree
from tests.trace.events import model_called, node_started, run_started

GOAL, NOTES, SEEN = Message("user", "goal"), Message("user", "goal, notes"), Message("user", "seen")
REQUEST = Message("user", "sum it up")


def calls(**summary: Any) -> list[Event]:
    return [
        run_started(),
        node_started(),
        model_called(step=1, messages=(GOAL,), text="one", prompt_token_ids=(1, 2), token_ids=(3,), logprobs=(-1.0,)),
        model_called(step=2, messages=(REQUEST,), text="notes", purpose="summary", train=False, **summary),
        model_called(
            step=2,
            messages=(NOTES, Message("assistant", "one"), SEEN),
            text="two",
            restart=True,
            prompt_token_ids=(1, 9, 3),
            token_ids=(4,),
            logprobs=(-1.0,),
        ),
        model_called(step=3, messages=(SEEN,), text="three"),
    ]


def test_a_compaction_ends_one_conversation_and_begins_the_next() -> None:
    node = ExecutionTree.from_events(calls()).root
    first, second = node.conversations()
    assert [m.content for m in first.messages] == ["goal", "one", "sum it up", "notes"]
    assert [m.content for m in second.messages] == ["goal, notes", "one", "seen", "two", "seen", "three"]
    assert (first.given, second.given) == (1, 3)
    assert node.conversation() == second.messages
    assert [m.content for m in node.conversations(trained=True)[0].messages] == ["goal", "one"]
    assert [call.step for call in node.model_calls] == [1, 2, 2, 3]
    assert [step.number for step in node.steps] == [1, 2, 3]
    assert node.usage.calls == 4


def test_it_survives_the_file_and_a_fork() -> None:
    events = calls(prompt_token_ids=(1, 2, 3, 5), token_ids=(6, 7), logprobs=(-1.0, -2.0))
    encoder, decoder = Encoder(), Decoder()
    lines = b"".join(encoder.encode(event) for event in events).splitlines()
    read = [event for line in lines if (event := decoder.decode(line)) is not None]
    assert [_tokens(event) for event in read] == [_tokens(event) for event in events]
    tree = ExecutionTree.from_events(read)
    assert tree.root.conversations() == ExecutionTree.from_events(events).root.conversations()
    again = ExecutionTree.from_events(events_of(tree, "another"))
    assert again.root.conversations() == tree.root.conversations()


def _tokens(event: Event) -> Any:
    if not isinstance(event, ModelCalled):
        return type(event)
    ids = None if event.prompt_token_ids is None else list(event.prompt_token_ids)
    return event.step, event.purpose, event.restart, event.train, ids


@pytest.mark.parametrize("name", ["purpose", "restart", "train"])
def test_traces_without_compaction_are_written_as_before(name: str) -> None:
    assert f'"{name}"'.encode() not in Encoder().encode(model_called())
