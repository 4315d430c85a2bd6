"""Compacted conversations as lessons: each is a row, no answer is learnt twice, summaries only where the run says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from rao_rl.errors import DataError
from rao_rl.imitation.prompting import Prompting
from rao_rl.imitation.recorded import read_successful
from recursive_agent.messages import Message
from recursive_agent.status import Status
from recursive_agent.trace.schema import Event, RunEnded
from recursive_agent.trace.store import TraceWriter
from recursive_agent.usage import Usage
from tests.trace.events import model_called, node_ended, node_started, run_started


def write(path: Path, *, train: bool) -> None:
    goal, seen = Message("user", "goal"), Message("user", "seen")
    kept = (Message("user", "goal, notes"), Message("assistant", "one"), seen)
    events: list[Event] = [
        run_started(settings={"prompt_style": "rich", "action_format": "fenced"}),
        node_started(),
        model_called(step=1, messages=(goal,), text="one"),
        model_called(step=2, messages=(seen,), text="notes", purpose="summary", train=train),
        model_called(step=2, messages=kept, text="two", restart=True),
        node_ended(),
        RunEnded(time=0.0, status=Status.FINISHED, usage=Usage()),
    ]
    with TraceWriter(path) as writer:
        for event in events:
            writer.append(event)


@pytest.mark.parametrize("train", [False, True])
def test_every_answer_is_learnt_once(tmp_path: Path, train: bool) -> None:
    write(tmp_path / "run.jsonl", train=train)
    recorded = read_successful(tmp_path, threshold=1.0)
    learnt = [
        [message.content for message in messages[given:] if message.role == "assistant"]
        for messages, given in zip(recorded.conversations, recorded.openings, strict=True)
    ]
    assert learnt == [["one", *(["notes"] * train)], ["two"]]


def test_it_cannot_be_written_in_the_minimal_style(tmp_path: Path) -> None:
    write(tmp_path / "run.jsonl", train=False)
    with pytest.raises(DataError, match="can be written in the minimal style"):
        read_successful(tmp_path, threshold=1.0, prompting=Prompting("minimal", "fenced"))
